"""The driver's side of a store: created or resumed by one process, filled shard by shard by many.

The working form is always a Zarr folder.  An HDF5 store is packed from it at the end and renamed;
until then the work lies in ``NAME.h5.partial``.
"""

from __future__ import annotations

import dataclasses
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.events import Listener, ignore
from pipeline.stores.codecs import PLAIN, Codec
from pipeline.stores.copying import unpack
from pipeline.stores.digests import digest_content
from pipeline.stores.disk import remove_drafts, writing
from pipeline.stores.dropping import remove_aside, settle
from pipeline.stores.hdf5_store import write_hdf5
from pipeline.stores.journal import JOURNAL, Journal, ShardRecord, read_journal
from pipeline.stores.lease import Lease
from pipeline.stores.opening import open_store
from pipeline.stores.pending import NOTHING, Update, pending_shards, prepare
from pipeline.stores.reader import ClipArrays, all_differ
from pipeline.stores.schema import CLIP_ARRAYS, StoreMeta, require_same, with_fingerprint
from pipeline.stores.shards import shard_key
from pipeline.stores.signing import sign
from pipeline.stores.target import ShardTarget, are_storable, storable_text, target_of, working_path
from pipeline.stores.zarr_store import FEATURES, create_zarr, publish_root, replace_small_arrays, root_document


class StoreWriter:
    """Holds the lease of one store while it is written. Use as a context manager.

    Args:
        path: final place, ``.zarr`` or ``.h5``.
        meta: what is to be written; its fingerprint must be that of what is there.
        clip_ids: the clips wanted, in order.  A store that has others keeps them; new ones are
            added at its end.
        make_canaries: called once, when the store is created, for the arrays under ``canary/``.
        update: what is made again of a store that is there.
        codec: of a new store; one that is there keeps its own.

    Raises:
        StoreBusyError: another writer holds the store.
        StoreError: the store was made with other settings (each differing field is named), an id
            that no store can keep, a disk that is full or may not be written.
    """

    def __init__(
        self,
        path: Path,
        meta: StoreMeta,
        clip_ids: np.ndarray,
        *,
        make_canaries: Callable[[], dict[str, np.ndarray]],
        update: Update = NOTHING,
        codec: Codec = PLAIN,
    ) -> None:
        self.path, self.work = path, working_path(path)
        self._stack = ExitStack()
        self._shards: dict[str, str] = {}
        self._changed, self._codec = False, codec
        _check_ids(clip_ids, path)
        settle(self.work)
        fresh = not self.work.exists() and not self.path.exists()
        canaries = make_canaries() if fresh else {}
        with ExitStack() as stack, writing(self.work):
            if not self.work.exists():
                self._create(with_fingerprint(meta), clip_ids, canaries)
            self._lease = stack.enter_context(Lease(self.work))
            self._resume(with_fingerprint(meta), clip_ids, update)
            self._journal = Journal(self.work)
            stack.callback(self._journal.close)
            self._stack = stack.pop_all()

    def _create(self, meta: StoreMeta, clip_ids: np.ndarray, canaries: dict[str, np.ndarray]) -> None:
        try:
            if self.path != self.work and self.path.exists():
                unpack(self.path, self.work)
            else:
                create_zarr(self.work, meta, ClipArrays.pending(clip_ids), canaries, self._codec)
        except (OSError, StoreError):
            if not self.work.exists():
                raise  # else another writer was faster: its lease decides

    def _resume(self, wanted: StoreMeta, clip_ids: np.ndarray, update: Update) -> None:
        remove_drafts(self.path)  # the working folder's among them
        remove_aside(self.work)  # of a run that was killed while it dropped clips
        for draft in (self.work / FEATURES).glob(".*.tmp"):
            draft.unlink(missing_ok=True)
        with open_store(self.work) as reader:
            require_same(reader.meta, wanted, str(self.path))
            self.meta, before = reader.meta, reader.arrays
        self.arrays = prepare(before, clip_ids, self.meta.shard_clips, update)
        if not np.array_equal(self.arrays.state, before.state) or (self.work / JOURNAL).exists():
            self._shards = {_key(record.shard): record.sha256 for record in read_journal(self.work)}
            self.meta = dataclasses.replace(
                self.meta, complete=False, content_digest="", manifest_digest=wanted.manifest_digest,
                dataset=wanted.dataset or self.meta.dataset,
            )  # fmt: skip
            publish_root(self.work, root_document(self.work, self.meta))
            self._fold()
            (self.work / JOURNAL).unlink(missing_ok=True)

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

    def record(self, record: ShardRecord, *, sync: bool = True) -> None:
        """Journal a finished shard; it counts from here on, without ``sync`` once the disk has it.

        Raises:
            StoreBusyError: the lease was lost to another writer, after a long sleep of this one.
            StoreError: the disk is full or fails.
        """
        self._lease.require_held()
        with writing(self.work):
            self._journal.append(record, sync=sync)
        self._changed = True
        self._shards[_key(record.shard)] = record.sha256
        for name in CLIP_ARRAYS:
            if name != "clip_id":
                getattr(self.arrays, name)[record.rows] = getattr(record, name)

    def finish(self, run: Mapping[str, Any], listener: Listener = ignore) -> StoreMeta:
        """Fold the journal, sign the content, publish the store as complete.

        Args:
            run: provenance of this run, added to the store's list.

        Raises:
            StoreError: some shards are still pending; the disk is full or fails.
        """
        if pending := self.pending_shards():
            raise StoreError(f"{self.path}: {len(pending)} shards are still pending; the store cannot be finished.")
        self._lease.require_held()
        content = digest_content(self.arrays.clip_id.tolist(), self.arrays.clip_digest)
        runs = (*self.meta.runs, run) if self._changed or not self.meta.complete else self.meta.runs
        self.meta = dataclasses.replace(self.meta, complete=True, content_digest=content, runs=runs)
        with writing(self.path):
            self._fold()
            self._journal.clear()
            if self.path != self.work:
                self._pack(listener)
        return self.meta

    def _pack(self, listener: Listener) -> None:
        """The HDF5 file from the working folder, which then goes at once."""
        with open_store(self.work) as reader:
            write_hdf5(self.path, reader, self.meta, self._codec, listener)
        gone = self.work.rename(self.work.with_name(f".{self.work.name}.{uuid.uuid4().hex[:12]}.tmp"))
        shutil.rmtree(gone, ignore_errors=True)

    def _fold(self) -> None:
        """Small arrays, cards, digest list, root: in this order; only then may the journal be forgotten."""
        replace_small_arrays(self.work, self.arrays, self.meta)
        root = root_document(self.work, self.meta)
        sign(self.work, self.meta, self.arrays, known=self._shards, root=root)
        publish_root(self.work, root)


def _key(shard: int) -> str:
    return f"{FEATURES}/{shard_key(shard)}"


def _check_ids(clip_ids: np.ndarray, where: Path) -> None:
    ids = clip_ids.tolist()
    if not all_differ(ids):
        twice = next(clip_id for clip_id, count in Counter(ids).items() if count > 1)
        raise StoreError(f"{where}: the clip_id {twice!r} stands twice; ids must be unique.")
    if not are_storable(ids) and (odd := [text for text in ids if not text or storable_text(text) != text]):
        raise StoreError(
            f"{where}: the clip_id {odd[0][:200]!r} is not text that a store can keep (valid UTF-8, no NUL, not too "
            "long). Rename the file, or give its clip another id in the clip table."
        )
