"""Writing a store that is made from others: shard by shard, resumable, with its descent recorded.

Every verb that makes a store from stores (merge, subset, convert, pool, import) describes it as a
:class:`Derivation` and lets :func:`write_derived` do the writing.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import provenance
from pipeline.errors import StoreError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, ignore
from pipeline.stores.codecs import PLAIN, Codec
from pipeline.stores.journal import ShardRecord
from pipeline.stores.licensing import covered_licences
from pipeline.stores.opening import open_store
from pipeline.stores.reader import ClipArrays, StoreReader
from pipeline.stores.schema import State, StoreMeta
from pipeline.stores.target import ShardTarget, working_path
from pipeline.stores.writer import StoreWriter
from pipeline.texts import one_line

Read = Callable[[np.ndarray], np.ndarray]
_THREADS = 4
_AHEAD_BYTES = 1 << 27


@dataclass(frozen=True, eq=False)
class Derivation:
    """A store to be made from others.

    Attributes:
        meta: its root attributes; fingerprint, ``complete`` and ``content_digest`` are filled in here,
            ``derived`` must say what it is made from (see :func:`descent`).
        arrays: its rows, each done or failed; ``clip_digest`` is computed anew.
        read: features of rows of the *new* store, [rows, frames, channels] of a floating type.
        canaries: arrays under ``canary/``; empty where they would not fit the new numbers.
        codec: how the features are compressed.
    """

    meta: StoreMeta
    arrays: ClipArrays
    read: Read
    canaries: Mapping[str, np.ndarray] = field(default_factory=dict)
    codec: Codec = PLAIN


def descent(verb: str, *sources: StoreReader, **settings: Any) -> dict[str, Any]:
    """The root attribute ``derived``: how a store was made, and from what, without any path.

    Licences of all sources, and of what those were made from, are carried along.
    """
    return {"verb": verb, "sources": [_source(source.meta) for source in sources], "settings": settings}


def _source(meta: StoreMeta) -> dict[str, Any]:
    names = ("uuid", "content_digest", "fingerprint", "extractor", "output")
    about: dict[str, Any] = {name: getattr(meta, name) for name in names}
    about["dataset"] = {key: one_line(meta.dataset.get(key)) for key in ("name", "version", "licence", "citation")}
    return about | {"licences": [list(pair) for pair in covered_licences(meta)]}


def require_finished(reader: StoreReader) -> None:
    """Refuse a source that is not complete.

    Raises:
        StoreError: says how many clips are pending, and that extraction finishes them.
    """
    pending = int((reader.state == State.PENDING).sum())
    if pending or not reader.meta.complete:
        raise StoreError(
            f"{reader.path} is not finished: {pending:,} of its {len(reader):,} clips are pending. Let east extract "
            "finish it first (the same command goes on where it stopped)."
        )


def write_derived(path: Path, derivation: Derivation, listener: Listener = ignore) -> StoreMeta:
    """Write the store; a run that was interrupted goes on where it stopped.

    Raises:
        StoreError: a finished store is at ``path``, or an unfinished one of other descent; a value
            that does not fit the type; a disk that is full or may not be written.
        StoreBusyError: another process is writing it.
    """
    _require_free(path, derivation.meta)
    arrays, task = derivation.arrays, f"write {derivation.meta.name}"
    meta = dataclasses.replace(derivation.meta, complete=False, content_digest="", runs=())
    make_canaries, codec = (lambda: dict(derivation.canaries)), derivation.codec
    with StoreWriter(path, meta, arrays.clip_id, make_canaries=make_canaries, codec=codec) as writer:
        if not np.array_equal(writer.arrays.clip_id, arrays.clip_id):
            raise StoreError(f"{path} holds an unfinished store of other clips. Remove it, or name another path.")
        size, n = writer.target.shard_clips, len(arrays.clip_id)
        parts = {shard: np.arange(shard * size, min((shard + 1) * size, n)) for shard in writer.pending_shards()}
        listener(TaskStarted(task, sum(map(len, parts.values())), "clips"))
        with closing(_written(writer.target, derivation, parts)) as records:
            for record in records:
                writer.record(record, sync=False)  # what a power cut takes is copied again
                listener(TaskAdvanced(task, len(record)))
        listener(TaskFinished(task))
        return writer.finish(provenance.describe(verb=derivation.meta.derived.get("verb", "")), listener)


def _written(target: ShardTarget, derivation: Derivation, parts: Mapping[int, np.ndarray]) -> Generator[ShardRecord]:
    """Records of shards in order: read here, written by threads, since a disk syncs several files as fast as one."""
    arrays = derivation.arrays
    ahead = max(1, min(_THREADS, _AHEAD_BYTES // max(1, target.shard_clips * derivation.meta.clip_bytes)))
    waiting: deque[Future[ShardRecord]] = deque()
    with ThreadPoolExecutor(ahead, thread_name_prefix="write") as pool:
        for shard, rows in parts.items():
            write = partial(
                target.write, shard,
                clip_ids=arrays.clip_id[rows].tolist(), features=derivation.read(rows), n_frames=arrays.n_frames[rows],
                state=arrays.state[rows], failure=arrays.failure[rows].tolist(),
                file_digest=arrays.file_digest[rows], samples_digest=arrays.samples_digest[rows],
            )  # fmt: skip
            waiting.append(pool.submit(write))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _require_free(path: Path, meta: StoreMeta) -> None:
    """Nothing is there, or the unfinished beginning of the same work."""
    work = working_path(path)
    if path.exists() and path != work:
        raise StoreError(f"{path} is there already; nothing is overwritten. Remove it, or name another path.")
    if not work.exists():
        return
    with open_store(work) as found:
        if found.meta.complete and path == work:
            raise StoreError(f"{path} is there already; nothing is overwritten. Remove it, or name another path.")
        if dict(found.meta.derived) != dict(meta.derived):
            raise StoreError(
                f"{path} holds an unfinished store that was made in another way. Remove it, or name another path."
            )
