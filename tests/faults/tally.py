"""The tally of a campaign, as plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from faults.flips import FlipResult
from faults.ground import IN_FLIGHT_CLIPS
from faults.plan import FULL
from faults.runs import RunResult


def run_line(result: RunResult) -> str:
    """One run in one line."""
    hits = ", ".join(f"{kind} x{n}" if n > 1 else kind for kind, n in result.hits.items()) or "nothing"
    verdict = "FAILED" if result.failure else "ok"
    return (
        f"run {result.plan.seed:>3} {result.plan.format:<4} {verdict}: {hits}; {result.resumes} resumes, "
        f"{result.again} of at most {result.bound} clips again, {result.seconds:.0f} s"
    )


def runs_text(results: Sequence[RunResult], seconds: float) -> Iterator[str]:
    """The runs, added up."""
    hits: Counter[str] = sum((result.hits for result in results), Counter())
    formats = Counter(result.plan.format for result in results)
    full = sum(any(kind in result.hits for kind in FULL) for result in results)
    again, faults = sum(result.again for result in results), hits.total()
    yield f"runs              {len(results):>6,}  ({', '.join(f'{n} {name}' for name, n in formats.items())})"
    yield f"faults that hit   {faults:>6,}  ({', '.join(f'{kind} {n}' for kind, n in hits.most_common())})"
    yield f"  came too late   {sum(result.late for result in results):>6,}  (the command had ended)"
    yield f"with a full disk  {full:>6,}  (full disk: a tmpfs of 8 MB; size limit: RLIMIT_FSIZE)"
    yield f"resumes           {sum(result.resumes for result in results):>6,}"
    yield f"clips again       {again:>6,}  ({again / max(1, faults):.1f} per fault; allowed are {IN_FLIGHT_CLIPS})"
    if worst := max((result for result in results if result.bound), key=lambda r: r.again / r.bound, default=None):
        yield f"  worst run       {worst.again:>6,}  of at most {worst.bound} (seed {worst.plan.seed})"
        yield f"  worst clip      {max(result.most for result in results):>6,}  times"
    yield f"seconds           {seconds:>6,.0f}"
    failed = [result for result in results if result.failure]
    yield f"failed runs       {len(failed):>6,}"
    for result in failed:
        faults_of = ", ".join(f"{fault.kind} at {fault.moment.phase}" for fault in result.plan.faults)
        yield f"\nseed {result.plan.seed} ({result.plan.format}: {faults_of}): {result.failure}"
        yield f"again, alone: python -m tests.faults --only {result.plan.seed} --folder FOLDER"


def flips_text(result: FlipResult, seconds: float) -> Iterator[str]:
    """The flips, by kind of file."""
    yield f"{'flipped bits':<26} {'flips':>6} {'detected':>9} {'named':>6}"
    for kind in sorted(result.tried):
        yield f"{kind:<26} {result.tried[kind]:>6,} {result.detected[kind]:>9,} {result.named[kind]:>6,}"
    totals = (result.tried.total(), result.detected.total(), result.named.total())
    yield f"{'all':<26} {totals[0]:>6,} {totals[1]:>9,} {totals[2]:>6,}"
    yield f"seconds           {seconds:>6,.0f}"
    yield f"failed flips      {len(result.failures):>6,}"
    yield from result.failures[:20]
