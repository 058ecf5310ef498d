"""Dropping clips from a store: it is written anew beside its place, without them, and changes places.

The store that is there is not touched until the other one is whole and synced.  Where the system can
exchange two folders in one step, there is a store at the place at every moment; elsewhere a kill
between two renames leaves the new one beside the place, whole, and the next run puts it there.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.errors import StoreError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, ignore
from pipeline.files import sync
from pipeline.stores.codecs import PLAIN, stored_codec
from pipeline.stores.digests import digest_clips
from pipeline.stores.disk import writing
from pipeline.stores.lease import Lease
from pipeline.stores.opening import open_store
from pipeline.stores.reader import ClipArrays, StoreReader
from pipeline.stores.schema import State
from pipeline.stores.shards import shard_key, write_shard
from pipeline.stores.shrinking import Smaller
from pipeline.stores.signing import sign
from pipeline.stores.target import aside_path, working_path
from pipeline.stores.zarr_store import FEATURES, creating, fill_new, root_document

_AT_FDCWD = -100
_EXCHANGE = 2


def drop_clips(path: Path, smaller: Smaller, listener: Listener = ignore) -> None:
    """Put the smaller store in the place of the one it was made from; it is unfinished until a run ends it.

    Of an HDF5 store this makes the working folder; the file stays until it is packed anew.

    Raises:
        StoreBusyError: a writer holds the store.
        StoreError: it changed since it was looked at; features that stay are damaged; a full disk.
    """
    work = working_path(path)
    with writing(work):
        settle(work)
        if not work.exists():
            with open_store(path) as reader:
                _write(reader, work, smaller, listener)
            return
        aside = aside_path(work)
        with Lease(work):
            remove_aside(work)
            with open_store(work) as reader:
                _write(reader, aside, smaller, listener)
            change_places(aside, work)
        remove_aside(work)


def settle(work: Path) -> None:
    """End a change of places that was killed between its two renames."""
    aside = aside_path(work)
    if aside.exists() and not work.exists():
        aside.rename(work)
        sync(work.parent)


def remove_aside(work: Path) -> None:
    """Remove what lies aside; under the name of a draft first, so that :func:`settle` never takes half of it."""
    gone = _draft_of(work)
    try:
        aside_path(work).rename(gone)
    except FileNotFoundError:
        return
    shutil.rmtree(gone, ignore_errors=True)


def exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system or the file system cannot."""
    names = os.fsencode(one), os.fsencode(other)
    try:
        library = ctypes.CDLL(None, use_errno=True)
        if sys.platform == "darwin":
            return int(library.renamex_np(*names, _EXCHANGE)) == 0
        return int(library.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _EXCHANGE)) == 0
    except (AttributeError, OSError):
        return False


def change_places(new: Path, old: Path, at_once: Callable[[Path, Path], bool] = exchange) -> None:
    """The folder ``new`` to the place of ``old``; afterwards the old one is at ``new``, or gone."""
    if not at_once(new, old):
        gone = _draft_of(old)
        old.rename(gone)
        settle(old)
        shutil.rmtree(gone, ignore_errors=True)
    sync(old.parent)


def _draft_of(path: Path) -> Path:
    """A name beside a store that the next run removes."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def _write(reader: StoreReader, path: Path, smaller: Smaller, listener: Listener) -> None:
    for name in ("clip_id", "state", "clip_digest"):
        if not np.array_equal(getattr(reader.arrays, name), getattr(smaller.before, name)):
            raise StoreError(f"{reader.path} was changed by another run just now. Start this one again.")
    _rename(reader, smaller)
    arrays, meta, task = smaller.arrays, smaller.meta, f"drop clips of {smaller.meta.name}"
    listener(TaskStarted(task, len(smaller.rows), "clips"))
    codec = stored_codec(Path(reader.path)) if Path(reader.path).is_dir() else PLAIN
    with creating(path) as draft:
        fill_new(draft, meta, arrays, reader.canaries(), codec)
        shards = {}
        for shard, first in enumerate(range(0, len(smaller.rows), meta.shard_clips)):
            rows = np.arange(first, min(first + meta.shard_clips, len(smaller.rows)))
            if arrays.clip_digest[rows].any():
                key = f"{FEATURES}/{shard_key(shard)}"
                features = _read(reader, smaller.rows[rows], arrays, rows)
                sizes = {"chunk_clips": meta.chunk_clips, "shard_clips": meta.shard_clips}
                shards[key] = write_shard(draft / key, features, codec=codec, **sizes)
            listener(TaskAdvanced(task, len(rows)))
        root = root_document(draft, meta)
        sign(draft, meta, arrays, known=shards, root=root)
    listener(TaskFinished(task))


def _rename(reader: StoreReader, smaller: Smaller) -> None:
    """Clip digests of those that go by another id now; they cover the id."""
    arrays, old_ids = smaller.arrays, smaller.before.clip_id[smaller.rows]
    renamed = np.flatnonzero((old_ids != arrays.clip_id) & arrays.clip_digest.any(axis=1))
    for first in range(0, len(renamed), smaller.meta.shard_clips):
        rows = renamed[first : first + smaller.meta.shard_clips]
        features = reader.read(smaller.rows[rows])
        _require_sound(reader, old_ids[rows].tolist(), arrays, rows, features)
        arrays.clip_digest[rows] = _digests(arrays.clip_id[rows].tolist(), arrays, rows, features)


def _digests(ids: list[str], arrays: ClipArrays, rows: np.ndarray, features: np.ndarray) -> np.ndarray:
    return digest_clips(ids, arrays.state[rows], arrays.failure[rows].tolist(), arrays.n_frames[rows], features)


def _require_sound(
    reader: StoreReader, ids: list[str], arrays: ClipArrays, rows: np.ndarray, features: np.ndarray
) -> None:
    sound = (_digests(ids, arrays, rows, features) == arrays.clip_digest[rows]).all(axis=1)
    if not sound.all():
        raise StoreError(
            f"{reader.path}: the features of {ids[int(np.argmin(sound))]!r} are not those that were stored, so nothing "
            "is dropped. east store verify names all damage; --repair has it made again."
        )


def _read(reader: StoreReader, there: np.ndarray, arrays: ClipArrays, here: np.ndarray) -> np.ndarray:
    """Features of rows, each held to its digest; those of pending clips as they are: they are checked when copied."""
    done = np.flatnonzero(arrays.state[here] != State.PENDING)
    try:
        features = reader.read(there)
    except StoreError:
        if len(done) == len(here):
            raise
        features = np.zeros((len(there), *reader.shape[1:]), reader.dtype)
        features[done] = reader.read(there[done])
    _require_sound(reader, arrays.clip_id[here[done]].tolist(), arrays, here[done], features[done])
    return features
