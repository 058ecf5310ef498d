"""Stores that are not ours: what kind they are, their arrays, and how to bring them in.

Metadata are read, never data, and by parsers of our own with limits on everything: such a store
may come from anyone.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.stores.foreign_facts import MAX_ARRAYS, Found
from pipeline.stores.foreign_hdf5 import is_hdf5, look_hdf5
from pipeline.stores.foreign_zarr import look_zarr, look_zarr_url
from pipeline.stores.schema import FORMAT, HDF5_SUFFIXES

_HDF5 = "east store import FILE.h5 OUT.zarr --card CARD.toml"
_ZARR = "write the array as NAME.npz (numpy.savez), then: east store import NAME.npz OUT.zarr --card CARD.toml"


def describe_foreign(path: str) -> dict[str, Any] | None:
    """Facts about a store of others, as plain JSON values; None where it is none, or is one of ours.

    Raises:
        StoreError: metadata that cannot be read, or a store of ours under a name that hides it.
    """
    found = _look(path)
    if found is None:
        return None
    if found.attributes.get("format") == FORMAT:
        if found.format == "HDF5" and not path.endswith(HDF5_SUFFIXES):
            raise StoreError(f"{path} is an EAsT store in HDF5, but its name does not end in .h5: rename it.")
        return None
    return {
        "kind": "foreign",
        "path": path,
        "format": found.format,
        "what": f"{found.format}, no EAsT store: it says nothing of extractor, clips and licences that is understood",
        "import": _HDF5 if found.format == "HDF5" else _ZARR,
        "arrays": [asdict(array) for array in found.arrays[:MAX_ARRAYS]],
        "all_arrays_shown": found.complete and len(found.arrays) <= MAX_ARRAYS,
        "attributes": sorted(map(str, found.attributes))[:MAX_ARRAYS],
        "disk_bytes": found.disk_bytes,
        "memory_bytes": sum(array.memory_bytes or 0 for array in found.arrays),
    }


def _look(path: str) -> Found | None:
    if "://" in path:
        return look_zarr_url(path)
    place = Path(path)
    if place.is_dir():
        return look_zarr(place)
    return look_hdf5(place) if place.is_file() and is_hdf5(place) else None
