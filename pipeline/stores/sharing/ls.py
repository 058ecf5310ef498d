"""What stores lie at a shared place: by its catalogue, else by looking."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import EastError, StoreError
from pipeline.events import Listener, Note, Warned, ignore
from pipeline.stores.opening import open_store
from pipeline.stores.schema import HDF5_SUFFIXES
from pipeline.stores.sharing.catalogue import CATALOGUE, SUFFIXES, Entry, make_entry, megabytes, read_catalogue
from pipeline.stores.sharing.places import Place, find_place
from pipeline.texts import printable

COLUMNS = ("store", "mode", "dataset", "clips", "MB", "licence", "content digest")
_DEPTH = 2
_MOST_ENTRIES = 1000
_MOST_FOLDERS = 200
_MOST_STORES = 200


@dataclass(frozen=True)
class Listing:
    """The stores of a place; ``entry`` is None where a store could not be read, and ``why`` says so."""

    place: str
    catalogue: bool
    stores: tuple[tuple[str, Entry | None, str], ...]


def list_place(url: str, listener: Listener = ignore) -> Listing:
    """Read the catalogue of a place, or look for stores there.

    Raises:
        StoreError: there is neither a catalogue nor a list of files, or a catalogue that is not to be read.
    """
    place = find_place(url)
    entries = read_catalogue(place)
    if entries is not None:
        return Listing(place.address, True, tuple((entry.path, entry, "") for entry in entries))
    if place.entries("", 1) is None:
        raise StoreError(
            f"{url} has no {CATALOGUE}, and there is nothing there, or it cannot be listed. Ask its owners for the "
            "address of a store; east store push writes a catalogue."
        )
    paths = list(_look(place, "", _DEPTH, [_MOST_FOLDERS]))
    listener(Note(f"{url} has no {CATALOGUE}; {len(paths):,} stores were found up to {_DEPTH} folders below."))
    if len(paths) > _MOST_STORES:
        listener(Warned(f"Only the first {_MOST_STORES} are read."))
    return Listing(place.address, False, tuple(_read(place, path) for path in paths[:_MOST_STORES]))


def _look(place: Place, folder: str, depth: int, folders_left: list[int]) -> Iterator[str]:
    """Paths of what is named like a store."""
    for name in place.entries(folder, _MOST_ENTRIES) or ():
        path = f"{folder}/{name}".strip("/")
        if name.startswith("."):
            continue
        if path.endswith(SUFFIXES):
            yield path
        elif name.endswith("/") and depth > 0 and folders_left[0] > 0:
            folders_left[0] -= 1
            yield from _look(place, path, depth - 1, folders_left)


def _read(place: Place, path: str) -> tuple[str, Entry | None, str]:
    remote_file = path.endswith(HDF5_SUFFIXES) and "://" in place.address
    if remote_file:
        return path, None, "HDF5 is read once it is here"
    try:
        with open_store(place.below(path)) as reader:
            if not reader.meta.complete:
                return path, None, "not finished"
            return path, make_entry(path, reader, reader.n_bytes), ""
    except EastError as error:
        return path, None, str(error)


def as_rows(listing: Listing) -> list[tuple[str, ...]]:
    """Rows under :data:`COLUMNS`."""
    rows: list[tuple[str, ...]] = []
    for path, entry, why in listing.stores:
        if entry is None:
            rows.append((printable(path), "", "", "", "", "", printable(why)))
        else:
            digest = entry.content_digest[:12]
            sizes = (f"{entry.clips:,}", megabytes(entry.bytes))
            rows.append((path, entry.mode, entry.dataset, *sizes, entry.licence, digest))
    return rows


def to_json(listing: Listing) -> str:
    """The place, whether it has a catalogue, and its stores as a catalogue has them."""
    stores: list[dict[str, Any]] = []
    for path, entry, why in listing.stores:
        stores.append({"path": path, "unreadable": why} if entry is None else asdict(entry))
    about = {"place": listing.place, "catalogue": listing.catalogue, "stores": stores}
    return json.dumps(about, indent=2, ensure_ascii=False)
