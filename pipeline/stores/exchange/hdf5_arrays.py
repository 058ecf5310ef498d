"""Datasets of an HDF5 file from anyone: found without leaving the file, ids read in blocks."""

from __future__ import annotations

import math

import h5py

from pipeline.errors import StoreError
from pipeline.stores.exchange import npy
from pipeline.stores.guard import TextBudget
from pipeline.stores.hdf5_guard import require_inflatable
from pipeline.stores.schema import DAMAGE, MAX_CLIPS, MAX_STRING

#: Rows read at once: at least, and at most where a chunk has more, which would else be inflated again and again.
_TEXTS_AT_ONCE, _MOST_AT_ONCE = 4096, 1 << 16
_MOST_TEXTS = 1 << 22
_MOST_DEPTH = 8


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


def read_ids(dataset: h5py.Dataset, where: str, name: str) -> list[str]:
    """Texts of any or of fixed length, or whole numbers, block by block.

    Raises:
        StoreError: no list of ids, damaged, or more text than any store has.
    """
    about = h5py.check_string_dtype(dataset.dtype)
    n = len(dataset) if dataset.ndim == 1 else MAX_CLIPS + 1
    if n > MAX_CLIPS or (about is None and dataset.dtype.kind not in "iu"):
        raise StoreError(f"{where}: {name} is {dataset.dtype} of shape {dataset.shape}, not a list of ids.")
    large = dataset.dtype.itemsize > MAX_STRING or (dataset.chunks and math.prod(dataset.chunks) > _MOST_TEXTS)
    if large or dataset.compression not in (None, "gzip"):
        raise StoreError(f"{where}: {name} is stored in a way that is not read: write it plainly, or with gzip.")
    step = min(max(_TEXTS_AT_ONCE, *(dataset.chunks or (0,))), _MOST_AT_ONCE)
    budget, found = TextBudget(where, name, n, unique=False), []
    try:
        for first in range(0, n, step):
            require_inflatable(dataset, where, name, first, min(first + step, n))
            block = dataset[first : first + step].tolist()
            texts = [item.decode() if isinstance(item, bytes) else str(item) for item in block]
            budget.add(texts)
            found += texts
    except UnicodeDecodeError:
        raise StoreError(f"{where}: {name} holds bytes that are no UTF-8.") from None
    except DAMAGE as error:
        raise StoreError(f"{where}: {name} is damaged: {error}") from error
    return found
