"""Reading a Zarr store: small arrays into memory, features by map or through zarr."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipeline.errors import StoreError
from pipeline.stores.gather import Chunks, Loaded, address_of
from pipeline.stores.guard import MAX_DOCUMENT_BYTES, MOST_COMPRESSED, TextBudget, check_tree, read_file, require_backed
from pipeline.stores.identity import identity_of, require_same
from pipeline.stores.journal import read_journal
from pipeline.stores.reader import ClipArrays, StoreReader, check_rows, require_plausible, require_small
from pipeline.stores.remote import RemoteShards
from pipeline.stores.schema import CLIP_ARRAYS, DAMAGE, State, StoreMeta, parse_meta
from pipeline.stores.shards import MappedShard, shard_key
from pipeline.stores.zarr_guard import bounded, guarded
from pipeline.stores.zarr_store import CANARY, FEATURES, find_array

#: A map holds a file descriptor, and a process reads several stores: an eighth of what it may open is for one.
_MOST_MAPS = 4096
_SHARE_OF_FILES = 8
_PLAIN_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]


def open_group(path: str) -> tuple[zarr.Group, StoreMeta]:
    """Open the root of a local or remote Zarr store and read its attributes.

    Raises:
        StoreError: there is no store there, or it is not ours.
    """
    try:
        group = zarr.open_group(guarded(path), mode="r", zarr_format=3, use_consolidated=False)
    except DAMAGE as error:
        why = str(error)
        if isinstance(error, FileNotFoundError):
            why = "there is no Zarr group. If it is a place with stores, east store ls lists them."
        raise StoreError(f"{path} cannot be opened as a Zarr v3 store: {why}") from error
    return group, parse_meta(group.attrs.asdict(), path)


def read_small_arrays(group: zarr.Group, where: str, meta: StoreMeta, stored: Mapping[str, int] | None) -> ClipArrays:
    """The small arrays as they are in the store, under what the journal says; checked.

    While a store grows, ``clip_id`` is the last to do so; the others may be longer until then.

    Args:
        stored: bytes by array, where they are known.
    """
    arrays = {name: bounded(find_array(group, name, where)) for name in CLIP_ARRAYS}
    n = arrays["clip_id"].shape[0] if arrays["clip_id"].ndim else 0
    require_plausible(where, n, stored.get("clip_id", 0) if stored is not None else None)
    made: dict[str, np.ndarray] = {}
    for name, (shape, kind) in CLIP_ARRAYS.items():
        array = arrays[name]
        usable = array.ndim == 1 + len(shape) and array.shape[1:] == shape
        if not usable or (array.shape[0] != n and (meta.complete or array.shape[0] < n)):
            raise StoreError(f"{where}: {name} has shape {array.shape}, expected {(n, *shape)}.")
        if kind is not str and array.dtype != np.dtype(kind):
            raise StoreError(f"{where}: {name} is of type {array.dtype}, expected {np.dtype(kind)}.")
        try:
            made[name] = _texts(array, n, where, name) if kind is str else np.asarray(array[:n])
        except DAMAGE as error:
            raise StoreError(f"{where}: {name} is damaged: {error}") from error
    found = ClipArrays(**made)
    if Path(where).is_dir():
        overlay_journal(Path(where), found)
    found.check(where, meta.frames)
    return found


def overlay_journal(path: Path, arrays: ClipArrays) -> None:
    """Lay the journal's records over the arrays."""
    for record in read_journal(path):
        if record.rows.stop <= len(arrays.clip_id):
            for name in CLIP_ARRAYS:
                if name != "clip_id":
                    getattr(arrays, name)[record.rows] = getattr(record, name)


def _texts(array: zarr.Array[Any], n: int, where: str, name: str) -> np.ndarray:
    """Texts chunk by chunk, so that a forged array ends early; [n] objects."""
    if array.dtype.kind not in "OT":
        raise StoreError(f"{where}: {name} is of type {array.dtype}, expected texts.")
    made, step = np.empty(n, object), array.chunks[0]
    budget = TextBudget(where, name, n, unique=name == "clip_id")
    for first in range(0, n, step):
        part = np.asarray(array[first : min(first + step, n)]).astype(object)
        budget.add(part.tolist())
        made[first : first + len(part)] = part
    return made


