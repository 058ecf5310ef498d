"""The bytes of one shard of ``features``, and reading them back by memory map.

A shard is a Zarr v3 ``sharding_indexed`` object: inner chunks one after the other, each followed
by its crc32c, then the index (offset and length of every chunk, unsigned 64-bit little-endian),
then the index's own crc32c.  Chunks are uncompressed, so that a reader may map the file and
gather rows without decoding.  Zarr itself reads the same file.

Source: Zarr v3 specification, "Sharding codec", version 1.0.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from pathlib import Path

import google_crc32c
import numpy as np

from pipeline.errors import StoreError
from pipeline.files import publishing
from pipeline.stores.codecs import PLAIN, Codec
from pipeline.stores.gather import address_of
from pipeline.stores.guard import open_regular

_ABSENT = np.uint64(0xFFFFFFFFFFFFFFFF)
_CRC_BYTES = 4


def shard_key(shard: int) -> str:
    """File name of a shard inside the folder of ``features``: chunk keys with dots, no folders."""
    return f"c.{shard}.0.0"


def tail_bytes(n_chunks: int) -> int:
    """Bytes of the index at the end of a shard, with its checksum."""
    return n_chunks * 16 + _CRC_BYTES


def shard_bytes(n_chunks: int, content_bytes: int) -> int:
    """Bytes of a full shard."""
    return n_chunks * (content_bytes + _CRC_BYTES) + tail_bytes(n_chunks)


def write_shard(path: Path, features: np.ndarray, *, chunk_clips: int, shard_clips: int, codec: Codec = PLAIN) -> str:
    """Publish one shard and return the SHA-256 of its bytes.

    The file is written under a unique name, synced and renamed, so that two workers on the same
    shard cannot harm each other and a killed one leaves nothing that looks finished.

    Shape:
        features: [clips, frames, channels], little-endian; ``clips`` at most ``shard_clips``.
    """
    clips, encode = len(features), codec.encode
    index = np.full((shard_clips // chunk_clips, 2), _ABSENT, dtype="<u8")
    digest, offset = hashlib.sha256(), 0
    with publishing(path) as draft, draft.open("wb") as handle:
        for number, first in enumerate(range(0, clips, chunk_clips)):
            content = _content(features[first : first + chunk_clips], chunk_clips)
            content = content if encode is None else np.frombuffer(encode(content.tobytes()), np.uint8)
            for part in (content.data, _crc(content)):
                digest.update(part)
                handle.write(part)
            index[number] = offset, content.nbytes + _CRC_BYTES
            offset += content.nbytes + _CRC_BYTES
        tail = index.tobytes()
        tail += _crc(tail)
        digest.update(tail)
        handle.write(tail)
        handle.flush()
    return digest.hexdigest()


class MappedShard:
    """Chunks of one shard by memory map; each one's checksum is verified on first touch.

    Args:
        verified: one flag per chunk, shared by the maps of a shard that come and go.

    Attributes:
        identity: device and inode of the mapped file.
    """

    def __init__(
        self,
        path: Path,
        *,
        chunk_shape: tuple[int, int, int],
        shard_clips: int,
        dtype: np.dtype,
        verified: np.ndarray | None = None,
    ) -> None:
        self.path, self.chunk_shape = path, chunk_shape
        self.dtype = dtype.newbyteorder("<")
        self._chunks = shard_clips // chunk_shape[0]
        self._content_bytes = int(np.prod(chunk_shape)) * dtype.itemsize
        self._bytes = self._open()
        self._offsets = self._read_index()
        self._verified = np.zeros(self._chunks, bool) if verified is None else verified
        self._address = address_of(self._bytes)

    def chunk(self, number: int) -> np.ndarray:
        """A view of one chunk, [clips, frames, channels]; zeros where it was never written.

        Raises:
            StoreError: its checksum is wrong; its number and rows are named.
        """
        if self._offsets[number] == _ABSENT:
            return zeros(self.chunk_shape, self.dtype)
        self._require_verified(number)
        start = int(self._offsets[number])
        return self._bytes[start : start + self._content_bytes].view(self.dtype).reshape(self.chunk_shape)

    def address(self, number: int) -> int | None:
        """Where a chunk's content begins in memory while this object lives; None where it was never written.

        Raises:
            StoreError: its checksum is wrong.
        """
        if self._offsets[number] == _ABSENT:
            return None
        self._require_verified(number)
        return self._address + int(self._offsets[number])

    def span(self, number: int) -> tuple[int, int]:
        """First byte of a chunk in the file, and the first after its checksum; twice 0 where it was never written."""
        if self._offsets[number] == _ABSENT:
            return 0, 0
        start = int(self._offsets[number])
        return start, start + self._content_bytes + _CRC_BYTES

    def has(self, number: int) -> bool:
        """Whether a chunk that was written has its checksum here; in a file that is being fetched it may not yet."""
        first, stop = self.span(number)
        if first == stop or self._verified[number]:
            return True
        self._verified[number] = is_sound(self._bytes[first:stop])
        return bool(self._verified[number])

    def _open(self) -> np.ndarray:
        """The file's bytes, mapped, read-only."""
        with open_regular(self.path) as handle:
            about = os.fstat(handle.fileno())
            self.identity, size = (about.st_dev, about.st_ino), about.st_size
            if size < tail_bytes(self._chunks):
                raise StoreError(f"{self.path.name} has {size} bytes, too few for a shard: damaged or cut short.")
            return np.frombuffer(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)

    def _read_index(self) -> np.ndarray:
        tail = self._bytes[-tail_bytes(self._chunks) :]
        if not is_sound(tail):
            raise StoreError(f"{self.path.name}: the checksum of the shard's index is wrong: the file is damaged.")
        index = np.frombuffer(tail[:-_CRC_BYTES].tobytes(), "<u8").reshape(self._chunks, 2)
        self._check_index(index, len(self._bytes) - len(tail))
        return np.ascontiguousarray(index[:, 0])

    def _check_index(self, index: np.ndarray, limit: int) -> None:
        """Every chunk that is there lies within the shard, has its length, and shares no byte with another."""
        length = self._content_bytes + _CRC_BYTES
        there = index[:, 0] != _ABSENT
        bad = there & ((index[:, 1] != length) | (index[:, 0] > np.uint64(max(0, limit - length))) | (length > limit))
        if bad.any():
            number = int(np.flatnonzero(bad)[0])
            raise StoreError(f"{self.path.name}: chunk {number} lies outside the shard: damaged or forged.")
        if (np.diff(np.sort(index[there, 0])) < np.uint64(length)).any():
            raise StoreError(f"{self.path.name}: two chunks share bytes of the shard: damaged or forged.")

    def _require_verified(self, number: int) -> None:
        if not self.has(number):
            first = number * self.chunk_shape[0]
            raise StoreError(
                f"{self.path.name}: the checksum of chunk {number} (rows {first} to "
                f"{first + self.chunk_shape[0] - 1} of the shard) is wrong: the file is damaged. "
                "Extract the store again, or fetch it again from where it came."
            )


def zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that take the memory of one number."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _content(rows: np.ndarray, chunk_clips: int) -> np.ndarray:
    """The bytes of a chunk, read-only, filled up with zeros; not copied where they need not be."""
    if len(rows) < chunk_clips:
        rows = np.concatenate([rows, np.zeros((chunk_clips - len(rows), *rows.shape[1:]), rows.dtype)])
    content = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
    content.flags.writeable = False
    return content


def is_sound(content: np.ndarray) -> bool:
    """Whether bytes are followed by their checksum."""
    return _crc(content[:-_CRC_BYTES]) == content[-_CRC_BYTES:].tobytes()


def _crc(content: bytes | np.ndarray) -> bytes:
    """crc32c of read-only bytes, four bytes little-endian, as Zarr's codec appends it."""
    return int(google_crc32c.value(content)).to_bytes(_CRC_BYTES, "little")
