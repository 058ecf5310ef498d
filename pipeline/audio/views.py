"""Views of a clip: the same music, a little other sound, for a student's input.

A view is resampled by up to 3 %, goes through a low shelf, a peak and a high shelf of up to 9 dB
each, gets noise at 20 to 40 dB below it seven times of ten, and a random level.  Teachers see the
clean clip.  All of it follows from one seed.

Source of the filters: R. Bristow-Johnson, Cookbook formulae for audio EQ biquad coefficients.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.samples import Samples, fit_clip, resample

__all__ = ["ViewSettings", "equalizer", "make_view", "view_seed"]

Shape = Literal["low", "peak", "high"]


@dataclass(frozen=True)
class ViewSettings:
    """How far a view may go; levels in decibels, frequencies in hertz."""

    resampling: float = 0.03
    gain_db: float = 9.0
    low_hz: tuple[float, float] = (80.0, 400.0)
    peak_hz: tuple[float, float] = (400.0, 3_000.0)
    high_hz: tuple[float, float] = (2_000.0, 6_000.0)
    noise_share: float = 0.7
    noise_below_db: tuple[float, float] = (20.0, 40.0)
    level_db: tuple[float, float] = (-12.0, 3.0)


def view_seed(clip_id: str, view: int) -> int:
    """A seed that depends on nothing but the clip's name and the number of the view."""
    digest = hashlib.sha256(f"{clip_id}\0{view}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def make_view(
    samples: Samples, n_valid: int, rate_hz: int, seed: int, settings: ViewSettings | None = None
) -> tuple[Samples, int]:
    """One view of a clip, as long as the clip; also how many of its samples are real.

    Shape:
        samples: [n], float32, zero beyond ``n_valid``.
    """
    settings = settings or ViewSettings()
    rng = np.random.default_rng(seed)
    speed = 1.0 + rng.uniform(-settings.resampling, settings.resampling)
    view = resample(np.ascontiguousarray(samples[:n_valid]), round(rate_hz * speed), rate_hz)
    view = _equalized(view, rate_hz, rng, settings)
    view = _with_noise(view, rng, settings)
    view = _at_level(view, 10 ** (rng.uniform(*settings.level_db) / 20))
    return fit_clip(view, len(samples))


def equalizer(
    n_fft: int, rate_hz: int, shape: Shape, hz: float, gain_db: float, *, q: float = 0.7
) -> NDArray[np.complex128]:
    """Response of one biquad at the bins of a real Fourier transform: [n_fft // 2 + 1].

    The gain holds below (``low``), around (``peak``) or above (``high``) the frequency ``hz``.
    """
    a = 10 ** (gain_db / 40)
    w = 2 * np.pi * min(hz, 0.45 * rate_hz) / rate_hz
    alpha, cos = np.sin(w) / (2 * q), np.cos(w)
    if shape == "peak":
        b, d = (1 + alpha * a, -2 * cos, 1 - alpha * a), (1 + alpha / a, -2 * cos, 1 - alpha / a)
    else:
        s, r = (1.0 if shape == "low" else -1.0), 2 * np.sqrt(a) * alpha
        up, down = a + 1, (a - 1) * s
        b = (a * (up - down * cos + r), 2 * a * (down - up * cos), a * (up - down * cos - r))
        d = (up + down * cos + r, -2 * (down + up * cos), up + down * cos - r)
    z = np.exp(-2j * np.pi * np.arange(n_fft // 2 + 1) / n_fft)
    return np.asarray(np.polyval(b[::-1], z) / np.polyval(d[::-1], z))


def _equalized(samples: Samples, rate_hz: int, rng: np.random.Generator, settings: ViewSettings) -> Samples:
    if not len(samples):
        return samples
    n_fft = len(samples) + rate_hz // 10
    spectrum = np.fft.rfft(samples, n_fft)
    bands: tuple[tuple[Shape, tuple[float, float]], ...] = (
        ("low", settings.low_hz),
        ("peak", settings.peak_hz),
        ("high", settings.high_hz),
    )
    for shape, (lowest, highest) in bands:
        hz = np.exp(rng.uniform(np.log(lowest), np.log(highest)))
        spectrum *= equalizer(n_fft, rate_hz, shape, hz, rng.uniform(-settings.gain_db, settings.gain_db))
    return np.fft.irfft(spectrum, n_fft)[: len(samples)].astype(np.float32)


def _with_noise(samples: Samples, rng: np.random.Generator, settings: ViewSettings) -> Samples:
    if rng.uniform() >= settings.noise_share or not len(samples):
        return samples
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    noise = rng.standard_normal(len(samples), dtype=np.float32)
    return samples + noise * np.float32(rms * 10 ** (-rng.uniform(*settings.noise_below_db) / 20))


def _at_level(samples: Samples, gain: float) -> Samples:
    """Scaled, but never beyond full scale."""
    peak = float(np.abs(samples).max(initial=0.0))
    return samples * np.float32(min(gain, 1.0 / peak) if peak else gain)
