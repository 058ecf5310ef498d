"""The length of an MPEG audio file (MP3) from its frame headers.

Encoders write the number of frames into the first frame (a Xing or Info header, or VBRI).  Where
there is none, headers are walked from frame to frame: 4 bytes of every few hundred.

Source: ISO 11172-3 and 13818-3, section 2.4.2.3, and the tag layout encoders agree on.
"""

from __future__ import annotations

import io
import os
import struct
from typing import BinaryIO, NamedTuple

__all__ = ["MpegFrame", "count_mpeg", "parse_header", "skip_id3", "with_frame_count"]

_RATES = ((11_025, 12_000, 8_000), (0, 0, 0), (22_050, 24_000, 16_000), (44_100, 48_000, 32_000))
_KBPS_V1 = (
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
)
_KBPS_V2 = (
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
)
_BLOCK = 1 << 20
_SEARCH = 1 << 16
_LAME_DELAY_AT = 141


class MpegFrame(NamedTuple):
    """One frame header: bytes of the frame, samples it decodes to, and where a Xing header would be."""

    n_bytes: int
    n_samples: int
    rate_hz: int
    xing_at: int


def parse_header(head: bytes) -> MpegFrame | None:
    """Read four bytes, or None where they are no frame header.

    >>> parse_header(bytes.fromhex("fffb9044"))
    MpegFrame(n_bytes=417, n_samples=1152, rate_hz=44100, xing_at=36)
    >>> parse_header(b"RIFF") is None
    True
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    kbps_index, rate_index = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or kbps_index in (0, 15) or rate_index == 3:
        return None
    newer = version != 3
    rate_hz = _RATES[version][rate_index]
    bits = (_KBPS_V2 if newer else _KBPS_V1)[layer - 1][kbps_index - 1] * 1_000
    padding = head[2] >> 1 & 1
    mono = head[3] >> 6 == 3
    if layer == 3:
        return MpegFrame((12 * bits // rate_hz + padding) * 4, 384, rate_hz, 0)
    n_samples = 576 if newer and layer == 1 else 1_152
    side = {(False, False): 32, (False, True): 17, (True, False): 17, (True, True): 9}[newer, mono]
    return MpegFrame(n_samples // 8 * bits // rate_hz + padding, n_samples, rate_hz, 4 + side)


def skip_id3(stream: BinaryIO) -> int:
    """Position behind the ID3v2 tags at the start."""
    at = 0
    while True:
        stream.seek(at)
        head = stream.read(10)
        if len(head) < 10 or head[:3] != b"ID3":
            return at
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte & 0x7F
        at += 10 + size + (10 if head[5] & 0x10 else 0)


def count_mpeg(stream: BinaryIO, size: int) -> tuple[int | None, bool]:
    """Samples per channel that the file should hold, and whether its last frame is cut.

    The count is None where no two frames in a row are found in the first 64 KiB.
    """
    at = _first_frame(stream, skip_id3(stream))
    if at is None:
        return None, False
    stream.seek(at)
    block = stream.read(4_096)
    frame = parse_header(block)
    if frame is None:
        return None, False
    stated = _stated_samples(block, frame)
    if stated is not None:
        return stated, False
    return _walk(stream, at, size)


def with_frame_count(stream: BinaryIO, n_samples: int) -> BinaryIO:
    """The same stream behind a made-up Xing frame that states its length.

    Without one, libsndfile guesses the length of a variable-bitrate file from its first frame and
    stops reading there.

    Args:
        n_samples: per channel, as :func:`count_mpeg` found them.

    Raises:
        ValueError: there is no frame in the stream.
    """
    at = _first_frame(stream, skip_id3(stream))
    if at is None:
        raise ValueError("no MPEG frame in the stream")
    stream.seek(at)
    head = bytearray(stream.read(4))
    head[2] = 0x90 | head[2] & 0x0D
    frame = parse_header(bytes(head))
    if frame is None:
        raise ValueError("no MPEG frame in the stream")
    tag = struct.pack(">4sII", b"Xing", 1, n_samples // frame.n_samples)
    head[1] |= 0x01
    prefix = bytes(head) + bytes(frame.xing_at - 4) + tag
    return _Prefixed(prefix.ljust(frame.n_bytes, b"\0"), stream, at)


class _Prefixed(io.BufferedIOBase, BinaryIO):
    """Some bytes, then a stream from a position on."""

    def __init__(self, prefix: bytes, stream: BinaryIO, start: int) -> None:
        super().__init__()
        self._prefix, self._stream, self._start, self._at = prefix, stream, start, 0
        self._size = len(prefix) + stream.seek(0, os.SEEK_END) - start

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._size - self._at if size is None or size < 0 else size
        block = self._prefix[self._at : self._at + wanted]
        if not block:
            self._stream.seek(self._start + self._at - len(self._prefix))
            block = self._stream.read(wanted)
        self._at += len(block)
        return block

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        block = self.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._stream.close()
        super().close()


def _first_frame(stream: BinaryIO, start: int) -> int | None:
    """The first position whose header is followed by another one of the same rate."""
    stream.seek(start)
    block = stream.read(_SEARCH)
    at = block.find(b"\xff")
    while at >= 0:
        frame = parse_header(block[at : at + 4])
        if frame is not None:
            follower = parse_header(block[at + frame.n_bytes : at + frame.n_bytes + 4])
            if follower is not None and follower.rate_hz == frame.rate_hz:
                return start + at
        at = block.find(b"\xff", at + 1)
    return None


def _stated_samples(block: bytes, frame: MpegFrame) -> int | None:
    """What a Xing, Info or VBRI header in the first frame says, less encoder delay and padding."""
    at = frame.xing_at
    if block[at : at + 4] in (b"Xing", b"Info") and block[at + 7] & 1:
        n_frames: int = struct.unpack(">I", block[at + 8 : at + 12])[0]
        return max(0, n_frames * frame.n_samples - _lame_trim(block[at:]))
    if block[36:40] == b"VBRI":
        return int(struct.unpack(">I", block[50:54])[0]) * frame.n_samples
    return None


def _lame_trim(tag: bytes) -> int:
    """Delay and padding in samples (12 bits each), where a full tag with all four fields is there."""
    if tag[7] & 0x0F != 0x0F or len(tag) < _LAME_DELAY_AT + 3 or not tag[120:124].strip(b"\0"):
        return 0
    packed = int.from_bytes(tag[_LAME_DELAY_AT : _LAME_DELAY_AT + 3], "big")
    return (packed >> 12) + (packed & 0xFFF)


def _walk(stream: BinaryIO, at: int, size: int) -> tuple[int, bool]:
    """Sum the samples of all frames; where sync is lost, go on at the next header."""
    n_samples, base, block = 0, at, b""
    while at + 4 <= size:
        if at + 4 > base + len(block) or at < base:
            stream.seek(at)
            base, block = at, stream.read(_BLOCK)
        frame = parse_header(block[at - base : at - base + 4])
        if frame is None:
            found = block.find(b"\xff", at - base + 1)
            at = base + found if found >= 0 else base + len(block)
            if block[-128:-125] == b"TAG" and at >= size - 128:
                break
            continue
        if at + frame.n_bytes > size:
            return n_samples, True
        n_samples, at = n_samples + frame.n_samples, at + frame.n_bytes
    stream.seek(0, os.SEEK_SET)
    return n_samples, False
