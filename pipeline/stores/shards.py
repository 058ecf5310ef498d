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
from pathlib import Path

import google_crc32c
import numpy as np

from pipeline.errors import StoreError
from pipeline.files import publishing
from pipeline.stores.guard import open_regular
from pipeline.stores.views import zeros

_ABSENT = np.uint64(0xFFFFFFFFFFFFFFFF)
_CRC_BYTES = 4


def shard_key(shard: int) -> str:
    """File name of a shard inside the folder of ``features``: chunk keys with dots, no folders."""
    return f"c.{shard}.0.0"


def write_shard(path: Path, features: np.ndarray, *, chunk_clips: int, shard_clips: int) -> str:
    """Publish one shard and return the SHA-256 of its bytes.

    The file is written under a unique name, synced and renamed, so that two workers on the same
    shard cannot harm each other and a killed one leaves nothing that looks finished.

    Shape:
        features: [clips, frames, channels], little-endian; ``clips`` at most ``shard_clips``.
    """
    clips, frames, channels = features.shape
    index = np.full((shard_clips // chunk_clips, 2), _ABSENT, dtype="<u8")
    digest, offset = hashlib.sha256(), 0
    with publishing(path) as draft, draft.open("wb") as handle:
        for number, first in enumerate(range(0, clips, chunk_clips)):
            chunk = np.zeros((chunk_clips, frames, channels), features.dtype)
            chunk[: min(chunk_clips, clips - first)] = features[first : first + chunk_clips]
            content = chunk.tobytes()
            content += _crc(content)
            index[number] = offset, len(content)
            offset += len(content)
            digest.update(content)
            handle.write(content)
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
        self._map = self._open()
        self._offsets = self._read_index()
        self._verified = np.zeros(self._chunks, bool) if verified is None else verified

    def chunk(self, number: int) -> np.ndarray:
        """A view of one chunk, [clips, frames, channels]; zeros where it was never written.

        Raises:
            StoreError: its checksum is wrong; its number and rows are named.
        """
        if self._offsets[number] == _ABSENT:
            return zeros(self.chunk_shape, self.dtype)
        if not self._verified[number]:
            self._verify(number)
            self._verified[number] = True
        start, n = int(self._offsets[number]), int(np.prod(self.chunk_shape))
        return np.frombuffer(self._map, self.dtype, count=n, offset=start).reshape(self.chunk_shape)

    def _open(self) -> mmap.mmap:
        with open_regular(self.path) as handle:
            size = handle.seek(0, 2)
            if size < self._chunks * 16 + _CRC_BYTES:
                raise StoreError(f"{self.path.name} has {size} bytes, too few for a shard: damaged or cut short.")
            return mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)

    def _read_index(self) -> np.ndarray:
        n = self._chunks * 16
        tail = self._map[-(n + _CRC_BYTES) :]
        if _crc(tail[:n]) != tail[n:]:
            raise StoreError(f"{self.path.name}: the checksum of the shard's index is wrong: the file is damaged.")
        index = np.frombuffer(tail[:n], "<u8").reshape(self._chunks, 2)
        limit = len(self._map) - n - _CRC_BYTES
        self._check_index(index, limit)
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

    def _verify(self, number: int) -> None:
        start = int(self._offsets[number])
        stop = start + self._content_bytes
        if _crc(self._map[start:stop]) != self._map[stop : stop + _CRC_BYTES]:
            first = number * self.chunk_shape[0]
            raise StoreError(
                f"{self.path.name}: the checksum of chunk {number} (rows {first} to "
                f"{first + self.chunk_shape[0] - 1} of the shard) is wrong: the file is damaged. "
                "Extract the store again, or fetch it again from where it came."
            )


def _crc(content: bytes) -> bytes:
    """crc32c, four bytes little-endian, as Zarr's codec appends it."""
    return int(google_crc32c.value(content)).to_bytes(4, "little")
