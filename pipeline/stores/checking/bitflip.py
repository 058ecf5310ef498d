"""Mending a single flipped bit, where a digest or a checksum says what the bytes were."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import google_crc32c
import numpy as np

_MOST_BYTES = 1 << 14
_MOST_CRC_BYTES = 1 << 22
_CRC = 4


def mend_by_digest(content: bytes, sha256: str) -> bytes | None:
    """The bytes with the one bit flipped that gives the digest; None where there is none, or they are long.

    Tries all bits: about a second for 16 KiB.
    """
    if len(content) > _MOST_BYTES:
        return None
    changed = bytearray(content)
    for place in range(len(changed)):
        for bit in range(8):
            changed[place] ^= 1 << bit
            if hashlib.sha256(changed).hexdigest() == sha256:
                return bytes(changed)
            changed[place] ^= 1 << bit
    return None


def mend_by_crc(content: bytes) -> bytes | None:
    """The bytes with the one bit flipped that makes the crc32c at their end right; None where none does.

    A crc is linear: flipping a bit changes it by a pattern that depends on the bit's distance from
    the end alone, and no two bits within 2^31 have the same.
    """
    if not _CRC < len(content) <= _MOST_CRC_BYTES:
        return None
    body, stored = content[:-_CRC], int.from_bytes(content[-_CRC:], "little")
    change = int(google_crc32c.value(body)) ^ stored
    if change == 0:
        return content
    changed = bytearray(content)
    if change.bit_count() == 1:
        changed[len(body) + (change.bit_length() - 1) // 8] ^= 1 << (change.bit_length() - 1) % 8
        return bytes(changed)
    patterns = _patterns(len(body).bit_length())[: len(body)]
    found = np.argwhere(patterns == np.uint32(change))
    if not len(found):
        return None
    distance, bit = found[0].tolist()
    changed[len(body) - 1 - distance] ^= 1 << bit
    return bytes(changed)


@lru_cache(maxsize=1)
def _patterns(log_bytes: int) -> np.ndarray:
    """How the crc changes with a bit: [2^log_bytes bytes from the end, 8 bits] uint32.

    Doubled step by step: a further byte behind a bit changes its pattern by a linear map, which is
    kept as four tables of 256.
    """
    table = np.array([_register(byte) for byte in range(256)], np.uint32)
    patterns = table[1 << np.arange(8)][None, :]
    step = np.array([_one_byte(np.uint32(1 << bit), table) for bit in range(32)], np.uint32)
    for _ in range(log_bytes):
        patterns = np.concatenate([patterns, _apply(step, patterns)])
        step = _apply(step, step)
    found: np.ndarray = patterns
    return found


def _register(byte: int) -> int:
    """The crc of one byte without start and end values: Castagnoli's polynomial, bits reversed."""
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


def _one_byte(register: np.uint32, table: np.ndarray) -> int:
    return int(table[int(register) & 0xFF]) ^ int(register) >> 8


def _apply(columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A linear map over bits, given by what it makes of each bit, to all values."""
    found: np.ndarray = np.zeros_like(values)
    for byte in range(4):
        table = np.zeros(256, np.uint32)
        for bit in range(8):
            table[(np.arange(256) >> bit & 1) == 1] ^= columns[8 * byte + bit]
        found ^= table[values >> np.uint32(8 * byte) & np.uint32(0xFF)]
    return found
