"""The parity table: ``python -m tests.parity [FAMILY ...] [--environment torch] [--write]``.

A family is a module of this folder with ``cases()``.  Exits with 1 where a case is beyond its limit.
What was measured is kept in ``.parity/rows.json``, so that a page is written from several runs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parent)]
_OWN = {"case", "comparing", "environments", "report", "signals"}


def families() -> list[str]:
    """Modules with cases."""
    names = (path.stem for path in FOLDER.glob("*.py"))
    return sorted(name for name in names if name not in _OWN and not name.startswith(("_", "test_")))


def main() -> int:
    """Run, print, write, judge."""
    from parity import environments, report
    from parity.comparing import compare

    options = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    options.add_argument("families", nargs="*", choices=[[], *families()], default=[])
    options.add_argument("--environment", choices=["torch", "tensorflow"], help="only the cases that run in this one")
    options.add_argument("--write", action="store_true", help="write docs/parity.md")
    chosen = options.parse_args()
    rows = []
    for family in chosen.families or families():
        for case in importlib.import_module(f"parity.{family}").cases():
            if chosen.environment not in (None, case.environment):
                continue
            began = time.perf_counter()
            found = compare(case, environments.build(case.environment))
            rows += found
            report.keep(found)
            print(*map(report.line, found), f"  ({time.perf_counter() - began:.0f} s)", sep="\n", flush=True)
    if chosen.write:
        report.write(report.kept(), {name: environments.describe(name) for name in ("tensorflow", "torch")})
    failed = [f"{row.case} {row.output}" for row in rows if not row.passed]
    print(f"{len(rows)} outputs of {len({row.case for row in rows})} originals; beyond the limits: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
