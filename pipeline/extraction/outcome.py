"""What the stores of a run hold at its end, counted over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.extraction.run_stores import RunStore
from pipeline.extraction.settings import ExtractReport
from pipeline.stores import State, open_store
from pipeline.stores.pending import NOT_IN_TABLE


@dataclass
class _Seen:
    """Clips by what became of them in any store, in the order they were met."""

    failures: dict[str, str] = field(default_factory=dict)
    absent: set[str] = field(default_factory=set)
    short: set[str] = field(default_factory=set)
    failed_in: Path | None = None
    n_clips: int = 0
    n_done: int = 0


def report_of(stores: Sequence[RunStore], plan: str) -> ExtractReport:
    """Counts of clips: failed or short where they are so in any store, done where they are done in all.

    Stores of one run need not fail on the same clips: one that was complete before is not made again.
    """
    paths = tuple(store.path for store in stores)
    seen = _Seen()
    for path in paths:
        if path.exists():
            _count(path, seen)
    if not seen.n_clips:
        return ExtractReport(paths, plan, len(stores[0].clip_ids) if stores else 0, 0, 0, 0)
    return ExtractReport(
        stores=paths,
        plan=plan,
        n_clips=seen.n_clips,
        n_done=seen.n_done,
        n_failed=len(seen.failures),
        n_short=len(seen.short),
        n_absent=len(seen.absent),
        failures=tuple(seen.failures.items()),
        failed_in=seen.failed_in,
    )


def _count(path: Path, seen: _Seen) -> None:
    with open_store(path) as reader:
        ids, failure = reader.clip_id, reader.failure
        gone = failure == NOT_IN_TABLE
        failed = np.flatnonzero((reader.state == State.FAILED) & ~gone).tolist()
        new = {str(ids[row]): str(failure[row]) for row in failed if str(ids[row]) not in seen.failures}
        n_done = int((reader.state == State.DONE).sum())
        if len(reader) > seen.n_clips:  # a view's store may hold labelled clips alone
            seen.n_clips, seen.n_done = len(reader), n_done - len(seen.failures.keys() - {str(ids[k]) for k in failed})
        else:
            seen.n_done -= len(new)
        seen.absent.update(str(ids[row]) for row in np.flatnonzero(gone).tolist())
        seen.short.update(str(ids[row]) for row, text in enumerate(failure.tolist()) if text.startswith("short: "))
    if new:
        seen.failures |= new
        seen.failed_in = seen.failed_in or path
