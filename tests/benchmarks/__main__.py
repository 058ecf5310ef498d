"""All benchmarks of this folder, one after the other: ``python -m tests.benchmarks [NAME ...]``.

A benchmark is a module ``bench_NAME.py`` with ``run() -> dict[str, float]``, and ``TARGETS`` with
the least value of those that have one.  Ratios are taken within one run; absolute rates tell about
this machine only.
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]


def main(names: list[str]) -> int:
    missed = 0
    for name in names or sorted(path.stem.removeprefix("bench_") for path in FOLDER.glob("bench_*.py")):
        module = importlib.import_module(f"bench_{name}")
        if not hasattr(module, "run") or (getattr(module, "ALONE", False) and not names):
            continue
        began = time.perf_counter()
        print(f"\n{name}: {(module.__doc__ or '').strip().splitlines()[0]}", flush=True)
        targets = getattr(module, "TARGETS", {})
        found = module.run()
        if not found:
            print("  nothing to measure here")
        for key, value in found.items():
            least = targets.get(key)
            verdict = "" if least is None else f"  target {least:g}: {'met' if value >= least else 'MISSED'}"
            missed += least is not None and value < least
            print(f"  {key:<40} {value:>12,.2f}{verdict}")
        print(f"  {'seconds':<40} {time.perf_counter() - began:>12,.1f}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
