"""The card of any store that can be opened, printed or written to a folder."""

from __future__ import annotations

from pathlib import Path

from pipeline.files import publish_bytes
from pipeline.stores import sums
from pipeline.stores.disk import writing
from pipeline.stores.opening import open_store
from pipeline.stores.sharing.card import CARD, CROISSANT, card_of
from pipeline.stores.sharing.croissant import render_croissant


def make_cards(path: str) -> dict[str, str]:
    """``README.md`` and ``croissant.json`` of a store, made from its metadata, finished or not.

    Raises:
        StoreError: nothing there, or not a store.
    """
    with open_store(path) as reader:
        digests = sums.read(Path(path)) if Path(path).is_dir() else {}
        return {CARD: card_of(reader), CROISSANT: render_croissant(reader.meta, reader.arrays, digests)}


def show_card(path: str, *, croissant: bool = False, out: Path | None = None) -> str:
    """The text to print: one of the cards, or where both were written.

    Raises:
        StoreError: nothing there, not a store, or ``out`` cannot be written.
    """
    cards = make_cards(path)
    if out is None:
        return cards[CROISSANT if croissant else CARD].rstrip("\n")
    with writing(out):
        for name, text in cards.items():
            publish_bytes(out / name, text.encode())
    return "\n".join(str(out / name) for name in cards)
