"""A zoo of audio files, good and bad, written into a folder.

``write_zoo(folder)`` gives ``name -> (path, kind)``: ``kind`` is the ``AudioError.kind`` that a clip
of the first ``CLIP_S`` seconds fails with, or None where it is fine.  Names in ``SHORT`` are kept
as short.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from numpy.typing import NDArray

CLIP_S = 5.0
RATE_HZ = 22_050
ODD_NAME = 'it\'s a "name"\nÄ 音.wav'
SHORT = frozenset({"short.wav", "short.flac", "short.ogg", "short.opus", "short.mp3"})
CODECS = {
    "wav": (RATE_HZ, "WAV", "PCM_16"),
    "flac": (RATE_HZ, "FLAC", "PCM_16"),
    "ogg": (RATE_HZ, "OGG", "VORBIS"),
    "opus": (48_000, "OGG", "OPUS"),
    "mp3": (RATE_HZ, "MP3", "MPEG_LAYER_III"),
}

Zoo = dict[str, tuple[Path, str | None]]


def music(rate_hz: int, duration_s: float = CLIP_S, n_channels: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """Tones that change and a little noise: [samples, channels], exact in 16 bits."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    hz = 220.0 * 2 ** (rng.integers(0, 12, int(duration_s * 4) + 1) / 12)
    tone = 0.3 * np.sin(2 * np.pi * np.cumsum(hz[(time_s * 4).astype(int)]) / rate_hz)
    signal = tone[:, None] + 0.05 * rng.standard_normal((len(time_s), n_channels))
    return (np.round(signal.clip(-1, 1) * 32_000) / 32_768).astype(np.float32)


def write(path: Path, samples: NDArray[np.float32], rate_hz: int, format: str, subtype: str) -> Path:
    """Write in blocks: libsndfile's Vorbis encoder overflows its stack on long arrays."""
    with sf.SoundFile(path, "w", rate_hz, samples.shape[1], subtype, format=format) as file:
        for at in range(0, len(samples), 4_096):
            file.write(samples[at : at + 4_096])
    return path


def write_good(folder: Path, suffix: str, name: str = "") -> Path:
    """One good file of ``CLIP_S`` seconds, named ``good.SUFFIX`` or as given."""
    rate_hz, container, subtype = CODECS[suffix]
    return write(folder / (name or f"good.{suffix}"), music(rate_hz), rate_hz, container, subtype)


def write_cut(path: Path, good: Path, share: float) -> Path:
    """The first ``share`` of a file's bytes."""
    content = good.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def write_patched(path: Path, good: Path, at: int, patch: bytes) -> Path:
    """A copy with some bytes replaced."""
    content = bytearray(good.read_bytes())
    content[at : at + len(patch)] = patch
    path.write_bytes(content)
    return path


def write_float(path: Path, value: float) -> Path:
    """A float WAV with one sample that is ``value``."""
    samples = music(RATE_HZ)
    samples[1_000] = value
    return write(path, samples, RATE_HZ, "WAV", "FLOAT")


def write_long(path: Path, *, hours: float = 3.0, rate_hz: int = 8_000, n_channels: int = 1) -> Path:
    """A sparse WAV (RF64 beyond 4 GB) of digital silence whose last second is full of 0.25."""
    n_frames, frame = int(hours * 3_600) * rate_hz, 2 * n_channels
    n_bytes = n_frames * frame
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, n_channels, rate_hz, rate_hz * frame, frame, 16)
    if n_bytes < 1 << 31:
        head = struct.pack("<4sI4s", b"RIFF", 36 + n_bytes, b"WAVE") + form + struct.pack("<4sI", b"data", n_bytes)
    else:
        ds64 = struct.pack("<4sIQQQI", b"ds64", 28, 72 + n_bytes, n_bytes, n_frames, 0)
        sizes = 0xFFFFFFFF
        head = struct.pack("<4sI4s", b"RF64", sizes, b"WAVE") + ds64 + form + struct.pack("<4sI", b"data", sizes)
    with path.open("wb") as file:
        file.write(head)
        file.seek(len(head) + n_bytes - rate_hz * frame)
        file.write(np.full(rate_hz * n_channels, 8_192, "<i2").tobytes())
    return path


def write_zoo(folder: Path) -> Zoo:
    """Everything, in one folder."""
    folder.mkdir(parents=True, exist_ok=True)
    zoo: Zoo = {}

    def add(path: Path, kind: str | None = None) -> None:
        zoo[path.name] = (path, kind)

    for path in _good(folder):
        add(path)
    for suffix in CODECS:
        good = folder / f"good.{suffix}"
        add(write_cut(folder / f"short.{suffix}", good, 0.75))
        add(write_cut(folder / f"cut.{suffix}", good, 0.3), "truncated")
    add(_write_bytes(folder / "empty.wav", b""), "empty")
    add(_write_bytes(folder / "text.wav", b"this is not audio at all\n" * 200), "format")
    add(write(folder / "no samples.wav", np.zeros((0, 1), np.float32), RATE_HZ, "WAV", "PCM_16"), "empty")
    add(write_float(folder / "nan.wav", np.nan), "values")
    add(write_float(folder / "inf.wav", np.inf), "values")
    mp3 = folder / "good.mp3"
    add(write_patched(folder / "zeros inside.mp3", mp3, mp3.stat().st_size // 3, bytes(3_000)), "format")
    add(write_patched(folder / "damaged header.mp3", mp3, 0, b"\xaa" * 4))
    add(folder / "not there.wav", "missing")
    (folder / "dangling.wav").symlink_to(folder / "moved away.wav")
    add(folder / "dangling.wav", "missing")
    (folder / "folder.wav").mkdir()
    add(folder / "folder.wav", "missing")
    add(
        _write_bytes(folder / "video.m4a", b"\0\0\0\x20ftypM4A " + bytes(64)),
        "format" if find_spec("av") else "unsupported",
    )
    return zoo


def _good(folder: Path) -> Iterator[Path]:
    for suffix in CODECS:
        yield write_good(folder, suffix)
    yield write_good(folder, "wav", ODD_NAME)
    yield write(folder / "eight channels.wav", music(96_000, n_channels=8), 96_000, "WAV", "PCM_24")
    yield write(folder / "telephone.wav", music(8_000), 8_000, "WAV", "PCM_16")
    yield write_long(folder / "three hours.wav")


def write_unreadable(folder: Path) -> Path:
    """A good file that nobody may read; see :func:`as_nobody`."""
    path = write_good(folder, "wav", "unreadable.wav")
    path.chmod(0)
    return path


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything: become nobody for a while, or skip where that is not possible."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65_534)
    except OSError as error:
        pytest.skip(f"runs as root and cannot become nobody: {error}")
    try:
        yield
    finally:
        os.seteuid(0)


def _write_bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
