"""An HDF5 file with a dataset of features and one of ids, from anyone.

Links to other files, virtual and external datasets and filters beyond deflate and shuffle are refused; chunks
are looked at before HDF5 inflates them, texts are counted as they come.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np

from pipeline.errors import StoreError
from pipeline.stores.exchange import npy
from pipeline.stores.exchange.dense import Arrays, DenseSource, whole_numbers
from pipeline.stores.exchange.hdf5_arrays import find_dataset, read_ids
from pipeline.stores.exchange.numpy_files import N_FRAMES
from pipeline.stores.exchange.sources import FEATURE_NAMES, ID_NAMES, Cast, choose
from pipeline.stores.guard import open_regular
from pipeline.stores.hdf5_guard import require_inflatable, require_numbers
from pipeline.stores.hdf5_probe import require_safe
from pipeline.stores.schema import DAMAGE, MAX_CLIPS


class Hdf5Source(DenseSource):
    """Datasets by name, such as ``features`` or ``group/embeddings``."""

    kind = "hdf5"

    def __init__(self, path: Path, cast: Cast, stack: ExitStack, arrays: Arrays) -> None:
        super().__init__(path, cast, stack)
        open_regular(path, follow=True).close()
        try:
            require_safe(Path(path), names=_to_be_read(arrays))
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
            self.names = read_ids(find_dataset(self._file, id_name, str(path)), str(path), id_name)
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


def _to_be_read(arrays: Arrays) -> list[str]:
    """Names of datasets that are read where they are there."""
    ids = [] if arrays.names is not None else [arrays.ids] if arrays.ids else ID_NAMES
    return [*ids, N_FRAMES, *([arrays.features] if arrays.features else [])]
