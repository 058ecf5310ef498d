"""The store in HDF5: packed from finished shards, renamed, then only read.

HDF5 cannot survive being killed while it is written, so it never is the working form.  The tree
is that of the Zarr store; root attributes are JSON texts, dimensions are named by scales.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np

from pipeline.errors import StoreError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, ignore
from pipeline.files import publishing
from pipeline.stores.reader import ClipArrays, StoreReader, check_rows
from pipeline.stores.schema import CLIP_ARRAYS, MAX_STRING, StoreMeta, parse_meta

_TEXT = h5py.string_dtype("utf-8")
_DIMENSIONS = ("clip", "frame", "channel")
_MAX_ATTRIBUTE = 1 << 24


def write_hdf5(path: Path, source: StoreReader, meta: StoreMeta, listener: Listener = ignore) -> None:
    """Copy a whole store to an HDF5 file, published at once.

    Args:
        source: any reader; its features are copied shard by shard.
        meta: root attributes to write.
    """
    with publishing(path) as draft, h5py.File(draft, "w", libver=("v110", "v110")) as file:
        for key, value in meta.attributes().items():
            file.attrs.create(key, json.dumps(value, sort_keys=True, ensure_ascii=False), dtype=_TEXT)
        _write_features(file, source, meta, listener)
        for name, (_, kind) in CLIP_ARRAYS.items():
            values = getattr(source.arrays, name)
            if kind is str:
                encoded = [text.encode("utf-8", "surrogateescape") for text in values.tolist()]
                file.create_dataset(name, data=np.array(encoded, object), dtype=_TEXT)
            else:
                file.create_dataset(name, data=values, fletcher32=len(values) > 0)
            file[name].dims[0].label = "clip"
        for name, values in source.canaries().items():
            file.create_dataset(f"canary/{name}", data=values, fletcher32=True)


def _write_features(file: h5py.File, source: StoreReader, meta: StoreMeta, listener: Listener) -> None:
    chunk = (min(meta.chunk_clips, max(1, len(source))), meta.frames, meta.channels)
    features = file.create_dataset("features", source.shape, source.dtype, chunks=chunk, fletcher32=True, fillvalue=0)
    for axis, label in enumerate(_DIMENSIONS):
        features.dims[axis].label = label
    task = f"pack {meta.name}"
    listener(TaskStarted(task, len(source), "clips"))
    for rows in source.blocks():
        features[rows[0] : rows[-1] + 1] = source.read(rows)
        listener(TaskAdvanced(task, len(rows)))
    listener(TaskFinished(task))


class Hdf5Reader(StoreReader):
    """A finished HDF5 store.  The file is opened anew in each process, so many may read at once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._file: h5py.File | None = None
        self._process = 0
        file = self._open()
        self.meta = parse_meta(_attributes(file, path), path)
        self.arrays = _read_small(file, path, self.meta.frames)
        features = file.get("features")
        if not isinstance(features, h5py.Dataset) or features.shape != self.shape or features.dtype != self.dtype:
            raise StoreError(f"{path}: features are not {self.dtype} {self.shape} as promised: damaged or forged.")
        if features.external or features.is_virtual:
            raise StoreError(f"{path}: features lie in other files; such links are not followed.")
        self._chunk = features.chunks[0] if features.chunks else len(self)

    def _open(self) -> h5py.File:
        if self._file is None or self._process != os.getpid():
            try:
                self._file = h5py.File(self.path, "r", locking=False)
            except OSError as error:
                raise StoreError(
                    f"{self.path} cannot be opened as HDF5 ({error}): not HDF5, or cut short. Extract it again."
                ) from error
            self._process = os.getpid()
        return self._file

    def read(self, rows: np.ndarray) -> np.ndarray:
        """See :meth:`StoreReader.read`."""
        rows = check_rows(rows, len(self))
        features = self._open()["features"]
        out = np.empty((len(rows), self.meta.frames, self.meta.channels), self.dtype)
        chunk = rows // self._chunk
        order = np.argsort(chunk, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(chunk[order]) > 1) + 1):
            if not len(places):
                continue
            first, last = int(rows[places].min()), int(rows[places].max())
            try:
                out[places] = features[first : last + 1][rows[places] - first]
            except OSError as error:
                raise StoreError(f"{self.path}: rows {first} to {last} are damaged: {error}") from error
        return out

    def canaries(self) -> dict[str, np.ndarray]:
        """See :meth:`StoreReader.canaries`."""
        folder = self._open().get("canary")
        if not isinstance(folder, h5py.Group):
            return {}
        return {name: np.asarray(value[...]) for name, value in folder.items() if isinstance(value, h5py.Dataset)}

    def close(self) -> None:
        """Close the file."""
        if self._file is not None and self._process == os.getpid():
            self._file.close()
        self._file = None


def _attributes(file: h5py.File, where: str) -> dict[str, object]:
    found = {}
    for key in file.attrs:
        text = file.attrs[key]
        if not isinstance(text, str) or len(text) > _MAX_ATTRIBUTE:
            continue
        try:
            found[key] = json.loads(text)
        except ValueError as error:
            raise StoreError(f"{where}: the root attribute {key!r} is not JSON: {error}") from error
    return found


def _read_small(file: h5py.File, where: str, frames: int) -> ClipArrays:
    made: dict[str, np.ndarray] = {}
    for name, (shape, kind) in CLIP_ARRAYS.items():
        dataset = file.get(name)
        if not isinstance(dataset, h5py.Dataset) or dataset.shape[1:] != shape or dataset.is_virtual:
            raise StoreError(f"{where} has no usable array {name!r}: damaged, or not a store of ours.")
        try:
            if kind is str:
                made[name] = np.array([_text(value) for value in dataset[...]], object)
            else:
                made[name] = np.asarray(dataset[...]).astype(kind, copy=False)
        except (OSError, UnicodeDecodeError, TypeError) as error:
            raise StoreError(f"{where}: {name} is damaged: {error}") from error
    arrays = ClipArrays(**made)
    arrays.check(where, frames)
    return arrays


def _text(value: object) -> str:
    if not isinstance(value, bytes) or len(value) > 4 * MAX_STRING:
        raise TypeError("not a short text")
    return value.decode("utf-8", "surrogateescape")
