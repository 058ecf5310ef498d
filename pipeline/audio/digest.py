"""Digests of audio: of a file's bytes, and of what they decode to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.streams import open_stream

__all__ = ["file_digest", "samples_digest"]

_BLOCK = 1 << 20


def file_digest(path: Path | str) -> bytes:
    """SHA-256 of the bytes of a file or address, 32 bytes.

    Raises:
        AudioError: the file is missing or may not be read.
    """
    digest = hashlib.sha256()
    with open_stream(path) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.digest()


def samples_digest(samples: NDArray[np.float32], rate_hz: int) -> bytes:
    """SHA-256 over the rate and the mono samples at the file's own rate, 32 bytes.

    A WAV file and its FLAC copy have the same one.

    Shape:
        samples: [n], float32.
    """
    digest = hashlib.sha256(int(rate_hz).to_bytes(8, "little"))
    digest.update(np.ascontiguousarray(samples, dtype="<f4").tobytes())
    return digest.digest()