class ZarrReader(StoreReader):
    """A local or remote Zarr store; uncompressed shards are mapped (remote ones from a cache), others go
    through zarr.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        stored = check_tree(Path(path)) if "://" not in path else None
        self._identity = None if stored is None else identity_of(path)
        group, self.meta = open_group(path)
        self.arrays = read_small_arrays(group, path, self.meta, stored)
        self._features = bounded(find_array(group, FEATURES, path))
        self._check_features()
        self._group = group
        self._remote = RemoteShards(path, self.meta, self.arrays) if "://" in path and self.meta.complete else None
        document = self._document()
        self._mapped = document is not None and is_plain(document, self.meta)
        if stored is not None:
            ratio = 1 if self._mapped else MOST_COMPRESSED
            require_backed(path, FEATURES, self._done_bytes(), stored.get(FEATURES, 0), ratio)
        self._maps: dict[int, MappedShard] = {}
        self._verified: dict[int, np.ndarray] = {}
        self._most_maps = _most_maps()
        self._empty: np.ndarray | None = None
        row_shape = (self.meta.frames, self.meta.channels)
        n_chunks = -(-len(self) // self.meta.chunk_clips)
        self._chunks = Chunks(n_chunks, self.meta.chunk_clips, row_shape, self.dtype, load=self._load)

    def _check_features(self) -> None:
        found, promised = self._features, self.shape
        whole = found.ndim == len(promised) and found.shape[1:] == promised[1:] and found.dtype == self.dtype
        if not whole or (found.shape[0] != len(self) and (self.meta.complete or found.shape[0] < len(self))):
            raise StoreError(
                f"{self.path}: features are {found.dtype} {found.shape}, the attributes promise "
                f"{self.dtype} {promised}: damaged or forged."
            )

    def _done_bytes(self) -> int:
        return int((self.state == State.DONE).sum()) * self.meta.clip_bytes

    def _document(self) -> bytes | None:
        """What Zarr says of ``features``."""
        if self._remote is not None:
            return self._remote.document()
        path = Path(self.path) / FEATURES / "zarr.json"
        return read_file(path, MAX_DOCUMENT_BYTES) if "://" not in self.path and path.exists() else None

    def read(self, rows: np.ndarray) -> np.ndarray:
        """See :meth:`StoreReader.read`."""
        rows = check_rows(rows, len(self))
        if not self._mapped:
            return self._read_through_zarr(rows)
        if len(rows) > self._most_maps and len(np.unique(rows // self.meta.shard_clips)) > self._most_maps:
            return self._read_widely(rows, rows // self.meta.shard_clips)
        return self._chunks.gather(rows)

    def _read_widely(self, rows: np.ndarray, shards: np.ndarray) -> np.ndarray:
        """Rows from more shards than may be mapped at once, a group of shards after the other."""
        out = np.empty((len(rows), self.meta.frames, self.meta.channels), self.dtype)
        groups = np.searchsorted(np.unique(shards), shards) // self._most_maps
        for group in range(int(groups.max()) + 1):
            places = np.flatnonzero(groups == group)
            out[places] = self._chunks.gather(rows[places])
        return out

    def _read_through_zarr(self, rows: np.ndarray) -> np.ndarray:
        unique, back = np.unique(rows, return_inverse=True)
        try:
            found = self._features.oindex[unique, :, :]
        except DAMAGE as error:
            raise StoreError(f"{self.path}: features cannot be read: {error}") from error
        return np.asarray(found)[back]

    def _load(self, numbers: list[int], needed: np.ndarray) -> Iterator[Loaded]:
        """Chunks of mapped shards, verified."""
        per_shard = self.meta.shard_clips // self.meta.chunk_clips
        wanted = {
            shard: [number % per_shard for number in group]
            for shard, group in groupby(numbers, lambda number: number // per_shard)
        }
        places = self._find(wanted)
        for shard, inside in wanted.items():
            mapped = self._map(shard, places[shard], needed // per_shard)
            for chunk in inside:
                address = None if mapped is None else mapped.address(chunk)
                owner = self._nothing() if mapped is None or address is None else mapped
                at = address_of(owner) if isinstance(owner, np.ndarray) else address
                assert at is not None
                yield Loaded(shard * per_shard + chunk, at, owner)

    def _find(self, wanted: dict[int, list[int]]) -> dict[int, Path | None]:
        """The files of shards; those of a remote store with at least the wanted chunks in them.

        Raises:
            StoreError: a shard is missing whose clips are said to be done.
        """
        if self._remote is not None:
            found = self._remote.bring(wanted)
        else:
            paths = {shard: Path(self.path) / FEATURES / shard_key(shard) for shard in wanted}
            found = {shard: path if path.exists() else None for shard, path in paths.items()}
        for shard, path in found.items():
            rows = slice(shard * self.meta.shard_clips, (shard + 1) * self.meta.shard_clips)
            if path is None and (self.n_frames[rows][self.state[rows] == State.DONE] > 0).any():
                raise StoreError(
                    f"{self.path}: {FEATURES}/{shard_key(shard)} is missing, but its clips are said to be done: "
                    "the store was not copied whole. Fetch it again, or look with east store verify."
                )
        return found

    def _nothing(self) -> np.ndarray:
        """Zeros for chunks that were never written; the system gives them no memory until they are read."""
        if self._empty is None:
            self._empty = np.zeros((self.meta.chunk_clips, self.meta.frames, self.meta.channels), self.dtype)
        return self._empty

    def _map(self, shard: int, path: Path | None, needed: np.ndarray) -> MappedShard | None:
        """Map a shard; old maps that are not needed now are let go, since each holds a file descriptor."""
        if path is None:
            return None
        known = self._maps.get(shard)
        if known is not None and (self._remote is None or known.identity == identity_of(path)):
            return known
        chunks = self.meta.shard_clips // self.meta.chunk_clips
        if known is not None:  # another process has fetched the shard again; what was read of it stays mapped
            del self._maps[shard], self._verified[shard]
        if len(self._maps) >= self._most_maps:
            kept = set(needed.tolist())
            old = next((number for number in self._maps if number not in kept), None)
            if old is not None:
                self._chunks.evict(old * chunks, (old + 1) * chunks, self._maps.pop(old))
        mapped = MappedShard(
            path,
            chunk_shape=(self.meta.chunk_clips, self.meta.frames, self.meta.channels),
            shard_clips=self.meta.shard_clips,
            dtype=self.dtype,
            verified=self._verified.setdefault(shard, np.zeros(chunks, bool)),
        )
        if self._remote is None:
            require_same(self.path, self._identity)
        self._maps[shard] = mapped
        return mapped

    def canaries(self) -> dict[str, np.ndarray]:
        """See :meth:`StoreReader.canaries`."""
        try:
            folder = self._group.get(CANARY)
            arrays = dict(folder.arrays()) if isinstance(folder, zarr.Group) else {}
            require_small(self.path, len(arrays), sum(array.nbytes for array in arrays.values()))
            return {name: np.asarray(bounded(array)[...]) for name, array in sorted(arrays.items())}
        except DAMAGE as error:
            raise StoreError(f"{self.path}: the canaries are damaged: {error}") from error

    def close(self) -> None:
        """Drop the maps."""
        with self._chunks.letting_go():
            self._maps.clear()


def is_plain(document: bytes, meta: StoreMeta) -> bool:
    """Whether the features are laid out as this package writes them, and may be mapped."""
    inner = {
        "chunk_shape": [meta.chunk_clips, meta.frames, meta.channels],
        "codecs": _PLAIN_CODECS,
        "index_codecs": _PLAIN_CODECS,
        "index_location": "end",
    }
    try:
        value = json.loads(document)
        (codec,) = value["codecs"]
        found = {"index_location": "end"} | codec["configuration"]
        return bool(
            value["chunk_grid"]["configuration"]["chunk_shape"] == [meta.shard_clips, meta.frames, meta.channels]
            and value["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "."}}
            and codec["name"] == "sharding_indexed"
            and {key: _bare(found[key]) for key in inner} == inner
        )
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError):
        return False


def _bare(value: Any) -> Any:
    """Codecs without an empty configuration, which may be written or left out."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        return value
    return [{key: part for key, part in item.items() if part != {}} for item in value]


def _most_maps() -> int:
    return max(1, min(_MOST_MAPS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE_OF_FILES))
