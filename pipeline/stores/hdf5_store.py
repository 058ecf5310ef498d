"""The store in HDF5: packed from finished shards, renamed, then only read.

HDF5 cannot survive being killed while it is written, so it never is the working form.  The tree
is that of the Zarr store; root attributes are JSON texts, dimensions are named by scales.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import h5py
import numpy as np

from pipeline.errors import StoreError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, ignore
from pipeline.files import publishing
from pipeline.stores.codecs import PLAIN, Codec
from pipeline.stores.coordinates import TIME, TIME_ATTRIBUTES, frame_times
from pipeline.stores.gather import Chunks, Loaded, address_of
from pipeline.stores.guard import MAX_DOCUMENT_BYTES, load_json
from pipeline.stores.hdf5_file import calm_file
from pipeline.stores.hdf5_guard import read_texts, require_inflatable, require_numbers
from pipeline.stores.identity import Identity, require_same
from pipeline.stores.reader import ClipArrays, StoreReader, check_rows, require_plausible, require_small
from pipeline.stores.schema import ATTRIBUTES, CLIP_ARRAYS, DAMAGE, StoreMeta, parse_meta
from pipeline.stores.seal import SEALED, append_seal
from pipeline.stores.sharing.card import CARD, CROISSANT, render_card
from pipeline.stores.sharing.croissant import Files, render_croissant

_TEXT = h5py.string_dtype("utf-8")
_DIMENSIONS = ("clip", "frame", "channel")
_READ_BYTES = 1 << 25
_CHECKSUM_BYTES = 4
_CLIP_OVERHEAD_BYTES = 512


def write_hdf5(
    path: Path, source: StoreReader, meta: StoreMeta, codec: Codec = PLAIN, listener: Listener = ignore
) -> None:
    """Copy a whole store to an HDF5 file, published at once.

    Args:
        source: any reader; its features are copied shard by shard.
        meta: root attributes to write.
        codec: ``gzip`` compresses the features; a file that is written anew keeps what it had.
    """
    codec = _codec_of(path) if codec == PLAIN else codec
    task = f"pack {meta.name}"
    listener(TaskStarted(task, len(source), "clips"))
    canaries = source.canaries()
    n_bytes = source.n_bytes + len(source) * _CLIP_OVERHEAD_BYTES + sum(value.nbytes for value in canaries.values())
    _require_space(path.parent, n_bytes)
    with _disk_errors(), publishing(path) as draft:
        with calm_file(draft) as disk, h5py.File(disk, "w", libver=("v110", "v110")) as file:
            for key, value in (meta.attributes() | {SEALED: True}).items():
                file.attrs.create(key, json.dumps(value, sort_keys=True, ensure_ascii=False), dtype=_TEXT)
            features = _create_features(file, source, meta, codec)
            for rows in source.blocks():
                features[rows[0] : rows[-1] + 1] = source.read(rows)
                disk.require_written()
                listener(TaskAdvanced(task, len(rows)))
            _write_small(file, source, canaries)
            _write_time(file, meta)
            _write_cards(file, source, meta)
        append_seal(draft)
    listener(TaskFinished(task))


def _write_small(file: h5py.File, source: StoreReader, canaries: Mapping[str, np.ndarray]) -> None:
    for name, (_, kind) in CLIP_ARRAYS.items():
        values = getattr(source.arrays, name)
        if kind is str:
            encoded = [text.encode("utf-8", "surrogateescape") for text in values.tolist()]
            file.create_dataset(name, data=np.array(encoded, object), dtype=_TEXT)
        else:
            file.create_dataset(name, data=values, fletcher32=len(values) > 0)
        file[name].dims[0].label = "clip"
    for name, values in canaries.items():
        file.create_dataset(f"canary/{name}", data=values, fletcher32=True)


def _write_time(file: h5py.File, meta: StoreMeta) -> None:
    times = file.create_dataset(TIME, data=frame_times(meta), fletcher32=True)
    times.dims[0].label = "frame"
    for key, text in TIME_ATTRIBUTES.items():
        times.attrs.create(key, text, dtype=_TEXT)


def _write_cards(file: h5py.File, source: StoreReader, meta: StoreMeta) -> None:
    """The cards as texts; the one for programs cannot state the digest of the file that it lies in."""
    texts = {CARD: render_card(meta, source.arrays), CROISSANT: render_croissant(meta, source.arrays, Files(hdf5=True))}
    for name, text in texts.items():
        file.create_dataset(name, data=text.encode(), dtype=_TEXT)


def _require_space(folder: Path, n_bytes: int) -> None:
    """Refuse early what would not fit."""
    if shutil.disk_usage(folder).free < n_bytes:
        raise OSError(errno.ENOSPC, f"no space left on device for {n_bytes:,} bytes")


@contextmanager
def _disk_errors() -> Iterator[None]:
    """h5py raises RuntimeError where it cannot close a file; here it is an error of the disk like others."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(errno.EIO, f"HDF5 could not write ({error})") from error


