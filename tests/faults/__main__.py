"""The fault campaign: ``python -m tests.faults [--runs 100] [--flips 1000] [--seed 0]``.

Runs of a real extraction are killed, starved of disk and resumed; bits of finished stores are
flipped and looked for.  Prints a tally; the exit status is 1 when anything did not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from faults import flips, runs, tally  # noqa: E402
from faults.ground import Ground, make_ground  # noqa: E402
from faults.plan import plan_run  # noqa: E402


def main(arguments: list[str]) -> int:
    """Run the campaign and print the tally."""
    chosen = _parse(arguments)
    # A shell that starts a job in the background has Ctrl-C ignored below it; the runs need it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with _folder(chosen.folder) as folder:
        _say(f"Extracting the table without faults ({folder}) ...")
        ground = make_ground(folder / "ground")
        print(f"content digest {ground.digest}")
        failed = _runs(ground, chosen, folder) if chosen.runs or chosen.only is not None else 0
        failed += _flips(ground, chosen, folder) if chosen.flips and chosen.only is None else 0
    print("\nFAILED" if failed else "\nEverything held.")
    return 1 if failed else 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").splitlines()[2])
    parser.add_argument("--runs", type=int, default=100, help="runs that are killed and resumed [%(default)s]")
    parser.add_argument("--flips", type=int, default=1000, help="bits flipped, half of them in HDF5 [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of the first run, and of the flips [%(default)s]")
    parser.add_argument("--only", type=int, metavar="SEED", help="this one run and nothing else")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time [%(default)s]")
    parser.add_argument("--folder", type=Path, help="work here and leave it, to look at [a folder that is removed]")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        wanted.mkdir(parents=True)
        yield wanted.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="east-faults-") as folder:
        yield Path(folder)


def _runs(ground: Ground, chosen: argparse.Namespace, folder: Path) -> int:
    seeds = range(chosen.seed, chosen.seed + chosen.runs) if chosen.only is None else [chosen.only]
    began, results = time.monotonic(), []

    def one(seed: int) -> runs.RunResult:
        place = folder / f"run-{seed}"
        place.mkdir()
        result = runs.run_one(ground, plan_run(seed), place)
        if chosen.folder is None:
            runs.remove(place)
        return result

    pool = ThreadPoolExecutor(chosen.jobs)
    try:
        for result in pool.map(one, seeds):
            results.append(result)
            _say(f"{len(results)}/{len(seeds)} {tally.run_line(result)}")
            if result.failure:
                _say(result.failure)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C: those that run come to their end, no more are begun
    print("\n".join(["", *tally.runs_text(results, time.monotonic() - began)]))
    return sum(bool(result.failure) for result in results)


def _flips(ground: Ground, chosen: argparse.Namespace, folder: Path) -> int:
    began, done = time.monotonic(), flips.FlipResult()
    for done in flips.flip_stores(ground.stores, chosen.flips, chosen.seed, folder):
        if (n := done.tried.total()) % 100 == 0:
            _say(f"{n:,}/{chosen.flips:,} bits flipped, {done.detected.total():,} detected")
    print("\n".join(["", *tally.flips_text(done, time.monotonic() - began)]))
    return len(done.failures)


def _say(text: str) -> None:
    """Progress goes to standard error, the tally to standard output."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    os.environ.pop("FAKE_LOG", None)
    sys.exit(main(sys.argv[1:]))
