"""The store in Zarr v3: making it, filling the small arrays, reading it."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

from pipeline.errors import StoreError
from pipeline.files import publish_bytes, sync
from pipeline.stores.journal import read_journal
from pipeline.stores.reader import ClipArrays, StoreReader, check_rows
from pipeline.stores.schema import CLIP_ARRAYS, StoreMeta, parse_meta
from pipeline.stores.shards import MappedShard, shard_key

FEATURES = "features"
CANARY = "canary"
_SMALL_CHUNK = 1 << 16
_DIMENSIONS = ("clip", "frame", "channel")


def create_zarr(path: Path, meta: StoreMeta, arrays: ClipArrays, canaries: dict[str, np.ndarray]) -> None:
    """Make a store without features, beside its place, then rename it.

    Raises:
        StoreError: something is at ``path`` already.
    """
    if path.exists():
        raise StoreError(f"{path} is there already; nothing is overwritten. Remove it, or name another path.")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        group = zarr.open_group(draft, mode="w-", zarr_format=3, attributes=meta.attributes())
        _create_features(group, meta, len(arrays.clip_id))
        for name in CLIP_ARRAYS:
            _create_small(group, name, getattr(arrays, name))
        if canaries:
            folder = group.create_group(CANARY)
            for name, value in canaries.items():
                _create_canary(folder, name, value)
        _sync_tree(draft)
        draft.rename(path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _create_features(group: zarr.Group, meta: StoreMeta, n_clips: int) -> None:
    group.create_array(
        FEATURES,
        shape=(n_clips, meta.frames, meta.channels),
        dtype=meta.dtype,
        chunks=(meta.shard_clips, meta.frames, meta.channels),
        serializer=ShardingCodec(
            chunk_shape=(meta.chunk_clips, meta.frames, meta.channels),
            codecs=[BytesCodec(endian="little"), Crc32cCodec()],
            index_codecs=[BytesCodec(endian="little"), Crc32cCodec()],
        ),
        compressors=None,
        filters=None,
        fill_value=0,
        dimension_names=_DIMENSIONS,
        chunk_key_encoding={"name": "default", "separator": "."},
    )


def _create_small(group: zarr.Group, name: str, values: np.ndarray) -> None:
    shape, kind = CLIP_ARRAYS[name]
    array = group.create_array(
        name,
        shape=values.shape,
        dtype="string" if kind is str else np.dtype(kind),
        chunks=(min(_SMALL_CHUNK, max(1024, len(values))), *shape),
        compressors=[Crc32cCodec()],
        fill_value="" if kind is str else 0,
        dimension_names=("clip", "byte")[: values.ndim],
    )
    array[...] = values


def _create_canary(folder: zarr.Group, name: str, value: np.ndarray) -> None:
    array = folder.create_array(
        name,
        shape=value.shape,
        dtype=value.dtype,
        chunks=tuple(max(1, n) for n in value.shape),
        compressors=[Crc32cCodec()],
        dimension_names=[f"{name}_{axis}" for axis in range(value.ndim)],
    )
    array[...] = value


def replace_small_arrays(path: Path, arrays: ClipArrays, meta: StoreMeta) -> None:
    """Write the small arrays anew, growing the clip axis where needed; features are not touched.

    Safe to repeat: until the journal is cleared, a killed fold is simply done again.
    """
    group = zarr.open_group(path, mode="r+")
    n = len(arrays.clip_id)
    for name in CLIP_ARRAYS:
        array = _array(group, name, str(path))
        if array.shape[0] != n:
            array.resize((n, *array.shape[1:]))
        array[...] = getattr(arrays, name)
        _sync_tree(path / name)
    features = _array(group, FEATURES, str(path))
    if features.shape[0] != n:
        features.resize((n, meta.frames, meta.channels))
        _sync_tree(path / FEATURES, files_only=("zarr.json",))


def root_document(path: Path, meta: StoreMeta) -> bytes:
    """The bytes of the root's ``zarr.json`` with these attributes."""
    document = json.loads((path / "zarr.json").read_text("utf-8"))
    document["attributes"] = meta.attributes()
    return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def publish_root(path: Path, content: bytes) -> None:
    """Replace the root's metadata in one step."""
    publish_bytes(path / "zarr.json", content)


def _sync_tree(folder: Path, files_only: tuple[str, ...] = ()) -> None:
    for base, _, names in os.walk(folder):
        for name in names:
            if not files_only or name in files_only:
                sync(Path(base) / name)
        sync(Path(base))


def _array(group: zarr.Group, name: str, where: str) -> zarr.Array[Any]:
    try:
        array = group[name]
    except KeyError:
        array = None
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{where} has no array {name!r}: damaged, half copied, or not a store of ours.")
    return array


def open_group(path: str) -> tuple[zarr.Group, StoreMeta]:
    """Open the root of a local or remote Zarr store and read its attributes.

    Raises:
        StoreError: there is no store there, or it is not ours.
    """
    try:
        group = zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, OSError) as error:
        raise StoreError(f"{path} cannot be opened as a Zarr v3 store: {error}") from error
    return group, parse_meta(group.attrs.asdict(), path)