def _create_features(file: h5py.File, source: StoreReader, meta: StoreMeta, codec: Codec) -> h5py.Dataset:
    chunk = (min(meta.chunk_clips, max(1, len(source))), meta.frames, meta.channels)
    packed = {"compression": "gzip", "compression_opts": codec.level, "shuffle": True} if codec.name == "gzip" else {}
    features = file.create_dataset(
        "features", source.shape, source.dtype, chunks=chunk, fletcher32=True, fillvalue=0, **packed
    )
    for axis, label in enumerate(_DIMENSIONS):
        features.dims[axis].label = label
    return features


def _codec_of(path: Path) -> Codec:
    """How the features of the file that is replaced are compressed."""
    if not path.is_file():
        return PLAIN
    with closing(Hdf5Reader(str(path))) as reader:
        return reader.codec


class Hdf5Reader(StoreReader):
    """A finished HDF5 store.  The file is opened anew in each process, so many may read at once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self._identity: Identity | None = None
        self._process = 0
        file = self._open()
        self.meta = parse_meta(_attributes(file, path), path)
        self.arrays = _read_small(file, path, self.meta.frames)
        features = _dataset(file, "features", path)
        try:
            require_numbers(features, path, "features")
        except DAMAGE as error:
            raise StoreError(f"{path}: features are damaged: {error}") from error
        if features.shape != self.shape or features.dtype != self.dtype:
            raise StoreError(f"{path}: features are not {self.dtype} {self.shape} as promised: damaged or forged.")
        self._chunk = features.chunks[0] if features.chunks else max(1, len(self))
        self._most_rows = max(self._chunk, _READ_BYTES // self.meta.clip_bytes)
        self._map = _map_file(path) if _is_plain(features, self._chunk) else None
        n_chunks = -(-len(self) // self._chunk)
        row_shape = (self.meta.frames, self.meta.channels)
        self._chunks = Chunks(n_chunks, self._chunk, row_shape, self.dtype, load=self._load)

    def _open(self) -> h5py.File:
        if self._file is None or self._process != os.getpid():
            try:
                if not Path(self.path).is_file():
                    raise StoreError(f"{self.path} cannot be opened as HDF5: it is no plain file.")
                self._file = h5py.File(self.path, "r", locking=False)
            except DAMAGE as error:
                raise StoreError(
                    f"{self.path} cannot be opened as HDF5 ({error}): not HDF5, or cut short. Extract it again."
                ) from error
            self._process, self._identity = os.getpid(), require_same(self.path, self._identity)
        return self._file

    @property
    def codec(self) -> Codec:
        """How the features are compressed."""
        features = self._open()["features"]
        return Codec("gzip", int(features.compression_opts)) if features.compression == "gzip" else PLAIN

    def read(self, rows: np.ndarray) -> np.ndarray:
        """See :meth:`StoreReader.read`."""
        rows = check_rows(rows, len(self))
        if self._map is not None:
            return self._chunks.gather(rows)
        out = np.empty((len(rows), self.meta.frames, self.meta.channels), self.dtype)
        for places in self._runs(rows):
            first, last = int(rows[places].min()), int(rows[places].max())
            out[places] = self._read_rows(first, last + 1)[rows[places] - first]
        return out

    def _read_rows(self, first: int, stop: int) -> np.ndarray:
        try:
            features = self._open()["features"]
            require_inflatable(features, self.path, "features", first, stop)
            return np.asarray(features[first:stop])
        except DAMAGE as error:
            raise StoreError(f"{self.path}: rows {first} to {stop - 1} are damaged: {error}") from error

    def _load(self, numbers: list[int], _: np.ndarray) -> Iterator[Loaded]:
        for number in numbers:
            content, owner = self._load_one(number, self._map)
            yield Loaded(number, address_of(content), owner)

    def _load_one(self, number: int, mapped: mmap.mmap | None) -> tuple[np.ndarray, object]:
        """One chunk where it lies in the file, once HDF5 itself has verified its checksum; and its owner."""
        first = number * self._chunk
        content = self._read_rows(first, min(first + self._chunk, len(self)))
        where = self._open()["features"].id.get_chunk_info_by_coord((first, 0, 0))
        n = self._chunk * self.meta.clip_bytes
        if mapped is None or where.byte_offset is None or where.filter_mask or where.size != n + _CHECKSUM_BYTES:
            return content, content
        view = np.frombuffer(mapped, np.uint8, content.nbytes, where.byte_offset)
        return (view, mapped) if view.tobytes() == content.tobytes() else (content, content)

    def _runs(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Places of rows that lie in neighbouring chunks and are read at once, in bounded memory."""
        order = np.argsort(rows, kind="stable")
        chunk, block = rows[order] // self._chunk, rows[order] // self._most_rows
        cuts = np.flatnonzero((np.diff(chunk) > 1) | (np.diff(block) > 0)) + 1
        return (places for places in np.split(order, cuts) if len(places))

    def canaries(self) -> dict[str, np.ndarray]:
        """See :meth:`StoreReader.canaries`."""
        folder = self._open().get("canary")
        if not isinstance(folder, h5py.Group):
            return {}
        require_small(self.path, len(folder), 0)
        found = {name: _dataset(folder, name, self.path) for name in folder}
        require_small(self.path, len(found), sum(int(dataset.nbytes or 0) for dataset in found.values()))
        return {name: _numbers(dataset, self.path, f"canary/{name}") for name, dataset in found.items()}

    def close(self) -> None:
        """Close the file; a later read opens it again, without the map."""
        with self._chunks.letting_go():
            self._map = None
            if self._file is not None and self._process == os.getpid():
                self._file.close()
            self._file = None


