"""How much audio a file's own header promises, from its headers and its end alone.

Half a WAV, OGG, Opus or MP3 file decodes without an error.  What tells is the size of the data
chunk (WAV, AIFF), the missing end-of-stream page (OGG, Opus), the frame count of the Xing or Info
header (MP3, else its frame headers are walked).  FLAC states its length to the decoder itself.

Sources: RIFF/RF64 (EBU Tech 3306), RFC 3533 (Ogg), ISO 11172-3 and the Xing/LAME tag.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

from pipeline.audio.mpeg import count_mpeg, parse_header

__all__ = ["Promise", "read_promise"]

MP3_TOLERANCE = 3_000
_OGG_TAIL = 2 * 65_307
_MAX_CHUNKS = 4_096
_PLAIN_CODES = frozenset({1, 3, 6, 7})
_EXTENSIBLE = 0xFFFE


@dataclass(frozen=True)
class Promise:
    """What a header says.

    Attributes:
        n_frames: samples per channel, or None where the format does not say.
        cut: the file ends in the middle of something, at a place that does not tell how much is lost.
        tolerance: samples by which the count may be off.
    """

    n_frames: int | None = None
    cut: bool = False
    tolerance: int = 0


def read_promise(stream: BinaryIO, suffix: str = "") -> Promise:
    """The promise of an open file; the position is left anywhere. Never raises for damaged content.

    Args:
        suffix: such as ``".mp3"``, which tells what a file with a damaged start was.
    """
    stream.seek(0)
    head = stream.read(16)
    size = stream.seek(0, os.SEEK_END)
    try:
        if head[:4] in (b"RIFF", b"RF64", b"RIFX", b"BW64") and head[8:12] == b"WAVE":
            return _wav(stream, size, ">" if head[:4] == b"RIFX" else "<")
        if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
            return _aiff(stream, size)
        if head[:4] == b"OggS":
            return _ogg(stream, size)
        if suffix in (".mp3", ".mp2") or head[:3] == b"ID3" or parse_header(head) is not None:
            return _mp3(stream, size)
    except struct.error:
        return Promise(cut=True)
    return Promise()


def _wav(stream: BinaryIO, size: int, order: str) -> Promise:
    """Data bytes over bytes per frame; a size of all ones means a stream of unknown length."""
    block_align, code, long_size = 0, 0, 0
    at = 12
    for _ in range(_MAX_CHUNKS):
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            return Promise(cut=True)
        name, n_bytes = head[:4], struct.unpack(f"{order}I", head[4:])[0]
        if name == b"ds64":
            long_size = struct.unpack("<Q", stream.read(16)[8:])[0]
        elif name == b"fmt ":
            code, block_align = _wav_format(stream.read(min(n_bytes, 40)), order)
        elif name == b"data":
            return _wav_data(n_bytes, long_size, size - at - 8, block_align if code in _PLAIN_CODES else 0)
        at += 8 + n_bytes + (n_bytes & 1)
    return Promise()


def _wav_format(chunk: bytes, order: str) -> tuple[int, int]:
    """Format code and bytes per frame; an extensible header keeps its code in the sub-format."""
    code, _, _, _, block_align = struct.unpack(f"{order}HHIIH", chunk[:14])
    if code == _EXTENSIBLE and len(chunk) >= 26:
        code = struct.unpack(f"{order}H", chunk[24:26])[0]
    return code, block_align


def _wav_data(n_bytes: int, long_size: int, there: int, block_align: int) -> Promise:
    if n_bytes == 0xFFFFFFFF and long_size:
        n_bytes = long_size
    elif n_bytes >= 0xFFFFF000 or 0x7FFFF000 <= n_bytes <= 0x7FFFFFFF or (n_bytes == 0 and there > 0):
        return Promise()
    if block_align == 0:
        return Promise(cut=n_bytes > there)
    return Promise(n_bytes // block_align)


def _aiff(stream: BinaryIO, size: int) -> Promise:
    at = 12
    for _ in range(_MAX_CHUNKS):
        stream.seek(at)
        head = stream.read(14)
        if len(head) < 14:
            return Promise(cut=at < size)
        name, n_bytes = head[:4], struct.unpack(">I", head[4:8])[0]
        if name == b"COMM":
            return Promise(struct.unpack(">I", head[10:14])[0])
        at += 8 + n_bytes + (n_bytes & 1)
    return Promise()


def _ogg(stream: BinaryIO, size: int) -> Promise:
    """Cut when the last page is not an end-of-stream page, or reaches beyond the file."""
    start = max(0, size - _OGG_TAIL)
    stream.seek(start)
    tail = stream.read(size - start)
    at = tail.rfind(b"OggS")
    if at < 0 or len(tail) < at + 27:
        return Promise(cut=True)
    n_segments = tail[at + 26]
    lacing = tail[at + 27 : at + 27 + n_segments]
    end = at + 27 + n_segments + sum(lacing)
    return Promise(cut=not tail[at + 5] & 0x04 or len(lacing) < n_segments or end > len(tail))


def _mp3(stream: BinaryIO, size: int) -> Promise:
    n_frames, cut = count_mpeg(stream, size)
    return Promise(n_frames, cut=cut, tolerance=MP3_TOLERANCE)
