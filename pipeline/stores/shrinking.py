"""What becomes of a store whose clips left the table: which rows stay, in which layout. Nothing is read or written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.errors import StoreError
from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import CLIP_ARRAYS, State, StoreMeta


@dataclass(frozen=True, eq=False)
class Smaller:
    """A store without the clips that left the table.

    Attributes:
        meta: its root attributes; unfinished, with the sizes of a store made at once.
        before: the small arrays that it is made from.
        rows: [clips] the row of each clip in them; ascending.
        arrays: its small arrays.  A clip that goes by another id now has still the digest it had.
        n_dropped: clips of ``before`` that are in it under no id.
    """

    meta: StoreMeta
    before: ClipArrays
    rows: np.ndarray
    arrays: ClipArrays
    n_dropped: int


def shrink(
    found: tuple[StoreMeta, ClipArrays],
    wanted: StoreMeta,
    clip_ids: np.ndarray,
    *,
    renamed: Mapping[str, int],
    batch_clips: int,
) -> Smaller | None:
    """The store without what is not in the table; None where all of it is.

    The bits of a clip's features depend on how many clips went through the network with it.  Clips
    of a batch that was not full before, or is not full now, are therefore pending: the smaller store
    has the content of one that was made at once.

    Args:
        found: root attributes and small arrays of what is there.
        wanted: root attributes of a store made at once.
        clip_ids: the table's clips.
        renamed: row by id of clips that are in the table under another id than in the store.

    Raises:
        StoreError: the store and the table have no clip in common.
    """
    meta, before = found
    wanted_ids = set(clip_ids.tolist())
    place = {clip_id: row for row, clip_id in enumerate(before.clip_id.tolist()) if clip_id in wanted_ids}
    if len(place) == len(before.clip_id):
        return None
    place |= renamed
    if not place:
        raise StoreError(
            f"None of the {len(before.clip_id):,} clips of the store {meta.name} is in the clip table, so dropping "
            "those that left it would drop all: another collection, or a table with other ids? To begin anew, remove "
            "the store."
        )
    ids, rows = (np.array(column) for column in zip(*sorted(place.items(), key=lambda item: item[1]), strict=True))
    arrays = ClipArrays(**{name: getattr(before, name)[rows] for name in CLIP_ARRAYS})
    arrays.clip_id = ids.astype(object)
    now = _batch_sizes(np.arange(len(rows)), len(clip_ids), wanted.shard_clips, batch_clips)
    then = _batch_sizes(rows, len(before.clip_id), meta.shard_clips, batch_clips)
    _forget(arrays, (now != then) & (arrays.n_frames > 0))
    smaller = dataclasses.replace(
        meta, chunk_clips=wanted.chunk_clips, shard_clips=wanted.shard_clips, manifest_digest=wanted.manifest_digest,
        complete=False, content_digest="",
    )  # fmt: skip
    return Smaller(smaller, before, rows, arrays, len(before.clip_id) - len(np.unique(rows)))


def _batch_sizes(rows: np.ndarray, n_clips: int, shard_clips: int, batch_clips: int) -> np.ndarray:
    """[rows] clips of the batch that a row is in: batches begin anew in each shard."""
    inside = rows % shard_clips
    n_in_shard = np.minimum(shard_clips, n_clips - (rows - inside))
    sizes: np.ndarray = np.minimum(batch_clips, n_in_shard - (inside - inside % batch_clips))
    return sizes


def _forget(arrays: ClipArrays, rows: np.ndarray) -> None:
    """To be computed again: as if nothing were known."""
    arrays.state[rows], arrays.n_frames[rows], arrays.failure[rows] = State.PENDING, 0, ""
    for name in ("file_digest", "samples_digest", "clip_digest"):
        getattr(arrays, name)[rows] = 0
