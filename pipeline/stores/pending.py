"""What is still to be made: of new clips, of failed ones that are tried again, of killed runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from pipeline.stores.opening import open_store
from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import CLIP_ARRAYS, State, StoreMeta, require_same, with_fingerprint
from pipeline.stores.target import working_path


def prepare(before: ClipArrays, clip_ids: np.ndarray, shard_clips: int, *, retry_failed: bool) -> ClipArrays:
    """The small arrays as a run starts from them: new clips added, what is to be made again pending.

    The last shard that was not full is made again when clips are added, since a shard is written
    whole; so is every shard with a failed clip when ``retry_failed``.
    """
    known = set(before.clip_id.tolist())
    new = np.array([clip_id for clip_id in clip_ids.tolist() if clip_id not in known], object)
    n = len(before.clip_id)
    pending = ClipArrays.pending(np.concatenate([before.clip_id, new]))
    again = np.zeros(n, bool)
    if len(new):
        again[n - n % shard_clips :] = True
    if retry_failed:
        again |= before.state == State.FAILED
    shards = np.arange(n) // shard_clips
    keep = np.flatnonzero(~np.isin(shards, shards[again]))
    for name in CLIP_ARRAYS:
        if name != "clip_id":
            getattr(pending, name)[keep] = getattr(before, name)[keep]
    return pending


def pending_shards(arrays: ClipArrays, shard_clips: int) -> list[int]:
    """Shards with a clip that is neither done nor failed."""
    return [int(shard) for shard in np.unique(np.flatnonzero(arrays.state == State.PENDING) // shard_clips)]


def preview(path: Path, meta: StoreMeta, clip_ids: np.ndarray, *, retry_failed: bool) -> tuple[StoreMeta, ClipArrays]:
    """What a writer would start from, without touching anything.

    A working folder beside its HDF5 file is never complete: the file is still to be packed.

    Raises:
        StoreError: the store there was made with other settings, or cannot be read.
    """
    meta, work = with_fingerprint(meta), working_path(path)
    found = next((place for place in (work, path) if place.exists()), None)
    if found is None:
        return meta, ClipArrays.pending(clip_ids)
    with open_store(found) as reader:
        require_same(reader.meta, meta, str(path))
        known = dataclasses.replace(reader.meta, complete=reader.meta.complete and found == path)
        return known, prepare(reader.arrays, clip_ids, known.shard_clips, retry_failed=retry_failed)
