"""One reading interface over Zarr and HDF5."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from pipeline.errors import StoreError
from pipeline.stores.guard import MAX_CANARIES
from pipeline.stores.schema import CLIP_ARRAYS, MAX_CANARY_BYTES, MAX_CLIPS, MAX_STRING, State, StoreMeta

_MOST_COMPRESSED = 1000


@dataclass(eq=False)
class ClipArrays:
    """The small arrays along the clip axis, in memory.

    Shape:
        clip_id, failure: [clips] texts; n_frames: [clips] int32; state: [clips] uint8;
        file_digest, samples_digest, clip_digest: [clips, 32] uint8
    """

    clip_id: np.ndarray
    n_frames: np.ndarray
    state: np.ndarray
    failure: np.ndarray
    file_digest: np.ndarray
    samples_digest: np.ndarray
    clip_digest: np.ndarray

    @classmethod
    def pending(cls, clip_ids: np.ndarray) -> ClipArrays:
        """Arrays of clips of which nothing is known yet."""
        n = len(clip_ids)
        made = {
            name: np.full(n, "", object) if kind is str else np.zeros((n, *shape), kind)
            for name, (shape, kind) in CLIP_ARRAYS.items()
        }
        made["clip_id"] = np.asarray(clip_ids, object)
        return cls(**made)

    def check(self, where: str, frames: int) -> None:
        """Refuse arrays that contradict each other; they may come from anyone.

        Raises:
            StoreError: lengths that differ, ids that repeat, states or frame counts out of range.
        """
        n = len(self.clip_id)
        for name, (shape, _) in CLIP_ARRAYS.items():
            if getattr(self, name).shape != (n, *shape):
                raise StoreError(f"{where}: {name} has shape {getattr(self, name).shape}, expected {(n, *shape)}.")
        if not all_differ(self.clip_id.tolist()):
            raise StoreError(f"{where}: some clip_id stand twice; ids must be unique.")
        for name in ("clip_id", "failure"):
            _check_texts(getattr(self, name).tolist(), where, name)
        if not np.isin(self.state, list(State)).all():
            raise StoreError(f"{where}: a clip has a state other than 0, 1 or 2.")
        if n and (self.n_frames.min() < 0 or self.n_frames.max() > frames):
            raise StoreError(f"{where}: a clip claims more valid frames than the {frames} there are.")


class StoreReader(ABC):
    """Read-only view of a store; a context manager.

    Attributes:
        path: as it was given.
        meta: root attributes.
        arrays: the small arrays; :attr:`clip_id` and the like are shorthands.
    """

    path: str
    meta: StoreMeta
    arrays: ClipArrays

    def __len__(self) -> int:
        return len(self.arrays.clip_id)

    def __reduce__(self) -> tuple[object, ...]:
        """Sent to another process, it is opened there anew."""
        return type(self), (self.path,)

    def __enter__(self) -> StoreReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def clip_id(self) -> np.ndarray:
        """[clips] texts."""
        return self.arrays.clip_id

    @property
    def n_frames(self) -> np.ndarray:
        """[clips] int32, valid frames."""
        return self.arrays.n_frames

    @property
    def state(self) -> np.ndarray:
        """[clips] uint8, see :class:`State`."""
        return self.arrays.state

    @property
    def failure(self) -> np.ndarray:
        """[clips] texts: why a clip failed, or ``short: ...`` for one that is kept but ends early."""
        return self.arrays.failure

    @property
    def samples_digest(self) -> np.ndarray:
        """[clips, 32] uint8, SHA-256 of the decoded samples."""
        return self.arrays.samples_digest

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of ``features``: clips, frames, channels."""
        return len(self), self.meta.frames, self.meta.channels

    @property
    def dtype(self) -> np.dtype:
        """Of ``features`` as stored."""
        return np.dtype(self.meta.dtype)

    @property
    def block_clips(self) -> int:
        """Rows that lie together: the natural block for shuffled reading."""
        return self.meta.shard_clips

    @property
    def n_bytes(self) -> int:
        """Bytes of ``features`` in memory."""
        return len(self) * self.meta.clip_bytes

    @abstractmethod
    def read(self, rows: np.ndarray) -> np.ndarray:
        """Features of rows in any order: [len(rows), frames, channels] in the stored type."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files."""

    @abstractmethod
    def canaries(self) -> dict[str, np.ndarray]:
        """The arrays under ``canary/`` by name; empty where there are none."""

    def blocks(self) -> Iterator[np.ndarray]:
        """Rows in blocks that are read cheaply together."""
        for first in range(0, len(self), self.block_clips):
            yield np.arange(first, min(first + self.block_clips, len(self)))


def check_rows(rows: np.ndarray, n_clips: int) -> np.ndarray:
    """Rows as int64, refused when outside the store."""
    rows = np.asarray(rows, np.int64)
    if rows.ndim != 1 or (len(rows) and rows.view(np.uint64).max() >= n_clips):  # a negative one is a huge one
        raise IndexError(f"rows must be a 1-d array within 0..{n_clips - 1}")
    return rows


def require_plausible(where: str, n_clips: int, id_bytes: int | None) -> None:
    """Refuse a clip count that no honest store has, before anything of that size is allocated.

    Raises:
        StoreError: more clips than the limit, or than the bytes of their ids allow.
    """
    most = MAX_CLIPS if id_bytes is None else min(MAX_CLIPS, id_bytes * _MOST_COMPRESSED)
    if n_clips > most:
        raise StoreError(f"{where} claims {n_clips:,} clips, but holds ids for at most {most:,}: damaged or forged.")


def require_small(where: str, n_arrays: int, n_bytes: int) -> None:
    """Refuse canaries that are not small.

    Raises:
        StoreError: they are many, or would take more memory than allowed.
    """
    if n_bytes > MAX_CANARY_BYTES or n_arrays > MAX_CANARIES:
        raise StoreError(
            f"{where}: {n_arrays:,} canaries of {n_bytes:,} bytes; at most {MAX_CANARIES} of {MAX_CANARY_BYTES:,} "
            "bytes are read: forged."
        )


def all_differ(texts: Sequence[str]) -> bool:
    """Whether no text stands twice; by their hashes, which take an eighth of the memory of a set."""
    hashes = np.fromiter(map(hash, texts), np.int64, len(texts))
    hashes.sort()
    return not (hashes[1:] == hashes[:-1]).any() or len(set(texts)) == len(texts)


def _check_texts(texts: list[str], where: str, name: str) -> None:
    """Valid Unicode without NUL, none too long; an id is not empty."""
    if max(map(len, texts), default=0) > MAX_STRING:
        raise StoreError(f"{where}: a clip_id or failure text is longer than {MAX_STRING} characters.")
    together = "\0".join(texts)
    try:
        together.encode()
    except UnicodeEncodeError:
        raise StoreError(f"{where}: a {name} is not valid UTF-8: damaged or forged.") from None
    if texts and together.count("\0") != len(texts) - 1:
        raise StoreError(f"{where}: a {name} holds a NUL: damaged or forged.")
    if name == "clip_id" and not all(texts):
        raise StoreError(f"{where}: a clip_id is empty: damaged or forged.")