def _is_plain(features: h5py.Dataset, chunk_clips: int) -> bool:
    """Whether chunks lie in the file as they are, each followed by its checksum."""
    whole = features.chunks == (chunk_clips, *features.shape[1:]) and features.shape[0] > 0
    bare = features.compression is None and not features.shuffle and features.scaleoffset is None
    return bool(whole and bare and features.fletcher32 and features.dtype.newbyteorder("<") == features.dtype)


def _map_file(path: str) -> mmap.mmap:
    with Path(path).open("rb") as handle:
        return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)


def _attributes(file: h5py.File, where: str) -> dict[str, object]:
    found = {}
    try:
        for key, text in file.attrs.items():
            if key in ATTRIBUTES and isinstance(text, str) and len(text) <= MAX_DOCUMENT_BYTES:
                found[key] = load_json(text, f"{where}: attribute {key}")
    except DAMAGE as error:
        raise StoreError(f"{where}: the root attributes are damaged: {error}") from error
    return found


def _dataset(group: h5py.Group, name: str, where: str) -> h5py.Dataset:
    """A dataset that lies in this file itself; links to others are not followed.

    Raises:
        StoreError: there is none.
    """
    try:
        own = isinstance(group.get(name, getlink=True), h5py.HardLink)
        dataset = group[name] if own else None
    except DAMAGE as error:
        raise StoreError(f"{where}: {name!r} is damaged: {error}") from error
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise StoreError(f"{where} has no usable array {name!r}: damaged, or not a store of ours.")
    return dataset


def _read_small(file: h5py.File, where: str, frames: int) -> ClipArrays:
    made: dict[str, np.ndarray] = {}
    for name, (shape, kind) in CLIP_ARRAYS.items():
        dataset = _dataset(file, name, where)
        if dataset.ndim != 1 + len(shape) or dataset.shape[1:] != shape:
            raise StoreError(f"{where}: {name} has shape {dataset.shape}, expected (clips, {shape}).")
        require_plausible(where, len(dataset), dataset.id.get_storage_size())
        made[name] = read_texts(dataset, where, name) if kind is str else _numbers(dataset, where, name, np.dtype(kind))
    arrays = ClipArrays(**made)
    arrays.check(where, frames)
    return arrays


def _numbers(dataset: h5py.Dataset, where: str, name: str, kind: np.dtype | None = None) -> np.ndarray:
    try:
        require_numbers(dataset, where, name, kind)
        require_inflatable(dataset, where, name, 0, len(dataset) if dataset.ndim else 0)
        return np.asarray(dataset[...]).astype(kind or dataset.dtype, copy=False)
    except DAMAGE as error:
        raise StoreError(f"{where}: {name} is damaged: {error}") from error
