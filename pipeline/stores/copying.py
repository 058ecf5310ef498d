"""From any store to a Zarr store: same values, same digests."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from pipeline.stores.opening import open_store
from pipeline.stores.reader import ClipArrays, StoreReader
from pipeline.stores.schema import State
from pipeline.stores.shards import shard_key, write_shard
from pipeline.stores.signing import sign
from pipeline.stores.zarr_store import FEATURES, creating, fill_new, root_document


def copy_to_zarr(reader: StoreReader, path: Path, *, lost: np.ndarray | None = None) -> None:
    """Write any store's content as a Zarr store, which appears at ``path`` at once and whole.

    Args:
        lost: rows that are not read, and pending in the copy, which is then unfinished.

    Raises:
        StoreError: something is at ``path`` already.
    """
    meta, arrays = reader.meta, reader.arrays
    kept = np.ones(len(reader), bool)
    if lost is not None and len(lost):
        forget(arrays, lost)
        kept[lost] = False
        meta = dataclasses.replace(meta, complete=False, content_digest="")
    with creating(path) as draft:
        fill_new(draft, meta, arrays, reader.canaries())
        shards = {}
        for number, rows in enumerate(reader.blocks()):
            if (arrays.state[rows] == State.PENDING).all():
                continue
            features = np.zeros((len(rows), meta.frames, meta.channels), reader.dtype)
            features[kept[rows]] = reader.read(rows[kept[rows]])
            key = f"{FEATURES}/{shard_key(number)}"
            shards[key] = write_shard(draft / key, features, chunk_clips=meta.chunk_clips, shard_clips=meta.shard_clips)
        root = root_document(draft, meta)
        sign(draft, meta, arrays, known=shards, root=root)


def forget(arrays: ClipArrays, rows: np.ndarray) -> None:
    """Clips to pending, with digests of zeros: nothing is known of them any more."""
    arrays.state[rows], arrays.n_frames[rows], arrays.failure[rows] = State.PENDING, 0, ""
    for name in ("clip_digest", "file_digest", "samples_digest"):
        getattr(arrays, name)[rows] = 0


def unpack(path: Path, work: Path) -> None:
    """Turn a finished store back into a working Zarr folder, so that it can grow."""
    with open_store(path) as reader:
        copy_to_zarr(reader, work)
