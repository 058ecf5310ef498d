"""What a shared Zarr store says that it consists of: files, digests, and the bytes that each may have."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import StoreError
from pipeline.files import publish_bytes
from pipeline.stores import sums
from pipeline.stores.guard import MAX_CANARIES, MAX_DOCUMENT_BYTES, MAX_SUMS_BYTES, load_json, require_bytes
from pipeline.stores.schema import CLIP_ARRAYS, StoreMeta, parse_meta
from pipeline.stores.shards import shard_key
from pipeline.stores.sharing.places import Place
from pipeline.stores.zarr_guard import check_array
from pipeline.stores.zarr_store import FEATURES
from pipeline.texts import shown

ROOT = "zarr.json"
_MOST_ARRAYS = MAX_CANARIES + len(CLIP_ARRAYS) + 2


@dataclass(frozen=True)
class Contents:
    """A shared store before its arrays are fetched.

    Attributes:
        meta: its root attributes.
        listed: SHA-256 of every file by path, as its digest list has it.
        most: bytes that an object of an array may have, by the array's path.
        small: the metadata and the list itself, as they came, the root's last.
    """

    meta: StoreMeta
    listed: Mapping[str, str]
    most: Mapping[str, int]
    small: Mapping[str, bytes]

    def most_bytes(self, name: str) -> int:
        """How many bytes a file may have, by the metadata of the array that it belongs to."""
        folders = name.split("/")
        inside = ("/".join(folders[:n]) for n in range(len(folders) - 1, 0, -1))
        return next((self.most[folder] for folder in inside if folder in self.most), MAX_DOCUMENT_BYTES)

    def write_small(self, folder: Path) -> None:
        """Write what was read already; the root's metadata last."""
        for name, content in self.small.items():
            publish_bytes(folder / name, content)


def read_contents(place: Place) -> Contents:
    """Read metadata and digest list of the store at a place, and hold them to each other.

    Raises:
        StoreError: no finished store is there, or what is there contradicts itself.
    """
    root, content = place.read(ROOT, MAX_DOCUMENT_BYTES), place.read(sums.SUMS, MAX_SUMS_BYTES)
    if root is None or content is None:
        raise StoreError(f"{place.address} holds no finished store: it has no {ROOT if root is None else sums.SUMS}.")
    listed = sums.parse(content, place.below(sums.SUMS))
    meta = _parse_root(root, place)
    if listed.get(ROOT) != hashlib.sha256(root).hexdigest():
        raise StoreError(
            f"{place.address}: {ROOT} is not what the digest list says: damaged, or being replaced right now."
        )
    documents = {name: _document(place, name, listed[name]) for name in _documents(listed, place)}
    shapes, most = _arrays(documents, place)
    n_clips = shapes.get("clip_id", [0])[0]
    require_listed(listed, meta, n_clips, place.address)
    return Contents(meta, listed, most, {**documents, sums.SUMS: content, ROOT: root})


def _parse_root(root: bytes, place: Place) -> StoreMeta:
    where = place.below(ROOT)
    require_bytes(where, len(root), MAX_DOCUMENT_BYTES)
    document = load_json(root, where)
    attributes = document.get("attributes") if isinstance(document, dict) else None
    meta = parse_meta(attributes if isinstance(attributes, dict) else {}, place.address)
    if not meta.complete:
        raise StoreError(
            f"{place.address} is not finished where it was made: {shown(meta.name)} is not complete there."
        )
    return meta


def _documents(listed: Mapping[str, str], place: Place) -> list[str]:
    names = [name for name in listed if name.endswith(f"/{ROOT}")]
    if len(names) > _MOST_ARRAYS:
        raise StoreError(f"{place.address} lists {len(names):,} arrays, more than any store has: forged.")
    return sorted(names)


def _document(place: Place, name: str, sha256: str) -> bytes:
    content = place.read(name, MAX_DOCUMENT_BYTES)
    if content is None:
        raise StoreError(f"{place.address} lacks {name}, which its digest list names: half copied.")
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StoreError(f"{place.below(name)} does not have its digest: damaged there or on the way. Try again.")
    return content


def _arrays(documents: Mapping[str, bytes], place: Place) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Shapes, and bytes that an object may have, by the path of the array."""
    shapes: dict[str, list[int]] = {}
    most: dict[str, int] = {}
    for name, content in documents.items():
        document: Any = load_json(content, place.below(name))
        if isinstance(document, dict) and document.get("node_type") == "array":
            array = name.removesuffix(f"/{ROOT}")
            most[array], shapes[array] = check_array(document, place.below(name)), document["shape"]
    return shapes, most


def require_listed(listed: Mapping[str, str], meta: StoreMeta, n_clips: int, where: str) -> None:
    """Every shard that a finished store has must be in its list: one that is missing would read as zeros.

    Raises:
        StoreError: names the first that is not.
    """
    keys = (f"{FEATURES}/{shard_key(shard)}" for shard in range(-(-n_clips // meta.shard_clips)))
    if missing := next((key for key in keys if key not in listed), ""):
        raise StoreError(
            f"{where}: the digest list does not name {missing}: damaged, forged, or not laid out as "
            "usual. Look with east store verify; east store convert writes it anew."
        )
