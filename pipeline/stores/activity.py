"""Who is writing a store right now, since when, and how fast: from its lease and its journal."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.stores.journal import JOURNAL, read_journal
from pipeline.stores.lease import Holder, holder_of


@dataclass(frozen=True)
class Activity:
    """What can be said of the writer of an unfinished store.

    Attributes:
        status: ``writing``, or ``stopped`` where no living writer holds the store.
        holder: who, in words; empty where nobody ever claimed it, or let go in order.
        since: when the lease was taken, ISO 8601, UTC; empty where unknown.
        heartbeat_s: seconds since the last sign of life; None where there is no lease.
        clips: finished since then, in the journal.
        clips_per_s: mean rate of these; None where there is none yet.
        left_s: seconds left at that rate; None where it is unknown.
    """

    status: str
    holder: str = ""
    since: str = ""
    heartbeat_s: float | None = None
    clips: int = 0
    clips_per_s: float | None = None
    left_s: float | None = None


def activity_of(folder: Path, n_pending: int) -> dict[str, Any]:
    """:class:`Activity` of a working folder, as plain JSON values."""
    holder = holder_of(folder)
    clips = sum(len(record.n_frames) for record in read_journal(folder))
    if holder is None:
        return asdict(Activity("stopped", clips=clips))
    rate = _rate(folder, holder, clips)
    return asdict(
        Activity(
            status="writing" if holder.alive else "stopped",
            holder=holder.words(),
            since=_time(holder.since_s),
            heartbeat_s=round(holder.silent_s, 1),
            clips=clips,
            clips_per_s=rate,
            left_s=round(n_pending / rate, 1) if rate and holder.alive else None,
        )
    )


def _rate(folder: Path, holder: Holder, clips: int) -> float | None:
    """From the lease to the last line of the journal: what comes before the first clip counts, too."""
    try:
        spent_s = (folder / JOURNAL).stat().st_mtime - holder.since_s
    except OSError:
        return None
    return float(f"{clips / spent_s:.4g}") if clips and holder.since_s and spent_s > 0 else None


def _time(since_s: float) -> str:
    return datetime.fromtimestamp(since_s, UTC).isoformat(timespec="seconds") if since_s else ""
