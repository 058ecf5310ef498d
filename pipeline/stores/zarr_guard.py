"""Zarr behind limits: metadata checked before Zarr parses them, chunks before they are decoded.

Zarr itself believes what a store says: a chunk of 2^40 elements is allocated whole, a compressed
one is decoded to whatever it holds, and any installed codec runs.  Here only what is known to be
harmless is let through.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import fsspec
import zarr
from zarr.abc.codec import Codec
from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.codecs import BloscCodec, GzipCodec, ShardingCodec, VLenUTF8Codec, ZstdCodec
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, BufferPrototype, NDBuffer
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from pipeline.errors import StoreError
from pipeline.stores import guard
from pipeline.stores.schema import MAX_AXIS
from pipeline.texts import shown

_ITEM_BYTES = {
    "bool": 1, "int8": 1, "int16": 2, "int32": 4, "int64": 8, "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8,
    "float16": 2, "float32": 4, "float64": 8, "string": 8,
}  # fmt: skip
_COMPRESSORS = {"gzip", "zstd", "blosc"}
_SERIALIZERS = {"bytes", "vlen-utf8", "sharding_indexed"}
_OTHERS = {"crc32c", "transpose"}
_MOST_CODECS = 4
_MOST_AXES = 4
_CHUNKS_OF_A_CLIP = 4096
_CRC_BYTES = 4
_SLACK_BYTES = 1 << 20


class GuardedStore(WrapperStore[Store]):
    """A store that gives only what is small enough and well formed.

    Args:
        store: the store itself, read-only.
        where: folder or address, for reading and for messages.
    """

    def __init__(self, store: Store, where: str = "") -> None:
        super().__init__(store)
        self._where = where
        self._most: dict[str, int] = {}

    def _with_store(self, store: Store) -> GuardedStore:
        return type(self)(store, self._where)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """See Zarr's store; a whole object is read up to its limit.

        Raises:
            StoreError: it is larger, or metadata that are not to be read.
        """
        document = key.rpartition("/")[2] == "zarr.json"
        most = guard.MAX_DOCUMENT_BYTES if document else self._limit(key)
        if byte_range is not None:
            if isinstance(byte_range, RangeByteRequest):
                guard.require_bytes(f"{self._where}: a part of {key}", byte_range.end - byte_range.start, most)
            return await super().get(key, prototype, byte_range)
        content = await asyncio.to_thread(self._read, key, most)
        if content is None:
            return None
        if document:
            self._check(key, content)
        return prototype.buffer.from_bytes(content)

    def _limit(self, key: str) -> int:
        inside = [most for name, most in self._most.items() if key.startswith(f"{name}/")]
        return max(inside, default=guard.MAX_DOCUMENT_BYTES)

    def _read(self, key: str, most: int) -> bytes | None:
        try:
            if "://" not in self._where:
                return guard.read_file(Path(self._where) / key, most)
            with fsspec.open(f"{self._where.rstrip('/')}/{key}", "rb") as handle:
                content: bytes = handle.read(most + 1)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        guard.require_bytes(f"{self._where}/{key}", len(content), most)
        return content

    def _check(self, key: str, content: bytes) -> None:
        where = f"{self._where.rstrip('/')}/{key}"
        document = guard.load_json(content, where)
        if not isinstance(document, dict):
            raise StoreError(f"{where} is no table of metadata: damaged or forged.")
        if document.get("node_type") == "array":
            self._most[key.removesuffix("/zarr.json")] = check_array(document, where)
        elif document.get("node_type") != "group" or not isinstance(document.get("attributes", {}), dict):
            raise StoreError(f"{where} describes neither a group nor an array of Zarr v3: damaged or forged.")


def guarded(path: str) -> GuardedStore:
    """A local or remote store, read-only."""
    store = FsspecStore.from_url(path, read_only=True) if "://" in path else LocalStore(Path(path), read_only=True)
    return GuardedStore(store, path)


def check_array(document: dict[str, Any], where: str) -> int:
    """Refuse metadata of an array that no honest store has.

    Returns:
        how many bytes one stored object, a chunk or a shard, may have.

    Raises:
        StoreError: names what is absurd or unknown.
    """
    kind = document.get("data_type")
    if not isinstance(kind, str) or kind not in _ITEM_BYTES:
        raise StoreError(f"{where}: the data type {shown(kind)} is not read.")
    shape = _axes(document.get("shape"), where, "shape", least=0)
    chunk = _axes(_configuration(document.get("chunk_grid"), "regular", where).get("chunk_shape"), where, "chunk_shape")
    if document.get("storage_transformers"):
        raise StoreError(f"{where}: storage transformers are not read.")
    inner = _check_codecs(document.get("codecs"), where, kind, chunk)
    if len(shape) != len(chunk):
        raise StoreError(f"{where}: chunks of {len(chunk)} axes in an array of {len(shape)}: damaged or forged.")
    pieces = [-(-n // size) for n, size in zip(shape, inner, strict=True)]
    if math.prod(pieces[1:]) > _CHUNKS_OF_A_CLIP or (len(shape) < 3 and math.prod(pieces) > guard.MAX_CHUNKS):
        raise StoreError(f"{where}: chunks of {inner} in {shape} are too many to be read: forged.")
    if kind == "string":
        if math.prod(chunk) > guard.MAX_TEXTS:
            raise StoreError(f"{where}: chunks of {math.prod(chunk):,} texts are not read: forged.")
        return guard.MAX_TEXT_BYTES
    item = _ITEM_BYTES[kind]
    guard.require_chunk(where, "it", math.prod(inner) * item)
    guard.require_chunk(where, "it", math.prod(chunk) * item, guard.MAX_SHARD_BYTES)
    n_inner = math.prod(chunk) // max(1, math.prod(inner))
    if n_inner > guard.MAX_CHUNKS * 16:
        raise StoreError(f"{where}: {n_inner:,} chunks in a shard are not read: forged.")
    return 2 * math.prod(chunk) * item + 64 * n_inner + _SLACK_BYTES


def _axes(value: Any, where: str, name: str, *, least: int = 1) -> tuple[int, ...]:
    fits = isinstance(value, list) and len(value) <= _MOST_AXES
    if not fits or not all(type(n) is int and least <= n < MAX_AXIS for n in value):
        raise StoreError(f"{where}: {name} is {_listed(value)}, not a list of sensible whole numbers.")
    return tuple(value)


def _listed(value: object) -> str:
    if isinstance(value, list) and len(value) <= _MOST_AXES:
        return f"[{', '.join(shown(item, 40) for item in value)}]"
    return shown(value)


def _configuration(value: object, name: str, where: str) -> dict[str, Any]:
    found = value.get("configuration", {}) if isinstance(value, dict) and value.get("name") == name else None
    if not isinstance(found, dict):
        raise StoreError(f"{where}: {shown(value)} is not what is read there ({name}): damaged or forged.")
    return found


def _check_codecs(value: object, where: str, kind: str, chunk: tuple[int, ...], depth: int = 0) -> tuple[int, ...]:
    """Known codecs, at most one that compresses; gives the shape that is decoded at once."""
    if not isinstance(value, list) or not 0 < len(value) <= _MOST_CODECS:
        raise StoreError(f"{where}: codecs are {shown(value)}, not a short list.")
    names = _names(value)
    for name in names:
        if not isinstance(name, str) or name not in _COMPRESSORS | _SERIALIZERS | _OTHERS:
            raise StoreError(f"{where}: the codec {shown(name)} is not read; write the array with another.")
    many = sum(name in _COMPRESSORS for name in names) > 1 or sum(name in _SERIALIZERS for name in names) != 1
    texts = "vlen-utf8" in names
    if many or texts != (kind == "string"):
        raise StoreError(f"{where}: the codecs {names} make no sense for {kind}: damaged or forged.")
    if "sharding_indexed" not in names:
        return chunk
    settings = _configuration(value[names.index("sharding_indexed")], "sharding_indexed", where)
    inner = _axes(settings.get("chunk_shape"), where, "chunk_shape")
    if depth or len(names) > 1 or len(inner) != len(chunk) or any(a % b for a, b in zip(chunk, inner, strict=True)):
        raise StoreError(f"{where}: chunks of {inner} in shards of {chunk} are not read: damaged or forged.")
    _check_codecs(settings.get("codecs"), where, kind, inner, depth + 1)
    index = settings.get("index_codecs")
    index_names = (
        [item.get("name") if isinstance(item, dict) else item for item in index if item]
        if isinstance(index, list)
        else []
    )
    if index_names not in (["bytes"], ["bytes", "crc32c"]):
        raise StoreError(f"{where}: the codecs of the shards' index are {shown(index)}: not read.")
    return inner


def _names(codecs: object) -> list[Any]:
    items = codecs if isinstance(codecs, list) else []
    return [item.get("name") if isinstance(item, dict) else item for item in items]


def bounded(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """The same array with codecs that refuse to decode more than a chunk can hold."""
    metadata: Any = array.metadata
    changed = dataclasses.replace(metadata, codecs=tuple(map(_bounded_codec, metadata.codecs)))
    return zarr.Array(zarr.AsyncArray(metadata=changed, store_path=array.store_path))


def _bounded_codec(codec: Codec) -> Codec:
    if isinstance(codec, ShardingCodec):
        return dataclasses.replace(codec, codecs=tuple(map(_bounded_codec, codec.codecs)))
    if isinstance(codec, GzipCodec):
        return _Gzip(level=codec.level)
    if isinstance(codec, ZstdCodec):
        return _Zstd(level=codec.level, checksum=codec.checksum)
    if isinstance(codec, BloscCodec):
        return _Blosc(cname=codec.cname, clevel=codec.clevel, typesize=codec.typesize, shuffle=codec.shuffle)
    return _Texts() if isinstance(codec, VLenUTF8Codec) else codec


def _most_decoded(spec: ArraySpec) -> int:
    kind = spec.dtype.to_native_dtype()
    if kind.kind in "OT":
        return guard.MAX_TEXT_BYTES
    return math.prod(spec.shape) * kind.itemsize + _CRC_BYTES


def _refuse(n_bytes: int | None, spec: ArraySpec) -> None:
    if n_bytes is None or n_bytes > _most_decoded(spec):
        what = "an unknown number of" if n_bytes is None else f"{n_bytes:,}"
        raise ValueError(f"a chunk of shape {spec.shape} would decode to {what} bytes: forged")


class _Gzip(GzipCodec):
    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        decoder, most = zlib.decompressobj(wbits=31), _most_decoded(chunk_spec)
        content = decoder.decompress(chunk_bytes.to_bytes(), most + 1)
        _refuse(len(content), chunk_spec)
        if not decoder.eof or decoder.unused_data:
            raise ValueError("a chunk is not one whole gzip stream")
        return chunk_spec.prototype.buffer.from_bytes(content)


class _Zstd(ZstdCodec):
    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        _refuse(zstd_bytes(chunk_bytes.to_bytes()), chunk_spec)
        return super()._decode_sync(chunk_bytes, chunk_spec)


class _Blosc(BloscCodec):
    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        content = chunk_bytes.to_bytes()
        _refuse(struct.unpack_from("<I", content, 4)[0] if len(content) >= 16 else None, chunk_spec)
        return super()._decode_sync(chunk_bytes, chunk_spec)


class _Texts(VLenUTF8Codec):
    def _decode_sync(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        content = chunk_bytes.to_bytes()
        n_texts = struct.unpack_from("<I", content)[0] if len(content) >= 4 else -1
        if n_texts != math.prod(chunk_spec.shape) or len(content) < 4 * (n_texts + 1):
            raise ValueError(f"a chunk of shape {chunk_spec.shape} holds {n_texts:,} texts: damaged or forged")
        return super()._decode_sync(chunk_bytes, chunk_spec)


#: Zarr asks for the codec of texts by the name of its class.
_Texts.__name__ = VLenUTF8Codec.__name__


def zstd_bytes(frame: bytes) -> int | None:
    """What one Zstandard frame says it decodes to; None where it does not say, is none, or is not the only one.

    Source: RFC 8878, section 3.1.1.
    """
    if len(frame) < 9 or frame[:4] != b"\x28\xb5\x2f\xfd":
        return None
    descriptor = frame[4]
    single, size_flag = bool(descriptor & 0x20), descriptor >> 6
    at = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3]
    width = (1 if single else 0, 2, 4, 8)[size_flag]
    end = _end_of_blocks(frame, at + width) + (4 if descriptor & 4 else 0)
    if not width or end != len(frame):
        return None
    return int.from_bytes(frame[at : at + width], "little") + (256 if width == 2 else 0)


def _end_of_blocks(frame: bytes, at: int) -> int:
    """Where the blocks of a Zstandard frame end, which start at ``at``."""
    last = False
    while not last and at + 3 <= len(frame):
        header = int.from_bytes(frame[at : at + 3], "little")
        last = bool(header & 1)
        at += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
    return at if last else -1
