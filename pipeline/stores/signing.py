"""The cards and the digest list of a Zarr store, written together whenever it is folded.

The cards lie in the folder of an array, because Zarr implementations warn of foreign files in
groups.  The list names them, so they are written first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from pipeline.files import publish_bytes
from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import StoreMeta
from pipeline.stores.sharing.card import CARD, CROISSANT, render_card
from pipeline.stores.sharing.croissant import Files, render_croissant
from pipeline.stores.sums import SUMS, collect, listing

_FOLDER = "features"
CARDS = (f"{_FOLDER}/{CARD}", f"{_FOLDER}/{CROISSANT}")


def sign(folder: Path, meta: StoreMeta, arrays: ClipArrays, *, known: Mapping[str, str], root: bytes) -> None:
    """Write cards and digest list.

    Args:
        meta, arrays: what the store is about to say.
        known: digests of shards by path inside the store.
        root: what the root's ``zarr.json`` is about to hold.
    """
    digests = collect(folder, known=known, root=root, without=CARDS)
    texts = (render_card(meta, arrays), render_croissant(meta, arrays, Files(digests, base=_FOLDER)))
    for name, text in zip(CARDS, texts, strict=True):
        content = text.encode()
        digests[name] = hashlib.sha256(content).hexdigest()
        if not _holds(folder / name, content):
            publish_bytes(folder / name, content)
    publish_bytes(folder / SUMS, listing(digests))


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content
