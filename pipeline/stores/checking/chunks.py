"""One shard's file read once: its digest, each chunk's checksum, each clip's digest, from the same buffers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np

from pipeline.stores.checking.blocks import OTHER, Facts, check_block
from pipeline.stores.schema import StoreMeta
from pipeline.stores.shards import shard_key

_CRC = 4
_ABSENT = 0xFFFFFFFFFFFFFFFF
_GAP_BYTES = 1 << 20


@dataclass(frozen=True)
class ShardLayout:
    """Sizes of the shards of a store that is laid out as this package writes it."""

    chunk_clips: int
    shard_clips: int
    frames: int
    channels: int
    dtype: str

    @classmethod
    def of(cls, meta: StoreMeta) -> ShardLayout:
        """Sizes by the root attributes."""
        return cls(meta.chunk_clips, meta.shard_clips, meta.frames, meta.channels, meta.dtype)

    @property
    def chunks(self) -> int:
        """Chunks per shard."""
        return self.shard_clips // self.chunk_clips

    @property
    def content_bytes(self) -> int:
        """Bytes of a chunk without its checksum."""
        return self.chunk_clips * self.frames * self.channels * np.dtype(self.dtype).itemsize

    @property
    def index_bytes(self) -> int:
        """Bytes of the index without its checksum."""
        return 16 * self.chunks

    def view(self, content: bytes) -> np.ndarray:
        """A chunk as [clips, frames, channels]; what is missing at the end is zero."""
        whole = content if len(content) == self.content_bytes else content.ljust(self.content_bytes, b"\0")
        shape = self.chunk_clips, self.frames, self.channels
        return np.frombuffer(whole, np.dtype(self.dtype).newbyteorder("<")).reshape(shape)


@dataclass(frozen=True, eq=False)
class ShardScan:
    """What one shard's file holds.

    Attributes:
        sha256: of the file, in hexadecimal; empty where there is none.
        bad_chunks: whose checksum is wrong.
        faults: what is wrong with the file beyond chunks, in words: index, length, gaps.
        flags: [clips of the shard] see :mod:`blocks`.
    """

    shard: int
    n_bytes: int
    sha256: str
    bad_chunks: tuple[int, ...]
    faults: tuple[str, ...]
    flags: np.ndarray

    @property
    def whole(self) -> bool:
        """Nothing is wrong, by the shard's own checksums and its clips' digests."""
        return not self.bad_chunks and not self.faults and not self.flags.any()


def scan_shard(folder: Path, shard: int, layout: ShardLayout, facts: Facts) -> ShardScan:
    """Read and check one shard; memory is that of one chunk.

    Args:
        folder: of ``features``.
    """
    path = folder / shard_key(shard)
    if not path.is_file():
        return _absent(shard, layout, facts)
    scan = _Scan(shard, layout, facts)
    with path.open("rb") as handle:
        size = handle.seek(0, 2)
        places = scan.plan(handle, size)
        handle.seek(0)
        scan.read(handle, places, size)
    return ShardScan(shard, size, scan.digest.hexdigest(), tuple(scan.bad), tuple(scan.faults), scan.flags)


def read_chunks(folder: Path, shard: int, layout: ShardLayout) -> Iterator[tuple[int, np.ndarray]]:
    """Number and content of each chunk that a shard's file has, whatever its checksums say."""
    path = folder / shard_key(shard)
    if not path.is_file():
        return
    scan = _Scan(shard, layout, None)
    with path.open("rb") as handle:
        for offset, number in scan.plan(handle, handle.seek(0, 2)):
            handle.seek(offset)
            yield number, layout.view(handle.read(layout.content_bytes))


def _absent(shard: int, layout: ShardLayout, facts: Facts) -> ShardScan:
    """A shard without a file is all zeros, which is right where no clip has a valid frame."""
    scan = _Scan(shard, layout, facts)
    for number in range(layout.chunks):
        scan.check(number, b"")
    faults = ("there is no such file",) if scan.flags.any() else ()
    return ShardScan(shard, 0, "", (), faults, scan.flags)


class _Scan:
    def __init__(self, shard: int, layout: ShardLayout, facts: Facts | None) -> None:
        self.layout, self.facts = layout, facts
        self.first = shard * layout.shard_clips
        n = 0 if facts is None else max(0, min(layout.shard_clips, len(facts) - self.first))
        self.flags = np.zeros(n, np.uint8)
        self.bad: list[int] = []
        self.faults: list[str] = []
        self.digest = hashlib.sha256()

    def plan(self, handle: BinaryIO, size: int) -> list[tuple[int, int]]:
        """Offset and number of the chunks, by offset; where they should be if the index is damaged."""
        layout, step = self.layout, self.layout.content_bytes + _CRC
        handle.seek(max(0, size - layout.index_bytes - _CRC))
        tail = handle.read(layout.index_bytes + _CRC)
        usual = [(number * step, number) for number in range(layout.chunks) if number * step < size]
        if len(tail) < layout.index_bytes + _CRC:
            self.faults.append(f"it has {size:,} bytes, too few for a shard")
            return usual
        if _crc(tail[:-_CRC]) != tail[-_CRC:]:
            self.faults.append("the checksum of the shard's index is wrong")
            return [place for place in usual if place[0] + step <= size - len(tail)] or usual
        index = np.frombuffer(tail[:-_CRC], "<u8").reshape(-1, 2).tolist()
        places = [(offset, number) for number, (offset, _) in enumerate(index) if offset != _ABSENT]
        limit = size - len(tail)
        if any(length != step or offset + length > limit for offset, length in index if offset != _ABSENT):
            self.faults.append("the index names chunks outside the shard")
            return usual
        return sorted(places)

    def read(self, handle: BinaryIO, places: list[tuple[int, int]], size: int) -> None:
        """The whole file in order: chunks, what lies between them, index."""
        layout, at = self.layout, 0
        for offset, number in places:
            if offset < at:
                self.faults.append("two chunks share bytes")
                continue
            self._skip(handle, offset - at)
            content, crc = handle.read(layout.content_bytes), handle.read(_CRC)
            self.digest.update(content)
            self.digest.update(crc)
            if _crc(content) != crc:
                self.bad.append(number)
            self.check(number, content)
            at = offset + len(content) + len(crc)
        present = {number for _, number in places}
        for number in set(range(layout.chunks)) - present:
            self.check(number, b"")
        self._skip(handle, size - at - layout.index_bytes - _CRC)
        self.digest.update(handle.read())

    def check(self, number: int, content: bytes) -> None:
        """Flags of one chunk's clips."""
        first = self.first + number * self.layout.chunk_clips
        if self.facts is None or first >= len(self.facts):
            return
        found = check_block(self.layout.view(content), first, self.facts)
        start = first - self.first
        if len(content) not in (0, self.layout.content_bytes):
            found[self.facts.finished[first : first + len(found)]] |= OTHER
        self.flags[start : start + len(found)] = found

    def _skip(self, handle: BinaryIO, n: int) -> None:
        if n > 0:
            self.faults.append(f"{n:,} bytes in it belong to no chunk")
        while n > 0:
            block = handle.read(min(n, _GAP_BYTES))
            if not block:
                return
            self.digest.update(block)
            n -= len(block)


def _crc(content: bytes) -> bytes:
    return int(google_crc32c.value(content)).to_bytes(_CRC, "little")