def read_small_arrays(group: zarr.Group, where: str, frames: int) -> ClipArrays:
    """The small arrays as they are in the store, checked."""
    made: dict[str, np.ndarray] = {}
    for name, (shape, kind) in CLIP_ARRAYS.items():
        array = _array(group, name, where)
        if array.ndim != 1 + len(shape) or array.shape[1:] != shape:
            raise StoreError(f"{where}: {name} has shape {array.shape}, expected (clips, {shape}).")
        try:
            value = np.asarray(array[...])
        except (ValueError, RuntimeError, OSError, UnicodeDecodeError) as error:
            raise StoreError(f"{where}: {name} is damaged: {error}") from error
        made[name] = value.astype(object) if kind is str else value.astype(kind, copy=False)
    arrays = ClipArrays(**made)
    arrays.check(where, frames)
    return arrays


def overlay_journal(path: Path, arrays: ClipArrays) -> set[int]:
    """Lay the journal's records over the arrays; returns the shards it holds."""
    seen = set()
    for record in read_journal(path):
        if record.rows.stop > len(arrays.clip_id):
            continue
        for name in CLIP_ARRAYS:
            if name != "clip_id":
                getattr(arrays, name)[record.rows] = getattr(record, name)
        seen.add(record.shard)
    return seen


class ZarrReader(StoreReader):
    """A local or remote Zarr store; local uncompressed shards are mapped, others go through zarr."""

    def __init__(self, path: str) -> None:
        self.path = path
        group, self.meta = open_group(path)
        self.arrays = read_small_arrays(group, path, self.meta.frames)
        self._features = _array(group, FEATURES, path)
        if self._features.shape != self.shape or self._features.dtype != self.dtype:
            raise StoreError(
                f"{path}: features are {self._features.dtype} {self._features.shape}, the attributes promise "
                f"{self.dtype} {self.shape}: damaged or forged."
            )
        self._group = group
        self._folder = Path(path) / FEATURES
        self._mapped = Path(path).is_dir() and _is_plain(self._folder / "zarr.json", self.meta)
        self._shards: dict[int, MappedShard | None] = {}
        if Path(path).is_dir():
            overlay_journal(Path(path), self.arrays)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """See :meth:`StoreReader.read`."""
        rows = check_rows(rows, len(self))
        if not self._mapped:
            return self._read_through_zarr(rows)
        out = np.empty((len(rows), self.meta.frames, self.meta.channels), self.dtype)
        shard, inside = np.divmod(rows, self.meta.shard_clips)
        order = np.argsort(shard, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(shard[order])) + 1):
            if not len(places):
                continue
            mapped = self._shard(int(shard[places[0]]))
            if mapped is None:
                out[places] = 0
            else:
                mapped.gather(inside[places], out, places)
        return out

    def _read_through_zarr(self, rows: np.ndarray) -> np.ndarray:
        unique, back = np.unique(rows, return_inverse=True)
        try:
            found = self._features.oindex[unique, :, :]
        except (ValueError, RuntimeError, OSError) as error:
            raise StoreError(f"{self.path}: features cannot be read: {error}") from error
        return np.asarray(found)[back]

    def _shard(self, number: int) -> MappedShard | None:
        if number not in self._shards:
            path = self._folder / shard_key(number)
            chunk = (self.meta.chunk_clips, self.meta.frames, self.meta.channels)
            self._shards[number] = (
                MappedShard(path, chunk_shape=chunk, shard_clips=self.meta.shard_clips, dtype=self.dtype)
                if path.exists()
                else None
            )
        return self._shards[number]

    def canaries(self) -> dict[str, np.ndarray]:
        """See :meth:`StoreReader.canaries`."""
        folder = self._group.get(CANARY)
        if not isinstance(folder, zarr.Group):
            return {}
        return {name: np.asarray(array[...]) for name, array in folder.arrays()}

    def close(self) -> None:
        """Drop the maps."""
        self._shards.clear()


def _is_plain(document: Path, meta: StoreMeta) -> bool:
    """Whether the features are laid out as this package writes them, and may be mapped."""
    value = json.loads(document.read_text("utf-8"))
    shards = [meta.shard_clips, meta.frames, meta.channels]
    chunks = [meta.chunk_clips, meta.frames, meta.channels]
    crc = {"name": "crc32c"}
    codecs = value.get("codecs") or [{}]
    inner = codecs[0].get("configuration", {})
    return (
        value.get("chunk_grid", {}).get("configuration", {}).get("chunk_shape") == shards
        and value.get("chunk_key_encoding", {}).get("configuration", {}).get("separator") == "."
        and len(codecs) == 1
        and codecs[0].get("name") == "sharding_indexed"
        and inner.get("chunk_shape") == chunks
        and [codec.get("name") for codec in inner.get("codecs", [])] == ["bytes", crc["name"]]
        and [codec.get("name") for codec in inner.get("index_codecs", [])] == ["bytes", crc["name"]]
        and inner.get("index_location", "end") == "end"
    )
