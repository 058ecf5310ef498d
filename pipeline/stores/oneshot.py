"""Writing a whole small store from arrays: for imports, examples and tests."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.stores.schema import DIGEST_BYTES, State, StoreMeta
from pipeline.stores.target import working_path
from pipeline.stores.writer import StoreWriter


def write_store(
    path: str | Path,
    *,
    meta: StoreMeta,
    clip_id: Sequence[str] | np.ndarray,
    features: np.ndarray,
    n_frames: np.ndarray,
    state: np.ndarray | None = None,
    failure: Sequence[str] | None = None,
    samples_digest: np.ndarray | None = None,
    file_digest: np.ndarray | None = None,
) -> StoreMeta:
    """Write features that are in memory as a complete store, ``.zarr`` or ``.h5`` by suffix.

    Shape:
        features: [clips, frames, channels]; n_frames: [clips]; digests: [clips, 32] uint8

    Raises:
        StoreError: a store with other settings is there, or a value does not fit the type.
    """
    path = Path(path)
    ids = np.asarray(clip_id, object)
    n = len(ids)
    states = np.full(n, State.DONE, np.uint8) if state is None else state
    reasons = [""] * n if failure is None else list(failure)
    empty = np.zeros((n, DIGEST_BYTES), np.uint8)
    samples = empty if samples_digest is None else samples_digest
    files = empty if file_digest is None else file_digest
    work = working_path(path)
    fresh = not path.exists() and not work.exists()
    try:
        with StoreWriter(path, meta, ids, make_canaries=dict) as writer:
            target = writer.target
            for shard in writer.pending_shards():
                rows = slice(shard * target.shard_clips, (shard + 1) * target.shard_clips)
                writer.record(
                    target.write(
                        shard,
                        clip_ids=ids[rows].tolist(),
                        features=np.asarray(features[rows], np.float32),
                        n_frames=np.asarray(n_frames)[rows],
                        state=states[rows],
                        failure=reasons[rows],
                        file_digest=files[rows],
                        samples_digest=samples[rows],
                    )
                )
            return writer.finish({})
    except BaseException:
        if fresh:
            shutil.rmtree(work, ignore_errors=True)
        raise
