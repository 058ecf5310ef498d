"""From any store to a Zarr store: same values, same digests."""

from __future__ import annotations

from pathlib import Path

from pipeline.stores.opening import open_store
from pipeline.stores.reader import StoreReader
from pipeline.stores.schema import State
from pipeline.stores.shards import shard_key, write_shard
from pipeline.stores.signing import sign
from pipeline.stores.zarr_store import FEATURES, creating, fill_new, root_document


def copy_to_zarr(reader: StoreReader, path: Path) -> None:
    """Write any store's content as a Zarr store, which appears at ``path`` at once and whole.

    Raises:
        StoreError: something is at ``path`` already.
    """
    with creating(path) as draft:
        fill_new(draft, reader.meta, reader.arrays, reader.canaries())
        shards = {}
        for number, rows in enumerate(reader.blocks()):
            if (reader.state[rows] == State.PENDING).all():
                continue
            key = f"{FEATURES}/{shard_key(number)}"
            shards[key] = write_shard(
                draft / key, reader.read(rows), chunk_clips=reader.meta.chunk_clips, shard_clips=reader.meta.shard_clips
            )
        root = root_document(draft, reader.meta)
        sign(draft, reader.meta, reader.arrays, known=shards, root=root)


def unpack(path: Path, work: Path) -> None:
    """Turn a finished store back into a working Zarr folder, so that it can grow."""
    with open_store(path) as reader:
        copy_to_zarr(reader, work)
