"""Mending a single flipped bit, where a digest says what the bytes were."""

from __future__ import annotations

import hashlib

_MOST_BYTES = 1 << 14


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
