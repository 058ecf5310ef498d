"""The seal of an HDF5 store: one line after the end of what HDF5 calls the file, with its SHA-256.

HDF5's own checksums cover data, and some metadata, but neither attributes' texts, heaps nor unused
space.  A reader of HDF5 goes by the end-of-file address in the superblock and never sees what
follows; a program that changes the file cuts the line off, and the root attribute ``sealed``, which
stays, then tells that it is missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from pipeline.files import sha256_of

SEALED = "sealed"
SEAL_BYTES = 144
_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LINE = re.compile(rb"east-store seal 1 sha256 ([0-9a-f]{64}) of ([0-9]{20}) bytes, ([0-9a-f]{8}) *\n")


@dataclass(frozen=True)
class Seal:
    """What a seal says: SHA-256 of the first ``n_bytes`` of the file, in hexadecimal."""

    sha256: str
    n_bytes: int

    def line(self) -> bytes:
        """The line, :data:`SEAL_BYTES` long; its own crc32c tells a damaged seal from a damaged file."""
        text = f"east-store seal 1 sha256 {self.sha256} of {self.n_bytes:020d} bytes, "
        crc = int(google_crc32c.value(text.encode()))
        return f"{text}{crc:08x}".ljust(SEAL_BYTES - 1).encode() + b"\n"


def append_seal(path: Path) -> None:
    """Seal a finished HDF5 file."""
    seal = Seal(sha256_of(path), path.stat().st_size)
    with path.open("ab") as handle:
        handle.write(seal.line())


def parse_seal(tail: bytes) -> Seal | None:
    """The seal in the last bytes of a file; None where they are no whole, undamaged seal."""
    found = _LINE.fullmatch(tail)
    if found is None:
        return None
    seal = Seal(found[1].decode(), int(found[2]))
    return seal if seal.line() == tail else None


def hdf5_bytes(head: bytes) -> int | None:
    """Where HDF5 says that its file ends, from the first 96 bytes; None where that cannot be read.

    Source: HDF5 File Format Specification 3.0, "Superblock", addresses of eight bytes.
    """
    version = head[8] if len(head) >= 48 and head.startswith(_SIGNATURE) else -1
    if version in (2, 3) and head[9] == 8:
        return int.from_bytes(head[28:36], "little")
    if version in (0, 1) and head[13] == 8:
        start = 40 + 4 * version
        return int.from_bytes(head[start : start + 8], "little")
    return None
