"""Views of a clip: the same music, a little other sound, for a student's input or a teacher's probe.

A view is resampled by up to 3 %, goes through a low shelf, a peak and a high shelf of up to 9 dB
each, gets noise at 20 to 40 dB below it seven times of ten, and a random level.  All of it follows
from one seed, and the seed from the clip's samples and the view's number: the same samples give the
same view whatever their file is called, so that views may be copied between stores as clips are.

Source of the filters: R. Bristow-Johnson, Cookbook formulae for audio EQ biquad coefficients.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.signal import sosfilt

from pipeline.audio.samples import Samples, fit_clip, resample
from pipeline.cards import ExtractorCard, Scalar

__all__ = ["RULE", "SEED_RULE", "ViewSettings", "biquad", "make_view", "view_card", "view_seed"]

Shape = Literal["low", "peak", "high"]

RULE = 1
"""Raised whenever the same settings and seed come to give other samples: part of the fingerprint."""

SEED_RULE = "first 8 bytes, little-endian, of SHA-256(samples_digest + view as 4 bytes, little-endian); numpy PCG64"


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


def view_card(card: ExtractorCard, view: int) -> ExtractorCard:
    """The card of an extractor that hears a view: a name of its own, and the view among its parameters."""
    ranges = {
        f"view_{key}": " to ".join(f"{end:g}" for end in value) if isinstance(value, tuple) else value
        for key, value in asdict(ViewSettings()).items()
    }
    about: dict[str, Scalar] = {"view": view, "view_rule": RULE, "view_seed": SEED_RULE, **ranges}
    return replace(
        card,
        name=f"{card.name}-view{view}",
        summary=f"{card.summary}; of view {view} of each clip",
        parameters={**card.parameters, **about},
    )


def view_seed(digest: bytes, view: int) -> int:
    """A seed that depends on nothing but the clip's samples and the number of the view.

    Args:
        digest: of the samples, see :func:`pipeline.audio.digest.samples_digest`.
    """
    return int.from_bytes(hashlib.sha256(digest + view.to_bytes(4, "little")).digest()[:8], "little")


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


def biquad(rate_hz: int, shape: Shape, hz: float, gain_db: float, *, q: float = 0.7) -> NDArray[np.float64]:
    """One second-order section, [6]: ``b0 b1 b2 a0 a1 a2``, with ``a0`` of one, as SciPy takes it.

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
    return np.asarray(np.array([*b, *d]) / d[0])


def _equalized(samples: Samples, rate_hz: int, rng: np.random.Generator, settings: ViewSettings) -> Samples:
    bands: tuple[tuple[Shape, tuple[float, float]], ...] = (
        ("low", settings.low_hz),
        ("peak", settings.peak_hz),
        ("high", settings.high_hz),
    )
    sections = []
    for shape, (lowest, highest) in bands:
        hz = np.exp(rng.uniform(np.log(lowest), np.log(highest)))
        sections.append(biquad(rate_hz, shape, hz, rng.uniform(-settings.gain_db, settings.gain_db)))
    return np.asarray(sosfilt(np.stack(sections), samples), np.float32) if len(samples) else samples


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
