"""What is still to be made: of new clips, of changed and failed ones, of killed runs.

A shard is written whole.  Where some of its clips must be made, the others become pending with
it, but keep what the store says of them: their features still lie in the shard's file, and whoever
writes it anew may copy those that still give their ``clip_digest``.  A pending clip that must
really be computed has a ``clip_digest`` of zeros.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import NOT_IN_TABLE_REASON, AudioMissingError
from pipeline.stores.opening import open_store
from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import CLIP_ARRAYS, State, StoreMeta, require_same, with_fingerprint
from pipeline.stores.target import aside_path, working_path

SHORT = "short: "
NOT_IN_TABLE = f"{AudioMissingError.kind}: {NOT_IN_TABLE_REASON}"


@dataclass(frozen=True)
class Update:
    """What a run makes again of a store that is there.

    Attributes:
        changed: ids of clips whose audio is not what it was.
        gone: ids of the store's clips that are not in the clip table now: what is there of them stays.
        retry_failed: clips that failed are tried again.
        batch_clips: clips that go through the network at once; where the last batch of a store that
            grows was not full, its clips are computed again, so that a store that grew has the
            content of one that was made at once.
    """

    changed: Set[str] = frozenset()
    gone: Set[str] = frozenset()
    retry_failed: bool = False
    batch_clips: int = 1


NOTHING = Update()


def prepare(before: ClipArrays, clip_ids: np.ndarray, shard_clips: int, update: Update = NOTHING) -> ClipArrays:
    """The small arrays as a run starts from them: new clips added, what is to be made pending.

    Clips that failed because they were not in the clip table are made once they are in it again.
    """
    known = set(before.clip_id.tolist())
    new = np.array([clip_id for clip_id in clip_ids.tolist() if clip_id not in known], object)
    n = len(before.clip_id)
    again = before.state == State.PENDING
    again &= ~before.clip_digest.any(axis=1)
    here = np.ones(n, bool)  # clips that left the table: their audio may be gone, their features stay
    if update.gone:
        here = np.array([clip_id not in update.gone for clip_id in before.clip_id.tolist()], bool)
    if len(new):
        again[_last_batch(n, shard_clips, update.batch_clips) :] = True
        again &= here | ~before.clip_digest.any(axis=1)
    again |= here & (before.failure == NOT_IN_TABLE)
    if update.retry_failed:
        again |= here & failed_rows(before)
    if update.changed:
        again |= np.array([clip_id in update.changed for clip_id in before.clip_id.tolist()], bool)
    arrays = ClipArrays.pending(np.concatenate([before.clip_id, new]))
    for name in CLIP_ARRAYS:
        if name != "clip_id":
            getattr(arrays, name)[:n][~again] = getattr(before, name)[~again]
    touched = np.zeros(-(-len(arrays.clip_id) // shard_clips), bool)
    touched[np.flatnonzero(arrays.state == State.PENDING) // shard_clips] = True
    arrays.state[np.repeat(touched, shard_clips)[: len(arrays.state)]] = State.PENDING
    return arrays


def _last_batch(n_clips: int, shard_clips: int, batch_clips: int) -> int:
    """Where the last batch of a store begins, if it is not full; else the end."""
    return n_clips - n_clips % shard_clips % batch_clips


def kept_rows(arrays: ClipArrays) -> np.ndarray:
    """Mask of the pending clips that were done before: copied if their features still agree."""
    kept: np.ndarray = (arrays.state == State.PENDING) & arrays.clip_digest.any(axis=1)
    return kept


def failed_rows(arrays: ClipArrays) -> np.ndarray:
    """Mask of the clips that failed, those among them that are pending with their shard too."""
    failed: np.ndarray = arrays.state == State.FAILED
    kept = np.flatnonzero(kept_rows(arrays) & (arrays.failure != ""))
    failed[kept] = [state_before(text) == State.FAILED for text in arrays.failure[kept].tolist()]
    return failed


def state_before(failure: str) -> State:
    """The state a kept clip had."""
    return State.FAILED if failure and not failure.startswith(SHORT) else State.DONE


def pending_shards(arrays: ClipArrays, shard_clips: int) -> list[int]:
    """Shards with a clip that is neither done nor failed."""
    return [int(shard) for shard in np.unique(np.flatnonzero(arrays.state == State.PENDING) // shard_clips)]


def look(path: Path) -> tuple[StoreMeta, ClipArrays] | None:
    """What is at a place, finished or not; None where there is nothing.

    A working folder beside its HDF5 file is never complete: the file is still to be packed.  Nor is one
    that is still to be put in its place.

    Raises:
        StoreError: what is there cannot be read.
    """
    work = working_path(path)
    found = next((place for place in (work, aside_path(work), path) if place.exists()), None)
    if found is None:
        return None
    with open_store(found) as reader:
        complete = reader.meta.complete and found == path
        return dataclasses.replace(reader.meta, complete=complete), reader.arrays


def preview(
    path: Path, meta: StoreMeta, clip_ids: np.ndarray, found: tuple[StoreMeta, ClipArrays] | None, update: Update
) -> tuple[StoreMeta, ClipArrays]:
    """What a writer would start from, without touching anything.

    Args:
        found: what :func:`look` saw.

    Raises:
        StoreError: the store there was made with other settings.
    """
    meta = with_fingerprint(meta)
    if found is None:
        return meta, ClipArrays.pending(clip_ids)
    require_same(found[0], meta, str(path))
    return found[0], prepare(found[1], clip_ids, found[0].shard_clips, update)
