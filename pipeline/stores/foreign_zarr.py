"""A look into a Zarr store of others, version 2 or 3: its arrays, without reading any."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.stores.foreign_facts import MAX_ARRAYS, ForeignArray, Found, make_array
from pipeline.stores.guard import MAX_DOCUMENT_BYTES, load_json, read_file
from pipeline.stores.sharing.places import find_place
from pipeline.texts import one_line

_MOST_ENTRIES = 1 << 20
_MOST_DEPTH = 16
_DOCUMENTS = ("zarr.json", ".zarray", ".zgroup")
_ITEM_BYTES = {"bool": 1, "string": None}


def look_zarr(folder: Path) -> Found | None:
    """A folder with Zarr's metadata at its root; links in it are not followed.

    Raises:
        StoreError: metadata that are no JSON, or too large.
    """
    root = _documents(folder)
    if not root:
        return None
    found = Found("Zarr v3" if "zarr.json" in root else "Zarr v2", attributes=_attributes(folder, root))
    documents: dict[str, tuple[str, Any]] = {}
    sizes: dict[str, int] = {}
    found.disk_bytes, found.complete = _walk(folder, documents, sizes)
    found.arrays = [_array(name, kind, about, sizes.get(name, 0)) for name, (kind, about) in sorted(documents.items())]
    return found


def look_zarr_url(url: str) -> Found | None:
    """The root's metadata at an address, and all arrays where those are consolidated.

    Raises:
        StoreError: the connection failed.
    """
    place = find_place(url)
    if (content := place.read("zarr.json", MAX_DOCUMENT_BYTES)) is not None:
        root = _table(load_json(content, f"{url}/zarr.json"))
        found = Found("Zarr v3", dict(_table(root.get("attributes"))), complete="consolidated_metadata" in root)
        inside = _table(_table(root.get("consolidated_metadata")).get("metadata"))
        nodes = {"": root, **inside} if root.get("node_type") == "array" else inside
        found.arrays = [
            _array(name, "zarr.json", about, None)
            for name, about in nodes.items()
            if _table(about).get("node_type") == "array"
        ]
        return found
    if (content := place.read(".zmetadata", MAX_DOCUMENT_BYTES)) is not None:
        inside = _table(_table(load_json(content, f"{url}/.zmetadata")).get("metadata"))
        arrays = [(name, about) for name, about in inside.items() if name.rpartition("/")[2] == ".zarray"]
        found = Found("Zarr v2", dict(_table(inside.get(".zattrs"))))
        found.arrays = [_array(name.rpartition("/")[0], ".zarray", about, None) for name, about in arrays]
        return found
    if (content := place.read(".zarray", MAX_DOCUMENT_BYTES)) is not None:
        return Found("Zarr v2", arrays=[_array("", ".zarray", load_json(content, f"{url}/.zarray"), None)])
    return Found("Zarr v2", complete=False) if place.read(".zgroup", MAX_DOCUMENT_BYTES) is not None else None


def _documents(folder: Path) -> list[str]:
    return [name for name in _DOCUMENTS if (folder / name).is_file()]


def _attributes(folder: Path, root: list[str]) -> dict[str, Any]:
    if "zarr.json" in root:
        return dict(_table(_table(_read(folder / "zarr.json")).get("attributes")))
    return dict(_table(_read(folder / ".zattrs")))


def _read(path: Path) -> Any:
    try:
        return load_json(read_file(path, MAX_DOCUMENT_BYTES), str(path))
    except FileNotFoundError:
        return {}


def _walk(folder: Path, documents: dict[str, tuple[str, Any]], sizes: dict[str, int]) -> tuple[int, bool]:
    """Metadata of arrays by name, and the bytes below each; the sum, and whether all was seen."""
    places, left, total = [("", "", 0)], _MOST_ENTRIES, 0
    while places:
        inside, array, depth = places.pop()
        place = folder / inside
        if not array and len(documents) <= MAX_ARRAYS and (about := _array_document(place)) is not None:
            array = inside or "/"
            documents[array] = about
        with os.scandir(place) as entries:
            for entry in entries:
                left -= 1
                if left <= 0:
                    return total, False
                if entry.is_dir(follow_symlinks=False) and depth < _MOST_DEPTH:
                    places.append((f"{inside}/{entry.name}" if inside else entry.name, array, depth + 1))
                    continue
                about_file = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(about_file.st_mode):
                    total += about_file.st_size
                    sizes[array] = sizes.get(array, 0) + about_file.st_size
    return total, len(documents) <= MAX_ARRAYS


def _array_document(place: Path) -> tuple[str, Any] | None:
    """Which document describes the array in a folder, and what it says; None for other folders."""
    try:
        if (place / ".zarray").is_file():
            return ".zarray", _read(place / ".zarray")
        about = _read(place / "zarr.json") if (place / "zarr.json").is_file() else {}
    except StoreError:
        return None
    return ("zarr.json", about) if _table(about).get("node_type") == "array" else None


def _array(name: str, kind: str, about: Any, disk_bytes: int | None) -> ForeignArray:
    about = _table(about)
    if kind == ".zarray":
        dtype, chunks = about.get("dtype"), about.get("chunks")
        packed = [about.get("compressor"), *(about.get("filters") or [])] if about.get("compressor") else []
    else:
        dtype, chunks = about.get("data_type"), _configuration(about.get("chunk_grid")).get("chunk_shape")
        packed = about.get("codecs") if isinstance(about.get("codecs"), list) else []
    text = dtype if isinstance(dtype, str) else one_line(_table(dtype).get("name") or dtype, 100)
    names = ", ".join(map(_codec, packed)) if isinstance(packed, list) else ""
    return make_array(
        name or "/", about.get("shape"), text, _item_bytes(text), chunks=chunks, compression=names or "none",
        disk_bytes=disk_bytes,
    )  # fmt: skip


def _codec(value: Any) -> str:
    """``zstd``, ``blosc (lz4)``, ``sharding_indexed (bytes, crc32c)``."""
    table = _table(value)
    name = one_line(table.get("id") or table.get("name") or value, 50)
    settings = _configuration(value) or table
    inner = settings.get("codecs")
    if isinstance(inner, list):
        return f"{name} ({', '.join(one_line(_table(item).get('name') or item, 50) for item in inner[:8])})"
    return f"{name} ({one_line(settings['cname'], 50)})" if "cname" in settings else name


def _configuration(value: Any) -> Mapping[str, Any]:
    return _table(_table(value).get("configuration"))


def _item_bytes(dtype: str) -> int | None:
    if dtype in _ITEM_BYTES or len(dtype) > 20:
        return _ITEM_BYTES.get(dtype)
    try:
        kind = np.dtype(dtype)
    except (TypeError, ValueError, SyntaxError):
        return None
    return None if kind.hasobject else kind.itemsize


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
