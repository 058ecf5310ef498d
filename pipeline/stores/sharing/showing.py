"""The card of any store that can be opened, printed or written to a folder."""

from __future__ import annotations

from pathlib import Path

from pipeline.files import publish_bytes, sha256_of
from pipeline.stores import sums
from pipeline.stores.disk import writing
from pipeline.stores.opening import open_store
from pipeline.stores.schema import HDF5_SUFFIXES
from pipeline.stores.sharing.card import CARD, CROISSANT, render_card
from pipeline.stores.sharing.croissant import Files, render_croissant


def make_cards(path: str) -> dict[str, str]:
    """``README.md`` and ``croissant.json`` of a store, made from its metadata, finished or not.

    Raises:
        StoreError: nothing there, or not a store.
    """
    return {name: make_card(path, name) for name in (CARD, CROISSANT)}


def make_card(path: str, name: str = CARD) -> str:
    """One of the two; the one for programs digests the whole file of an HDF5 store.

    Raises:
        StoreError: nothing there, or not a store.
    """
    with open_store(path) as reader:
        if name == CARD:
            return render_card(reader.meta, reader.arrays)
        return render_croissant(reader.meta, reader.arrays, _files(path))


def show_card(path: str, *, croissant: bool = False, out: Path | None = None) -> str:
    """The text to print: one of the cards, or where both were written.

    Raises:
        StoreError: nothing there, not a store, or ``out`` cannot be written.
    """
    if out is None:
        return make_card(path, CROISSANT if croissant else CARD).rstrip("\n")
    cards = make_cards(path)
    with writing(out):
        for name, text in cards.items():
            publish_bytes(out / name, text.encode())
    return "\n".join(str(out / name) for name in cards)


def _files(path: str) -> Files:
    """Where the bytes lie, beside a card that lies outside."""
    place, name = Path(path), path.rstrip("/").rpartition("/")[2]
    if path.endswith(HDF5_SUFFIXES):
        return Files({name: sha256_of(place)}, hdf5=True)
    return Files(sums.read(place) if place.is_dir() else {}, store=name)
