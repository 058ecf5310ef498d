"""Read a TensorFlow checkpoint ("tensor bundle") with numpy alone.

A bundle is an index and a data shard.  The index is an SSTable in LevelDB's format: blocks of
entries whose keys share prefixes, a block of block handles, and a 48-byte footer.  Each value is a
small protobuf that gives type, shape, offset and size of a tensor in the shard.

Source: tensorflow/core/util/tensor_bundle and tensorflow/core/lib/io/format (formats only).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import WeightsError

_FOOTER = 48
_MAGIC = bytes.fromhex("57fb808b247547db")
_TRAILER = 5  # one byte of compression, four of checksum, after each block
_DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}
_MASK = 0xA282EAD8


@dataclass
class _Entry:
    """Where a tensor lies: ``BundleEntryProto``."""

    dtype: int = 0
    shape: list[int] = field(default_factory=list)
    offset: int = 0
    size: int = 0
    checksum: int = 0


def read_bundle(index: Path, data: Path) -> dict[str, NDArray[np.generic]]:
    """All numeric tensors of a checkpoint by name.

    Args:
        index: the ``.index`` file.
        data: the only shard, ``.data-00000-of-00001``.

    Raises:
        WeightsError: not a bundle, compressed, cut short, or with a wrong checksum.
    """
    try:
        entries = dict(_read_index(index.read_bytes()))
    except (IndexError, ValueError) as error:
        raise WeightsError(f"{index} is not the index of a TensorFlow checkpoint: {error}") from error
    shard = memoryview(data.read_bytes())
    return {name: _read_tensor(name, entry, shard, data) for name, entry in entries.items() if entry.dtype in _DTYPES}


def _read_tensor(name: str, entry: _Entry, shard: memoryview, data: Path) -> NDArray[np.generic]:
    raw = shard[entry.offset : entry.offset + entry.size]
    dtype = np.dtype(_DTYPES[entry.dtype])
    if len(raw) != entry.size or math.prod(entry.shape) * dtype.itemsize != entry.size:
        raise WeightsError(
            f"{data}: tensor {name} should have {entry.size} bytes at {entry.offset}; the file is cut short."
        )
    if _unmask(entry.checksum) != google_crc32c.value(bytes(raw)):
        raise WeightsError(f"{data}: tensor {name} does not have the checksum its index gives; the file is damaged.")
    return np.frombuffer(raw, dtype).reshape(entry.shape)


def _read_index(table: bytes) -> Iterator[tuple[str, _Entry]]:
    if table[-8:] != _MAGIC:
        raise ValueError("its last eight bytes are not the magic number of an SSTable")
    footer = table[-_FOOTER:]
    _, position = _handle(footer, 0)
    handle, _ = _handle(footer, position)
    for _, value in _read_block(table, handle):
        for key, entry in _read_block(table, _handle(value, 0)[0]):
            if key:  # the empty key holds the header
                yield key.decode(), _parse_entry(entry)


def _handle(raw: bytes, position: int) -> tuple[tuple[int, int], int]:
    offset, position = _varint(raw, position)
    size, position = _varint(raw, position)
    return (offset, size), position


def _read_block(table: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    offset, size = handle
    if table[offset + size] != 0:
        raise ValueError("its blocks are compressed, which is not supported")
    block = table[offset : offset + size]
    if _unmask(int.from_bytes(table[offset + size + 1 : offset + size + _TRAILER], "little")) != google_crc32c.value(
        table[offset : offset + size + 1]
    ):
        raise ValueError("a block does not have its checksum")
    n_restarts = int.from_bytes(block[-4:], "little")
    end, position, key = len(block) - 4 * (n_restarts + 1), 0, b""
    while position < end:
        shared, position = _varint(block, position)
        own, position = _varint(block, position)
        length, position = _varint(block, position)
        key = key[:shared] + block[position : position + own]
        position += own
        yield key, block[position : position + length]
        position += length


def _parse_entry(raw: bytes) -> _Entry:
    """Fields of ``BundleEntryProto``: 1 dtype, 2 shape, 3 shard, 4 offset, 5 size, 6 crc32c."""
    entry = _Entry()
    for number, value in _fields(raw):
        if number == 1 and isinstance(value, int):
            entry.dtype = value
        elif number == 2 and isinstance(value, bytes):
            entry.shape = [_dimension(size) for tag, size in _fields(value) if tag == 2 and isinstance(size, bytes)]
        elif number == 4 and isinstance(value, int):
            entry.offset = value
        elif number == 5 and isinstance(value, int):
            entry.size = value
        elif number == 6 and isinstance(value, int):
            entry.checksum = value
    return entry


def _dimension(raw: bytes) -> int:
    return next((value for tag, value in _fields(raw) if tag == 1 and isinstance(value, int)), 0)


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Field numbers and values of a protobuf message: varints, four fixed bytes, or bytes."""
    position = 0
    while position < len(raw):
        key, position = _varint(raw, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(raw, position)
            yield number, value
        elif wire == 2:
            length, position = _varint(raw, position)
            yield number, raw[position : position + length]
            position += length
        elif wire == 5:
            yield number, int.from_bytes(raw[position : position + 4], "little")
            position += 4
        else:
            raise ValueError(f"it holds a field of wire type {wire}")


def _varint(raw: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _unmask(checksum: int) -> int:
    """Undo LevelDB's rotation of a CRC that is stored beside the data it covers."""
    rotated = (checksum - _MASK) & 0xFFFFFFFF
    return ((rotated >> 17) | (rotated << 15)) & 0xFFFFFFFF
