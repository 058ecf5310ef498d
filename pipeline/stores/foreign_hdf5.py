"""A look into an HDF5 file of others: its datasets, without reading any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from pipeline.errors import StoreError
from pipeline.stores.foreign_facts import MAX_ARRAYS, ForeignArray, Found, make_array
from pipeline.stores.guard import open_regular
from pipeline.stores.hdf5_probe import require_safe
from pipeline.stores.schema import DAMAGE
from pipeline.texts import shown

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_LINKS = 10_000
_MOST_DEPTH = 8
_MOST_TEXT = 100


def is_hdf5(path: Path) -> bool:
    """Whether a file begins as HDF5 does."""
    with open_regular(path, follow=True) as handle:
        return handle.read(len(_SIGNATURE)) == _SIGNATURE


def look_hdf5(path: Path) -> Found:
    """Datasets that lie in the file itself; links elsewhere are not followed.

    Raises:
        StoreError: HDF5 cannot open it, or does not survive it.
    """
    require_safe(path)
    found = Found("HDF5", disk_bytes=path.stat().st_size)
    try:
        with h5py.File(path, "r", locking=False) as file:
            found.attributes = _attributes(file)
            _walk(file, found)
    except DAMAGE as error:
        raise StoreError(f"{path} cannot be read as HDF5: {shown(str(error))}") from error
    return found


def _attributes(file: h5py.File) -> dict[str, Any]:
    """Names of attributes, and the value of ``format``, which tells our own stores."""
    names: list[str] = []

    def take(name: bytes, *_: object) -> bool | None:
        names.append(name.decode("utf-8", "replace"))
        return True if len(names) >= MAX_ARRAYS else None

    h5py.h5a.iterate(file.id, take)
    found: dict[str, Any] = dict.fromkeys(names)
    if "format" in file.attrs and file.attrs.get_id("format").get_storage_size() <= _MOST_TEXT:
        value = file.attrs["format"]
        found["format"] = value.strip('"') if isinstance(value, str) else None
    return found


def _walk(file: h5py.File, found: Found) -> None:
    places: list[tuple[h5py.Group, str]] = [(file, "")]
    seen, left = {_address(file)}, _MOST_LINKS
    while places:
        group, inside = places.pop()
        names: list[bytes] = []

        def take(name: bytes, names: list[bytes] = names, most: int = left) -> bool | None:
            names.append(name)
            return True if len(names) >= most else None

        group.id.links.iterate(take)
        left -= len(names)
        for raw in names:
            name = raw.decode("utf-8", "surrogateescape")
            item = group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None
            if isinstance(item, h5py.Dataset):
                found.arrays.append(_array(item, f"{inside}{name}"))
            elif isinstance(item, h5py.Group) and _address(item) not in seen and inside.count("/") < _MOST_DEPTH:
                seen.add(_address(item))
                places.append((item, f"{inside}{name}/"))
            if len(found.arrays) > MAX_ARRAYS:
                break
        if left <= 0 or len(found.arrays) > MAX_ARRAYS:
            found.complete = False
            return


def _address(item: h5py.Group) -> int:
    return int(h5py.h5o.get_info(item.id).addr)


def _array(dataset: h5py.Dataset, name: str) -> ForeignArray:
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(number)[3].decode("utf-8", "replace") for number in range(plist.get_nfilters())]
    kind = "text" if h5py.check_string_dtype(dataset.dtype) else str(dataset.dtype)
    item_bytes = None if dataset.dtype.hasobject else dataset.dtype.itemsize
    return make_array(
        name, dataset.shape, kind, item_bytes, chunks=dataset.chunks, compression=", ".join(filters) or "none",
        disk_bytes=int(dataset.id.get_storage_size()),
    )  # fmt: skip
