"""Writing a store: created or resumed by one driver, filled shard by shard by many tasks.

The working form is always a Zarr folder.  An HDF5 store is packed from it at the end and renamed;
until then the work lies in ``NAME.h5.partial``.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.events import Listener, ignore
from pipeline.files import publish_bytes
from pipeline.stores import sums, zarr_store
from pipeline.stores.hdf5_store import write_hdf5
from pipeline.stores.journal import JOURNAL, Journal, ShardRecord
from pipeline.stores.lease import Lease
from pipeline.stores.opening import open_store
from pipeline.stores.reader import ClipArrays, StoreReader
from pipeline.stores.schema import (
    CLIP_ARRAYS,
    DIGEST_BYTES,
    State,
    StoreMeta,
    digest_clip,
    digest_content,
    require_same,
    with_fingerprint,
)
from pipeline.stores.shards import shard_key, write_shard

Canaries = Mapping[str, np.ndarray]


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
            StoreError: a value that float16 cannot hold; names the clip, the value and float32.
        """
        stored = self._cast(features, clip_ids)
        clip_digest = np.zeros((len(clip_ids), DIGEST_BYTES), np.uint8)
        for row, clip_id in enumerate(clip_ids):
            digest = digest_clip(clip_id, state[row], failure[row], n_frames[row], stored[row])
            clip_digest[row] = np.frombuffer(digest, np.uint8)
        path = Path(self.folder) / zarr_store.FEATURES / shard_key(shard)
        sha256 = write_shard(path, stored, chunk_clips=self.chunk_clips, shard_clips=self.shard_clips)
        return ShardRecord(
            shard=shard,
            first_row=shard * self.shard_clips,
            sha256=sha256,
            n_frames=n_frames.astype(np.int32),
            state=state.astype(np.uint8),
            failure=tuple(failure),
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
        largest = np.abs(features).max(axis=(1, 2), initial=0.0)
        if bad := np.flatnonzero(~(largest <= np.finfo(kind).max)).tolist():
            raise StoreError(
                f"{self.name}: clip {clip_ids[bad[0]]!r} has a feature of magnitude {largest[bad[0]]:g}, which "
                f"{self.dtype} (up to {np.finfo(kind).max:g}) cannot hold. "
                + ("Store it with --dtype float32." if kind.itemsize == 2 else "The extractor gives no finite numbers.")
            )
        return features.astype(kind.newbyteorder("<"))


class StoreWriter:
    """The driver's side of one store; holds the lease. Use as a context manager.

    Args:
        path: final place, ``.zarr`` or ``.h5``.
        meta: what is to be written; its fingerprint must be that of what is there.
        clip_ids: the clips wanted, in order.  A store that has others keeps them; new ones are
            added at its end, and the last shard that was not full is made again.
        make_canaries: called once, when the store is created, for the arrays under ``canary/``.
        retry_failed: make the shards with failed clips again.

    Raises:
        StoreBusyError: another writer holds the store.
        StoreError: the store was made with other settings; each differing field is named.
    """

    def __init__(
        self,
        path: Path,
        meta: StoreMeta,
        clip_ids: np.ndarray,
        *,
        make_canaries: Callable[[], dict[str, np.ndarray]],
        retry_failed: bool = False,
    ) -> None:
        self.path, self.work = path, working_path(path)
        self._stack = ExitStack()
        self._records: dict[int, ShardRecord] = {}
        if not self.work.exists():
            self._create(with_fingerprint(meta), clip_ids, make_canaries)
        with ExitStack() as stack:
            stack.enter_context(Lease(self.work))
            self._resume(with_fingerprint(meta), clip_ids, retry_failed)
            self._journal = Journal(self.work)
            stack.callback(self._journal.close)
            self._stack = stack.pop_all()

    def _create(
        self, meta: StoreMeta, clip_ids: np.ndarray, make_canaries: Callable[[], dict[str, np.ndarray]]
    ) -> None:
        if self.path != self.work and self.path.exists():
            unpack(self.path, self.work)
            return
        try:
            zarr_store.create_zarr(self.work, meta, ClipArrays.pending(clip_ids), make_canaries())
        except OSError as error:
            raise StoreError(f"{self.work} cannot be made: {error.strerror or error}.") from error

    def _resume(self, wanted: StoreMeta, clip_ids: np.ndarray, retry_failed: bool) -> None:
        with open_store(self.work) as reader:
            require_same(reader.meta, wanted, str(self.path))
            self.meta, before = reader.meta, reader.arrays
        self.arrays = prepare(before, clip_ids, self.meta.shard_clips, retry_failed=retry_failed)
        _remove_drafts(self.work)
        if not np.array_equal(self.arrays.state, before.state) or (self.work / JOURNAL).exists():
            self.meta = dataclasses.replace(
                self.meta, complete=False, content_digest="", manifest_digest=wanted.manifest_digest
            )
            zarr_store.publish_root(self.work, zarr_store.root_document(self.work, self.meta))
            self._fold()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def target(self) -> ShardTarget:
        """What tasks need to write this store."""
        return target_of(self.path, self.meta)

    def pending_shards(self) -> list[int]:
        """Shards with a clip that is neither done nor failed."""
        return pending_shards(self.arrays, self.meta.shard_clips)

    def canaries(self) -> dict[str, np.ndarray]:
        """The arrays under ``canary/``."""
        with open_store(self.work) as reader:
            return reader.canaries()

    def record(self, record: ShardRecord) -> None:
        """Journal a finished shard; it counts from here on."""
        self._journal.append(record)
        self._records[record.shard] = record
        for name in CLIP_ARRAYS:
            if name != "clip_id":
                getattr(self.arrays, name)[record.rows] = getattr(record, name)

    def finish(self, run: Mapping[str, Any], listener: Listener = ignore) -> StoreMeta:
        """Fold the journal, sign the content, publish the store as complete.

        Args:
            run: provenance of this run, added to the store's list.

        Raises:
            StoreError: some shards are still pending.
        """
        if pending := self.pending_shards():
            raise StoreError(f"{self.path}: {len(pending)} shards are still pending; the store cannot be finished.")
        content = digest_content(self.arrays.clip_id.tolist(), self.arrays.clip_digest)
        runs = (*self.meta.runs, run) if self._records or not self.meta.complete else self.meta.runs
        self.meta = dataclasses.replace(self.meta, complete=True, content_digest=content, runs=runs)
        self._fold()
        if self.path != self.work:
            self._stack.close()
            with open_store(self.work) as reader:
                write_hdf5(self.path, reader, self.meta, listener)
            shutil.rmtree(self.work)
        return self.meta

    def _fold(self) -> None:
        """Small arrays, digest list, root: in this order; only then is the journal forgotten."""
        zarr_store.replace_small_arrays(self.work, self.arrays, self.meta)
        root = zarr_store.root_document(self.work, self.meta)
        shards = {f"{zarr_store.FEATURES}/{shard_key(r.shard)}": r.sha256 for r in self._records.values()}
        publish_bytes(self.work / sums.SUMS, sums.collect(self.work, known=shards, root=root))
        zarr_store.publish_root(self.work, root)
        if hasattr(self, "_journal"):
            self._journal.clear()
        else:
            (self.work / JOURNAL).unlink(missing_ok=True)


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
    """What :class:`StoreWriter` would start from, without touching anything.

    Raises:
        StoreError: the store there was made with other settings, or cannot be read.
    """
    meta = with_fingerprint(meta)
    found = next((place for place in (working_path(path), path) if place.exists()), None)
    if found is None:
        return meta, ClipArrays.pending(clip_ids)
    with open_store(found) as reader:
        require_same(reader.meta, meta, str(path))
        return reader.meta, prepare(reader.arrays, clip_ids, reader.meta.shard_clips, retry_failed=retry_failed)


def target_of(path: Path, meta: StoreMeta) -> ShardTarget:
    """What tasks need to write the store at ``path``."""
    return ShardTarget(
        name=meta.name,
        folder=str(working_path(path).absolute()),
        frames=meta.frames,
        channels=meta.channels,
        dtype=meta.dtype,
        chunk_clips=meta.chunk_clips,
        shard_clips=meta.shard_clips,
    )


def working_path(path: Path) -> Path:
    """Where a store is written: itself for Zarr, a folder beside it for HDF5."""
    return path.with_name(path.name + ".partial") if path.suffix == ".h5" else path


def unpack(path: Path, work: Path) -> None:
    """Turn a finished store back into a working Zarr folder, so that it can grow."""
    with open_store(path) as reader:
        copy_to_zarr(reader, work)


def copy_to_zarr(reader: StoreReader, path: Path) -> None:
    """Write any store's content as a Zarr store: same values, same digests."""
    zarr_store.create_zarr(path, reader.meta, reader.arrays, reader.canaries())
    shards = {}
    for number, rows in enumerate(reader.blocks()):
        if (reader.state[rows] == State.PENDING).all():
            continue
        key = f"{zarr_store.FEATURES}/{shard_key(number)}"
        shards[key] = write_shard(
            path / key, reader.read(rows), chunk_clips=reader.meta.chunk_clips, shard_clips=reader.meta.shard_clips
        )
    root = zarr_store.root_document(path, reader.meta)
    publish_bytes(path / sums.SUMS, sums.collect(path, known=shards, root=root))


def _remove_drafts(work: Path) -> None:
    """Unfinished files of killed writers; the lease says that nobody else is at work."""
    for draft in (work / zarr_store.FEATURES).glob(".*.tmp"):
        draft.unlink(missing_ok=True)
