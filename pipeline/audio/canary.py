"""Eight short signals with known answers, which a store keeps beside what its extractor made of them.

Library versions are not part of a store's fingerprint; canaries bound what they change.  They
are where numbers go wrong: a sweep, noise, one tone, clicks, digital silence, a chord, near
silence, full scale.  Two are kept as MP3 and OGG bytes besides, since
decoders differ too.
"""

from __future__ import annotations

import io

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from pipeline.audio.quiet import decoders_quiet
from pipeline.audio.samples import Samples, mix_down, resample
from pipeline.audio.timing import n_samples
from pipeline.cards import ExtractorCard

__all__ = ["CANARY_NAMES", "ENCODED", "canary_s", "canary_signals", "decode_canary", "encode_canaries"]

CANARY_NAMES = ("chirp", "noise", "sine", "clicks", "silence", "chord", "quiet", "square")
ENCODED = (CANARY_NAMES.index("chirp"), CANARY_NAMES.index("chord"))
"""Rows that are kept as MP3 and as OGG bytes."""

SHORTEST_S = 3.2
_SEED = 1223
_MP3_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_CHORD_HZ = (220.0, 277.1826309768721, 329.6275569128699, 440.0)
_BLOCK = 4_096


def canary_s(card: ExtractorCard) -> float:
    """Length of an extractor's canaries in seconds."""
    return max(card.min_s, SHORTEST_S)


def canary_signals(rate_hz: int, duration_s: float = SHORTEST_S) -> Samples:
    """The signals in the order of ``CANARY_NAMES``: [8, samples], float32 within [-1, 1]."""
    n = n_samples(duration_s, rate_hz)
    time_s = np.arange(n) / rate_hz
    rows = (
        _chirp(time_s, rate_hz),
        0.25 * _noise(n, _SEED),
        0.5 * np.sin(2 * np.pi * 440.0 * time_s),
        _clicks(n, rate_hz),
        np.zeros(n),
        _chord(time_s),
        0.001 * _noise(n, _SEED + 1),
        np.where(np.sin(2 * np.pi * 110.0 * time_s) >= 0.0, 1.0, -1.0),
    )
    return np.stack(rows).astype(np.float32)


def encode_canaries(signals: Samples, rate_hz: int) -> tuple[bytes, bytes]:
    """The ``ENCODED`` rows as MP3 and as OGG Vorbis bytes.

    A rate that MP3 does not know is resampled to 44,100 Hz first.
    """
    mp3_row, ogg_row = (signals[row] for row in ENCODED)
    mp3_hz = rate_hz if rate_hz in _MP3_RATES_HZ else 44_100
    mp3 = _encoded(resample(mp3_row, rate_hz, mp3_hz), mp3_hz, "MP3", "MPEG_LAYER_III")
    return mp3, _encoded(ogg_row, rate_hz, "OGG", "VORBIS")


def decode_canary(content: bytes, rate_hz: int) -> Samples:
    """Decode MP3 or OGG bytes with this machine's libraries: [n], float32 mono at ``rate_hz``."""
    with decoders_quiet(), sf.SoundFile(io.BytesIO(content)) as file:
        block = file.read(dtype="float32", always_2d=True)
        return resample(mix_down(block), int(file.samplerate), rate_hz)


def _noise(n: int, seed: int) -> NDArray[np.float64]:
    """Uniform noise in [-1, 1) from the integers of a PCG64 stream."""
    integers = np.random.Generator(np.random.PCG64(seed)).integers(-(1 << 23), 1 << 23, n)
    return np.asarray(integers / float(1 << 23), dtype=np.float64)


def _chirp(time_s: NDArray[np.float64], rate_hz: int) -> NDArray[np.float64]:
    """An exponential sweep from 40 Hz to 45 % of the rate over the whole signal."""
    low, high = 40.0, 0.45 * rate_hz
    octaves = np.log(high / low)
    length_s = len(time_s) / rate_hz
    phase = 2 * np.pi * low * length_s / octaves * np.expm1(octaves * time_s / length_s)
    return np.asarray(0.7 * np.sin(phase), dtype=np.float64)


def _clicks(n: int, rate_hz: int) -> NDArray[np.float64]:
    """One full-scale sample every eighth of a second, alternating in sign."""
    signal = np.zeros(n)
    positions = np.arange(0, n, max(1, rate_hz // 8))
    signal[positions] = 1.0 - 2.0 * (np.arange(len(positions)) % 2)
    return signal


def _chord(time_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Four tones, their sum breathing three times a second."""
    tones = sum((np.sin(2 * np.pi * hz * time_s) for hz in _CHORD_HZ), np.zeros_like(time_s))
    return 0.2 * tones * (0.5 + 0.5 * np.sin(2 * np.pi * 3.0 * time_s))


def _encoded(samples: Samples, rate_hz: int, format: str, subtype: str) -> bytes:
    """In blocks: libsndfile's Vorbis encoder overflows its stack on long arrays."""
    buffer = io.BytesIO()
    with sf.SoundFile(buffer, "w", rate_hz, 1, subtype, format=format) as file:
        for at in range(0, len(samples), _BLOCK):
            file.write(samples[at : at + _BLOCK])
    return buffer.getvalue()
