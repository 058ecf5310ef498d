"""From flags and bad chunks to findings that name clips."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pipeline.stores.checking.blocks import NOT_FINITE, OTHER, SPILLS, Facts, check_block
from pipeline.stores.checking.chunks import ShardLayout, ShardScan
from pipeline.stores.checking.report import Log

CHECK = "features"
_WORDS = {
    OTHER: "features whose digest is not the stored one",
    SPILLS: "features beyond the valid frames, where zeros should be",
    NOT_FINITE: "features that are no finite numbers",
}


def report_shard(name: str, scan: ShardScan, layout: ShardLayout, facts: Facts, log: Log) -> None:
    """Findings of one shard: its damaged chunks, its file, clips that are wrong all the same."""
    first = scan.shard * layout.shard_clips
    rows = np.arange(first, first + len(scan.flags))
    finished = facts.finished[rows]
    behind = np.zeros(len(rows), bool)
    for chunk in scan.bad_chunks:
        inside = slice(chunk * layout.chunk_clips, (chunk + 1) * layout.chunk_clips)
        behind[inside] = finished[inside]
        clips = rows[inside][finished[inside]]
        if len(clips):
            lost = clips[scan.flags[clips - first] != 0]
            text = f"the checksum of chunk {chunk} is wrong (rows {rows[inside][0]} to {rows[inside][-1]})"
            log.find(CHECK, name, text, facts.ids(clips), facts.ids(lost))
        elif chunk * layout.chunk_clips >= len(rows):
            log.find(CHECK, name, f"the checksum of chunk {chunk}, which holds no clip, is wrong")
    if scan.faults and (finished.any() or not len(rows)):
        broken = rows[(scan.flags != 0) & ~behind]
        log.find(CHECK, name, "; ".join(scan.faults), facts.ids(rows[finished]), facts.ids(broken))
        behind[:] = True
    _report_flags(name, rows, np.where(behind, 0, scan.flags), facts, log)


def report_rows(
    blocks: Iterable[tuple[np.ndarray, np.ndarray | None, str]], name: str, facts: Facts, flags: np.ndarray, log: Log
) -> None:
    """Check blocks of rows that were read through a library.

    Args:
        blocks: rows, their features (None where they cannot be read), and why.
        flags: [clips of the store], filled in here.
    """
    for rows, features, why in blocks:
        finished = facts.finished[rows]
        if features is not None:
            flags[rows] = check_block(features, int(rows[0]), facts)
        if why and finished.any():
            if features is None:
                flags[rows[finished]] |= OTHER
            lost = rows[finished & (flags[rows] != 0)]
            text = f"rows {rows[0]} to {rows[-1]} cannot be read: {why}"
            log.find(CHECK, name, text, facts.ids(rows[finished]), facts.ids(lost))
        elif features is not None:
            _report_flags(name, rows, flags[rows], facts, log)


def _report_flags(name: str, rows: np.ndarray, flags: np.ndarray, facts: Facts, log: Log) -> None:
    for flag, words in _WORDS.items():
        if (clips := rows[(flags & flag) != 0]).size:
            log.find(CHECK, name, words, facts.ids(clips), () if flag == SPILLS else None)
