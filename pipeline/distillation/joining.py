"""Joining stores to the clip table: by id, never by position; misses fall back to the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.stores import State, StoreReader

Rows = NDArray[np.int64]
ABSENT = -1


@dataclass(frozen=True)
class StoreJoin:
    """How the clips of one store met those of the table.

    Attributes:
        name: ``EXTRACTOR/OUTPUT``.
        rows: [clips], int64, row in the store, or -1 where there is none that is usable.
        by_id, by_samples: clips found by their id, and by the digest of their samples.
        missing, failed, pending: clips not in the store, failed there, and not yet done there.
    """

    name: str
    rows: Rows
    by_id: int
    by_samples: int
    missing: int
    failed: int
    pending: int

    def sentence(self) -> str:
        """The counts in words."""
        counts = {
            "found by their samples": self.by_samples,
            "missing": self.missing,
            "failed there": self.failed,
            "not yet extracted": self.pending,
        }
        extra = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        return f"{self.name}: {self.by_id:,} of {len(self.rows):,} clips by id" + (f", {extra}" if extra else "")


def join_stores(clip_ids: NDArray[np.object_], stores: Sequence[StoreReader]) -> list[StoreJoin]:
    """Find every clip in every store.

    A clip whose id is not in a store is looked for by the digest of its decoded samples, which
    another store that knows the id tells: so a store made under other file names still joins.

    Shape:
        clip_ids: [clips], texts, unique.
    """
    found = [_by_id(clip_ids, store) for store in stores]
    lost = any((rows == ABSENT).any() for rows in found)
    digests = _known_digests(stores, found) if lost else {}
    joins = []
    for store, rows in zip(stores, found, strict=True):
        completed = _by_samples(rows, store, digests)
        joins.append(_summary(store, rows, completed))
    return joins


def _by_id(clip_ids: NDArray[np.object_], store: StoreReader) -> Rows:
    where = {key: row for row, key in enumerate(store.clip_id.tolist())}
    return np.array([where.get(key, ABSENT) for key in clip_ids.tolist()], np.int64)


def _known_digests(stores: Sequence[StoreReader], found: Sequence[Rows]) -> dict[int, bytes]:
    """Of the clips that some store lacks, the digest of the samples from the first store that has one."""
    digests: dict[int, bytes] = {}
    lost = np.flatnonzero(np.any([rows == ABSENT for rows in found], axis=0)) if found else np.empty(0, np.int64)
    for store, rows in zip(stores, found, strict=True):
        for clip in lost[rows[lost] != ABSENT].tolist():
            digest = store.samples_digest[rows[clip]]
            if clip not in digests and digest.any():
                digests[clip] = digest.tobytes()
    return digests


def _by_samples(rows: Rows, store: StoreReader, digests: Mapping[int, bytes]) -> Rows:
    """The rows, with those of clips that the digest finds; the digests' first bytes leave few to be compared."""
    lost = [clip for clip in np.flatnonzero(rows == ABSENT).tolist() if clip in digests]
    if not lost:
        return rows
    heads = np.frombuffer(b"".join(digests[clip][:8] for clip in lost), np.uint64)
    near = np.isin(np.ascontiguousarray(store.samples_digest[:, :8]).view(np.uint64)[:, 0], heads)
    where = {store.samples_digest[row].tobytes(): row for row in np.flatnonzero(near).tolist()}
    completed = rows.copy()
    completed[lost] = [where.get(digests[clip], ABSENT) for clip in lost]
    return completed


def _summary(store: StoreReader, by_id: Rows, rows: Rows) -> StoreJoin:
    present = np.flatnonzero(rows != ABSENT)
    state = np.full(len(rows), State.DONE, np.uint8)
    state[present] = store.state[rows[present]]
    return StoreJoin(
        name=store.meta.name,
        rows=np.where(state == State.DONE, rows, ABSENT),
        by_id=int((by_id != ABSENT).sum()),
        by_samples=int((by_id[present] == ABSENT).sum()),
        missing=len(rows) - len(present),
        failed=int((state == State.FAILED).sum()),
        pending=int((state == State.PENDING).sum()),
    )
