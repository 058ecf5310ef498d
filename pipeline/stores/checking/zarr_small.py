"""Root attributes and small arrays of a Zarr store, as far as they can be trusted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipeline.errors import StoreError
from pipeline.files import sha256_of
from pipeline.stores.checking.listed import has_own_crc
from pipeline.stores.checking.report import Log
from pipeline.stores.checking.small import CHECK, ReadRows, Small, check_small, read_small
from pipeline.stores.coordinates import TIME, check_times
from pipeline.stores.reader import require_plausible
from pipeline.stores.schema import CLIP_ARRAYS, DAMAGE, StoreMeta
from pipeline.stores.zarr_reader import open_group, overlay_journal
from pipeline.stores.zarr_store import find_array

ROOT = "zarr.json"
ATTRIBUTES = "root attributes"
_MOST_BYTES = 1 << 26


@dataclass(frozen=True)
class SmallFile:
    """One file beside the shards; ``sound``: agrees with a checksum of its own (None: it has none)."""

    name: str
    n_bytes: int
    sha256: str
    sound: bool | None


def look_at(folder: Path, name: str) -> SmallFile:
    """Digest a file, and check it by itself where that can be done."""
    place = folder / name
    n_bytes = place.stat().st_size
    if place.name == ROOT and n_bytes <= _MOST_BYTES:
        return SmallFile(name, n_bytes, sha256_of(place), None if is_json(place) else False)
    if n_bytes > _MOST_BYTES or not _ends_in_crc(folder, name):
        return SmallFile(name, n_bytes, sha256_of(place), None)
    return SmallFile(name, n_bytes, sha256_of(place), has_own_crc(place.read_bytes()))


def is_json(path: Path) -> bool:
    """Whether a document can be parsed at all."""
    try:
        json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return True


def _ends_in_crc(folder: Path, name: str) -> bool:
    """Whether this is a chunk of an array, not sharded, whose last codec is crc32c."""
    parts = name.split("/")
    place = next((part for part in range(len(parts)) if parts[part] == "c" or parts[part].startswith("c.")), 0)
    document = folder.joinpath(*parts[:place], ROOT)
    if not place or not document.is_file() or document.stat().st_size > _MOST_BYTES:
        return False
    try:
        last = json.loads(document.read_bytes())["codecs"][-1]
        return bool(last == "crc32c" or last["name"] == "crc32c")
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


@dataclass(frozen=True)
class Opened:
    """What can be had of the small files. ``finished``: the store says so, or once did."""

    meta: StoreMeta | None = None
    small: Small | None = None
    finished: bool = True


def open_small(folder: Path, is_off: Callable[[str], bool], log: Log) -> Opened:
    """Read root attributes and small arrays; what is damaged is named and left out.

    Args:
        is_off: whether the digest list says that a file is damaged.
    """
    try:
        group, meta = open_group(str(folder))
        attributes = group.attrs.asdict()
    except (StoreError, *DAMAGE) as error:
        log.find(ATTRIBUTES, ROOT, str(error))
        log.close(ATTRIBUTES, "cannot be read")
        return Opened()
    finished = meta.complete or "complete" not in attributes or bool(meta.content_digest)
    if finished and is_off(ROOT):
        log.skip(ATTRIBUTES, "their file is damaged: nothing that rests on them is checked")
        return Opened()
    log.close(ATTRIBUTES, f"{meta.name}, {meta.mode}, {meta.dtype}, format version 1")
    damaged = is_off if finished else _never
    return Opened(meta, _small_arrays(folder, group, meta, damaged, log), finished)


def _never(name: str) -> bool:
    return False


def _small_arrays(
    folder: Path, group: zarr.Group, meta: StoreMeta, is_off: Callable[[str], bool], log: Log
) -> Small | None:
    readers: dict[str, tuple[ReadRows, int]] = {}
    n = -1
    for name, (shape, _) in CLIP_ARRAYS.items():
        document = f"{name}/{ROOT}"
        try:
            if is_off(document):
                raise StoreError("its description is damaged")
            array = find_array(group, name, folder.name)
            if name == "clip_id":
                stored = sum(file.stat().st_size for file in (folder / name).rglob("*") if file.is_file())
                n = int(array.shape[0])
                require_plausible(folder.name, n, stored)
            if array.shape[1:] != shape or array.shape[0] < n or (meta.complete and array.shape[0] != n):
                raise StoreError(f"it has shape {array.shape}, expected {(n, *shape)}")
        except (StoreError, *DAMAGE) as error:
            log.find(CHECK, document, str(error))
            if name == "clip_id":
                log.skip(CHECK, "without the ids nothing can be said of the clips")
                return None
            continue
        readers[name] = (partial(_rows_of, array), int(array.chunks[0]))
    _check_time(folder, group, meta, log)
    small = read_small(readers, n, log)
    overlay_journal(folder, small.arrays)
    check_small(small, meta.frames, log)
    return small


def _check_time(folder: Path, group: zarr.Group, meta: StoreMeta, log: Log) -> None:
    """Where frames begin; stores of earlier releases have no such array."""
    if not (folder / TIME).exists():
        return
    try:
        array = find_array(group, TIME, folder.name)
        faults = list(check_times(array.shape, partial(_rows_of, array), meta))
    except (StoreError, *DAMAGE) as error:
        faults = [str(error)]
    for text in faults:
        log.find(CHECK, TIME, text)


def _rows_of(array: zarr.Array[Any], rows: slice) -> np.ndarray:
    return np.asarray(array[rows])
