"""An HDF5 file with a dataset of features and one of ids, from anyone.

Links to other files, virtual and external datasets and filters beyond deflate and shuffle are refused; chunks
are looked at before HDF5 inflates them, texts are counted as they come.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np

from pipeline.errors import StoreError
from pipeline.stores.exchange import npy
from pipeline.stores.exchange.dense import Arrays, DenseSource, whole_numbers
from pipeline.stores.exchange.numpy_files import N_FRAMES
from pipeline.stores.exchange.sources import FEATURE_NAMES, ID_NAMES, Cast, choose
from pipeline.stores.guard import TextBudget, open_regular
from pipeline.stores.hdf5_guard import require_inflatable, require_numbers
from pipeline.stores.hdf5_probe import require_safe
from pipeline.stores.schema import DAMAGE, MAX_CLIPS, MAX_STRING

_TEXTS_AT_ONCE = 4096
_MOST_TEXTS = 1 << 22
_MOST_DEPTH = 8


class Hdf5Source(DenseSource):
    """Datasets by name, such as ``features`` or ``group/embeddings``."""

    kind = "hdf5"

    def __init__(self, path: Path, cast: Cast, stack: ExitStack, arrays: Arrays) -> None:
        super().__init__(path, cast, stack)
        open_regular(path, follow=True).close()
        try:
            require_safe(Path(path))
            self._file = stack.enter_context(h5py.File(path, "r", locking=False))
            there = sorted(self._file)
        except DAMAGE as error:
            raise StoreError(f"{path} cannot be opened as HDF5 ({error}): not HDF5, or cut short.") from error
        chosen = arrays.features or choose([name for name in there if name not in ID_NAMES], FEATURE_NAMES)
        if not chosen:
            raise StoreError(f"{path} has {npy.listed(there)}: say which holds the features, --features-name NAME.")
        self._features = find_dataset(self._file, chosen, str(path))
        self._where = f"{path}: {chosen}"
        self._take()
        id_name = arrays.ids or next((name for name in ID_NAMES if name in there), "")
        self.names = arrays.names
        if arrays.names is None and id_name:
            self.names = _read_ids(find_dataset(self._file, id_name, str(path)), str(path), id_name)
        if N_FRAMES in there:
            self.n_frames = self._read_n_frames(find_dataset(self._file, N_FRAMES, str(path)))

    def _take(self) -> None:
        """Shape and type of the features, within what may be read."""
        try:
            require_numbers(self._features, str(self.path), self._where)
        except DAMAGE as error:
            raise StoreError(f"{self._where} is damaged: {error}") from error
        about = npy.Header(self._features.shape, False, self._features.dtype, 0)
        self._take_header(about, self._where)

    def _read_n_frames(self, dataset: h5py.Dataset) -> np.ndarray:
        try:
            require_numbers(dataset, str(self.path), N_FRAMES)
            if dataset.ndim != 1 or len(dataset) > MAX_CLIPS:
                raise StoreError(f"{self.path}: {N_FRAMES} has shape {dataset.shape}, not a list of whole numbers.")
            require_inflatable(dataset, str(self.path), N_FRAMES, 0, len(dataset))
            return whole_numbers(np.asarray(dataset[...]), f"{self.path}: {N_FRAMES}")
        except DAMAGE as error:
            raise StoreError(f"{self.path}: {N_FRAMES} is damaged: {error}") from error

    def block(self, first: int, stop: int) -> np.ndarray:
        """See :meth:`DenseSource.block`."""
        try:
            require_inflatable(self._features, str(self.path), self._where, first, stop)
            return np.asarray(self._features[first:stop])
        except DAMAGE as error:
            raise StoreError(f"{self._where}: rows {first} to {stop - 1} are damaged: {error}") from error


def find_dataset(file: h5py.File, name: str, where: str) -> h5py.Dataset:
    """A dataset that lies in this file itself, by its path in it.

    Raises:
        StoreError: there is none, or a link on the way leads elsewhere.
    """
    place: object = file
    parts = [part for part in name.split("/") if part]
    for part in parts[:_MOST_DEPTH]:
        try:
            own = isinstance(place, h5py.Group) and isinstance(place.get(part, getlink=True), h5py.HardLink)
            place = place[part] if own else None  # type: ignore[index]
        except DAMAGE as error:
            raise StoreError(f"{where}: {name!r} is damaged: {error}") from error
    if not isinstance(place, h5py.Dataset) or len(parts) > _MOST_DEPTH or place.shape is None:
        raise StoreError(f"{where} has no dataset {name!r} of its own; it has {npy.listed(sorted(file))}.")
    if place.external or place.is_virtual:
        raise StoreError(f"{where}: {name!r} keeps its numbers in other files, which are not followed: copy them in.")
    return place


def _read_ids(dataset: h5py.Dataset, where: str, name: str) -> list[str]:
    """Texts of any or of fixed length, or whole numbers, block by block."""
    about = h5py.check_string_dtype(dataset.dtype)
    n = len(dataset) if dataset.ndim == 1 else MAX_CLIPS + 1
    if n > MAX_CLIPS or (about is None and dataset.dtype.kind not in "iu"):
        raise StoreError(f"{where}: {name} is {dataset.dtype} of shape {dataset.shape}, not a list of ids.")
    large = dataset.dtype.itemsize > MAX_STRING or (dataset.chunks and math.prod(dataset.chunks) > _MOST_TEXTS)
    if large or dataset.compression not in (None, "gzip"):
        raise StoreError(f"{where}: {name} is stored in a way that is not read: write it plainly, or with gzip.")
    budget, found = TextBudget(where, name, n, unique=False), []
    try:
        for first in range(0, n, _TEXTS_AT_ONCE):
            require_inflatable(dataset, where, name, first, min(first + _TEXTS_AT_ONCE, n))
            block = dataset[first : first + _TEXTS_AT_ONCE].tolist()
            texts = [item.decode() if isinstance(item, bytes) else str(item) for item in block]
            budget.add(texts)
            found += texts
    except UnicodeDecodeError:
        raise StoreError(f"{where}: {name} holds bytes that are no UTF-8.") from None
    except DAMAGE as error:
        raise StoreError(f"{where}: {name} is damaged: {error}") from error
    return found
