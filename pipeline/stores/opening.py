"""Opening a store, whatever its format, and writing a small one at once."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import EastError, StoreError
from pipeline.stores.hdf5_probe import require_safe
from pipeline.stores.hdf5_store import Hdf5Reader
from pipeline.stores.reader import StoreReader
from pipeline.stores.schema import HDF5_SUFFIXES
from pipeline.stores.sharing.places import explain, require_client
from pipeline.stores.zarr_reader import ZarrReader
from pipeline.texts import shown


def open_store(path: str | Path) -> StoreReader:
    """Open a store for reading: a ``.zarr`` folder, an ``.h5`` file, or the URL of a Zarr store.

    Raises:
        StoreError: nothing there, not a store, damaged, or of a newer format.
    """
    text = str(path)
    if "://" not in text and not _exists(text):
        raise StoreError(f"There is no store at {shown(text, 4096)[1:-1]}.")
    if text.endswith(HDF5_SUFFIXES):
        if "://" in text:
            raise StoreError(
                f"{text}: HDF5 stores are read from a disk only. Fetch the file first, or share it as Zarr."
            )
        require_safe(Path(text))
        return Hdf5Reader(text)
    return _open_remote(text) if "://" in text else ZarrReader(text)


def _open_remote(url: str) -> StoreReader:
    """What client libraries raise, in words: each has kinds of its own."""
    require_client(url)
    try:
        return ZarrReader(url)
    except EastError:
        raise
    except Exception as error:
        raise StoreError(f"{url} cannot be opened: {explain(error)[0]}") from error


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except (OSError, ValueError):  # a name too long, a NUL
        return False
