"""Writing TensorFlow checkpoints ("tensor bundles") for tests of what reads them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import google_crc32c
import numpy as np
from numpy.typing import NDArray

_MAGIC = 0xDB4775248B80FB57
_TYPES = {"float32": 1, "float64": 2, "int32": 3, "int64": 9}


def write_bundle(index: Path, data: Path, tensors: Mapping[str, NDArray[np.generic]]) -> None:
    """One shard, one block, in the format that TensorFlow writes."""
    entries, shard = {b"": b"\x08\x01\x1a\x02\x08\x01"}, bytearray()  # one shard, version of the format
    for name, tensor in sorted(tensors.items()):
        raw = np.ascontiguousarray(tensor).tobytes()
        dimensions = b"".join(_field(2, _number(1, size)) for size in tensor.shape)
        entry = _number(1, _TYPES[tensor.dtype.name]) + _field(2, dimensions) + _number(4, len(shard))
        entries[name.encode()] = entry + _number(5, len(raw)) + b"\x35" + struct.pack("<I", _checksum(raw))
        shard += raw
    data.write_bytes(shard)
    table = bytearray()
    block = _append(table, _block(sorted(entries.items())))
    meta = _append(table, _block([]))
    blocks = _append(table, _block([(b"\xff", block)]))
    footer = meta + blocks
    index.write_bytes(table + footer + bytes(40 - len(footer)) + struct.pack("<Q", _MAGIC))


def _append(table: bytearray, block: bytes) -> bytes:
    """Add a block and its trailer; its handle."""
    handle = _varint(len(table)) + _varint(len(block))
    table += block + b"\0" + struct.pack("<I", _checksum(block + b"\0"))
    return handle


def _block(entries: Iterable[tuple[bytes, bytes]]) -> bytes:
    made, before = bytearray(), b""
    for key, value in entries:
        shared = next(
            (at for at, (a, b) in enumerate(zip(key, before, strict=False)) if a != b), min(len(key), len(before))
        )
        made += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        before = key
    return bytes(made + struct.pack("<II", 0, 1))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _field(field: int, raw: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)


def _checksum(raw: bytes) -> int:
    """LevelDB's masked CRC32C."""
    crc = google_crc32c.value(bytes(raw))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
