"""HDF5 stores between places: one file, held to its seal."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.stores.guard import open_regular
from pipeline.stores.seal import SEAL_BYTES, Seal, parse_seal
from pipeline.stores.sharing.places import BLOCK, Place


def check_sealed(path: Path, where: str) -> str:
    """SHA-256 of a whole HDF5 file, in hexadecimal, after its content was held to its seal.

    Raises:
        StoreError: it has no seal, or another digest than its seal says.
    """
    digest = hashlib.sha256()
    with open_regular(path, follow=True) as handle:
        left = handle.seek(0, 2) - SEAL_BYTES
        handle.seek(0)
        while left > 0 and (block := handle.read(min(BLOCK, left))):
            digest.update(block)
            left -= len(block)
        tail = handle.read()
        n_bytes = handle.tell()
    seal = require_seal(tail, n_bytes, where)
    if digest.hexdigest() != seal.sha256:
        raise StoreError(f"{where} is not what its seal says: damaged. Look with east store verify.")
    digest.update(tail)
    return digest.hexdigest()


def remote_seal(place: Place, name: str, n_bytes: int | None) -> Seal | None:
    """The seal of a file that has so many bytes; None where only whole files can be had, or no size is told.

    Raises:
        StoreError: there is none.
    """
    tail = place.read_tail(name, SEAL_BYTES, n_bytes) if n_bytes is not None else b""
    return require_seal(tail, n_bytes or 0, place.below(name)) if tail else None


def require_seal(tail: bytes, n_bytes: int, where: str) -> Seal:
    """The seal in the last bytes of a file of so many bytes.

    Raises:
        StoreError: there is none, or it is of a file of another length.
    """
    seal = parse_seal(tail)
    if seal is None or seal.n_bytes + SEAL_BYTES != n_bytes:
        raise StoreError(
            f"{where} has no whole seal: changed since it was written, cut short, or of an older release. Look at it "
            "where it was made with east store verify; east store convert writes it anew, sealed."
        )
    return seal
