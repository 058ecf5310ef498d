"""Clips that left the table: some of them may only go by another name now."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.extraction.census import Census
from pipeline.stores import State
from pipeline.stores.reader import ClipArrays


def moved_clips(arrays: ClipArrays, census: Census, new: Sequence[str]) -> set[str]:
    """New clips whose file holds the bytes of one whose clips left the table: renamed or moved audio."""
    gone = [row for row, clip_id in enumerate(arrays.clip_id.tolist()) if clip_id not in census.path_of]
    files = {arrays.file_digest[row].tobytes() for row in gone} - {bytes(32)}
    if not files or not new:
        return set()
    census.read_files(new)
    return {clip_id for clip_id in new if census.digest_of(clip_id) in files}


def renamed_rows(arrays: ClipArrays, census: Census) -> dict[str, int]:
    """By id in the table, the row of a clip that is done and left the table under its own id."""
    known = set(arrays.clip_id.tolist())
    moved = moved_clips(arrays, census, [clip_id for clip_id in census.path_of if clip_id not in known])
    if not moved:
        return {}
    gone = np.array([clip_id not in census.path_of for clip_id in arrays.clip_id.tolist()], bool)
    rows = np.flatnonzero(gone & (arrays.state == State.DONE)).tolist()
    by_samples = {arrays.samples_digest[row].tobytes(): row for row in reversed(rows)}
    samples = census.samples(sorted(moved))
    return {
        clip_id: by_samples[samples[clip_id]]
        for clip_id in sorted(moved & samples.keys())
        if samples[clip_id] in by_samples
    }
