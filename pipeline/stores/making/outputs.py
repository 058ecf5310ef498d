"""Where a new store goes, and what it may not overwrite."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import SettingError, StoreError
from pipeline.stores.schema import HDF5_SUFFIXES

_SUFFIXES = (".zarr", *HDF5_SUFFIXES)


def require_output(out: Path, sources: Sequence[str]) -> None:
    """Refuse a place that no store can be written to.

    Raises:
        SettingError: the suffix says neither Zarr nor HDF5.
        StoreError: the place is one of the sources, or lies inside one.
    """
    if out.suffix not in _SUFFIXES:
        raise SettingError(f"{out}: the suffix says the format: .zarr for a Zarr folder, .h5 for one HDF5 file.")
    for source in sources:
        if "://" in source:
            continue
        place, new = Path(source).resolve(), out.resolve()
        if new == place or place in new.parents:
            raise StoreError(f"{out} is, or lies inside, the source {source}. Name another path.")


def named(ids: Sequence[str], shown: int = 3) -> str:
    """The first ids for a message.

    >>> named(["a", "b"])
    "'a', 'b'"
    >>> named(["a", "b", "c", "d"])
    "'a', 'b', 'c', ..."
    """
    return ", ".join(repr(text) for text in ids[:shown]) + (", ..." if len(ids) > shown else "")
