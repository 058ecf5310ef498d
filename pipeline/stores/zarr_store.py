"""Writing the store in Zarr v3: making it, filling the small arrays, publishing the root."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

from pipeline.errors import StoreError
from pipeline.files import publish_bytes, sync
from pipeline.stores.codecs import PLAIN, Codec
from pipeline.stores.coordinates import FEATURES_ATTRIBUTES, TIME, TIME_ATTRIBUTES, TIME_CHUNK, frame_times
from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import CLIP_ARRAYS, DAMAGE, StoreMeta

FEATURES = "features"
CANARY = "canary"
_SMALL_CHUNK = 1 << 16
_DIMENSIONS = ("clip", "frame", "channel")


def create_zarr(
    path: Path, meta: StoreMeta, arrays: ClipArrays, canaries: dict[str, np.ndarray], codec: Codec = PLAIN
) -> None:
    """Make a store without features, beside its place, then rename it.

    Raises:
        StoreError: something is at ``path`` already.
    """
    with creating(path) as draft:
        fill_new(draft, meta, arrays, canaries, codec)


@contextmanager
def creating(path: Path) -> Iterator[Path]:
    """Give a folder beside ``path`` to be filled; on success it is synced and renamed into place.

    Raises:
        StoreError: something is at ``path`` already.
    """
    if path.exists():
        raise StoreError(f"{path} is there already; nothing is overwritten. Remove it, or name another path.")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield draft
        _sync_tree(draft)
        draft.rename(path)
        sync(path.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def fill_new(
    folder: Path, meta: StoreMeta, arrays: ClipArrays, canaries: Mapping[str, np.ndarray], codec: Codec = PLAIN
) -> None:
    """Attributes, small arrays, times of frames and canaries of a new store; ``features`` is made, but not filled."""
    group = zarr.open_group(folder, mode="w-", zarr_format=3, attributes=meta.attributes())
    _create_features(group, meta, len(arrays.clip_id), codec)
    for name in CLIP_ARRAYS:
        _create_small(group, name, getattr(arrays, name))
    _create_time(group, meta)
    if canaries:
        canary = group.create_group(CANARY)
        for name, value in canaries.items():
            _create_canary(canary, name, value)


def _create_features(group: zarr.Group, meta: StoreMeta, n_clips: int, codec: Codec) -> None:
    group.create_array(
        FEATURES,
        shape=(n_clips, meta.frames, meta.channels),
        dtype=meta.dtype,
        chunks=(meta.shard_clips, meta.frames, meta.channels),
        serializer=ShardingCodec(
            chunk_shape=(meta.chunk_clips, meta.frames, meta.channels),
            codecs=codec.zarr_codecs(),
            index_codecs=[BytesCodec(endian="little"), Crc32cCodec()],
        ),
        compressors=None,
        filters=None,
        fill_value=0,
        dimension_names=_DIMENSIONS,
        attributes=FEATURES_ATTRIBUTES,
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


def _create_time(group: zarr.Group, meta: StoreMeta) -> None:
    array = group.create_array(
        TIME,
        shape=(meta.frames,),
        dtype="float64",
        chunks=(min(TIME_CHUNK, meta.frames),),
        compressors=[Crc32cCodec()],
        dimension_names=("frame",),
        attributes=TIME_ATTRIBUTES,
    )
    array[...] = frame_times(meta)


def replace_times(path: Path, meta: StoreMeta) -> None:
    """Write the times of frames anew, from the root attributes."""
    shutil.rmtree(path / TIME, ignore_errors=True)
    _create_time(zarr.open_group(path, mode="r+"), meta)
    _sync_tree(path / TIME)


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

    May be killed at any point and done again: until the journal is cleared its records stand; what
    is to be made again is marked so (``state``) before the rest of it changes; and ``clip_id``,
    which says how many clips there are, grows after all the others.
    """
    group = zarr.open_group(path, mode="r+")
    features, n = find_array(group, FEATURES, str(path)), len(arrays.clip_id)
    if features.shape[0] != n:
        features.resize((n, meta.frames, meta.channels))
        _sync_tree(path / FEATURES, files_only=("zarr.json",))
    for name in sorted(CLIP_ARRAYS, key=_fold_order):
        array = find_array(group, name, str(path))
        if array.shape[0] != n:
            array.resize((n, *array.shape[1:]))
        array[...] = getattr(arrays, name)
        _sync_tree(path / name)


def _fold_order(name: str) -> int:
    return {"state": 0, "clip_id": 2}.get(name, 1)


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


def find_array(group: zarr.Group, name: str, where: str) -> zarr.Array[Any]:
    """An array of a store.

    Raises:
        StoreError: it is not there, or its metadata are damaged.
    """
    try:
        array = group[name]
    except KeyError:
        array = None
    except DAMAGE as error:
        raise StoreError(f"{where}: the metadata of {name!r} are damaged: {error}") from error
    if not isinstance(array, zarr.Array):
        raise StoreError(f"{where} has no array {name!r}: damaged, half copied, or not a store of ours.")
    return array
