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
    undone: set[str] = field(default_factory=set)
    failed_in: Path | None = None
    clip_ids: list[str] = field(default_factory=list)  # of the largest store: a view's may hold labelled clips alone


def report_of(stores: Sequence[RunStore], plan: str) -> ExtractReport:
    """Counts of clips: failed or short where they are so in any store, done where they are done in all.

    Stores of one run need not fail on the same clips: one that was complete before is not made again.
    """
    paths = tuple(store.path for store in stores)
    seen = _Seen()
    for path in paths:
        if path.exists():
            _count(path, seen)
    if not seen.clip_ids:
        return ExtractReport(paths, plan, len(stores[0].clip_ids) if stores else 0, 0, 0, 0)
    return ExtractReport(
        stores=paths,
        plan=plan,
        n_clips=len(seen.clip_ids),
        n_done=len(seen.clip_ids) - len(seen.undone.intersection(seen.clip_ids)),
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
        if len(ids) > len(seen.clip_ids):
            seen.clip_ids = ids.tolist()
        seen.undone.update(ids[reader.state != State.DONE].tolist())
        seen.absent.update(str(ids[row]) for row in np.flatnonzero(gone).tolist())
        seen.short.update(str(ids[row]) for row, text in enumerate(failure.tolist()) if text.startswith("short: "))
    if new:
        seen.failures |= new
        seen.failed_in = seen.failed_in or path
