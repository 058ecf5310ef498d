"""A task's side of one store: where its shards go, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import StoreError
from pipeline.stores.codecs import PLAIN, Codec, stored_codec
from pipeline.stores.digests import digest_clips
from pipeline.stores.disk import writing
from pipeline.stores.journal import ShardRecord
from pipeline.stores.schema import HDF5_SUFFIXES, MAX_STRING, StoreMeta
from pipeline.stores.shards import shard_key, write_shard
from pipeline.stores.zarr_store import FEATURES


@dataclass(frozen=True)
class ShardTarget:
    """Where a task writes one store's shards, and how; small and picklable."""

    name: str
    folder: str
    frames: int
    channels: int
    dtype: str
    chunk_clips: int
    shard_clips: int
    codec: Codec = PLAIN

    def write(
        self,
        shard: int,
        *,
        clip_ids: Sequence[str],
        features: np.ndarray,
        n_frames: np.ndarray,
        state: np.ndarray,
        failure: Sequence[str],
        file_digest: np.ndarray,
        samples_digest: np.ndarray,
    ) -> ShardRecord:
        """Publish a shard's features and return the record that the driver journals.

        Shape:
            features: [clips, frames, channels] float32; the rest as in :class:`ShardRecord`.

        Raises:
            StoreError: a value that float16 cannot hold, naming the clip, the value and float32;
                a value that is no number; a disk that is full.
        """
        stored = self._cast(features, clip_ids)
        reasons = tuple(storable_text(text) if text else "" for text in failure)
        clip_digest = digest_clips(clip_ids, state, reasons, n_frames, stored)
        path = Path(self.folder) / FEATURES / shard_key(shard)
        with writing(f"Shard {shard} of {self.name}"):
            sizes = {"chunk_clips": self.chunk_clips, "shard_clips": self.shard_clips}
            sha256 = write_shard(path, stored, codec=self.codec, **sizes)
        return ShardRecord(
            shard=shard,
            first_row=shard * self.shard_clips,
            sha256=sha256,
            n_frames=n_frames.astype(np.int32),
            state=state.astype(np.uint8),
            failure=reasons,
            file_digest=file_digest,
            samples_digest=samples_digest,
            clip_digest=clip_digest,
        )

    def _cast(self, features: np.ndarray, clip_ids: Sequence[str]) -> np.ndarray:
        kind = np.dtype(self.dtype)
        if features.shape[1:] != (self.frames, self.channels):
            raise StoreError(
                f"{self.name}: features {features.shape[1:]}, the store holds {self.frames, self.channels}."
            )
        highest, lowest = features.max(axis=(1, 2), initial=0.0), features.min(axis=(1, 2), initial=0.0)
        largest = np.maximum(highest, -lowest)
        limit = np.finfo(kind).max
        if bad := np.flatnonzero(~(largest <= limit)).tolist():
            raise StoreError(f"{self.name}: clip {clip_ids[bad[0]]!r} {_why_not(float(largest[bad[0]]), kind)}")
        return features.astype(kind.newbyteorder("<"))


def _why_not(value: float, kind: np.dtype) -> str:
    if not np.isfinite(value):
        return (
            f"has a feature that is {value:g}: the extractor gives no finite numbers for it. Look at the clip with "
            "--workers 0, try --mode exact, or leave it out of the clip table."
        )
    return (
        f"has a feature of magnitude {value:g}, which {kind.name} (up to {np.finfo(kind).max:g}) cannot hold. "
        "Store it with --dtype float32."
    )


def storable_text(text: str) -> str:
    """Text as every format can keep it: valid UTF-8, no NUL, not longer than the schema allows."""
    return text.encode("utf-8", "replace").decode().replace("\0", " ")[:MAX_STRING]


def are_storable(texts: Sequence[str]) -> bool:
    """Whether all texts are such, and none is empty: looked at together, which is fast."""
    together = "\0".join(texts)
    try:
        together.encode()
    except UnicodeEncodeError:
        return False
    plain = together.count("\0") == max(0, len(texts) - 1)
    return plain and all(texts) and max(map(len, texts), default=0) <= MAX_STRING


def target_of(path: Path, meta: StoreMeta) -> ShardTarget:
    """What tasks need to write the store at ``path``."""
    work = working_path(path)
    return ShardTarget(
        name=meta.name,
        folder=str(work.absolute()),
        frames=meta.frames,
        channels=meta.channels,
        dtype=meta.dtype,
        chunk_clips=meta.chunk_clips,
        shard_clips=meta.shard_clips,
        codec=stored_codec(work) if work.exists() else PLAIN,
    )


def aside_path(work: Path) -> Path:
    """Where a store that lost clips is written, until it takes the place of the other one."""
    return work.with_name(work.name + ".smaller")


def working_path(path: Path) -> Path:
    """Where a store is written: itself for Zarr, a folder beside it for HDF5."""
    return path.with_name(path.name + ".partial") if path.suffix in HDF5_SUFFIXES else path
