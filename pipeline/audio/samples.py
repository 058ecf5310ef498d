"""Arrays of mono samples: mixed down, resampled, fitted to a clip."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

__all__ = ["Samples", "fit_clip", "mix_down", "resample"]

Samples = NDArray[np.float32]


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Resample mono audio with soxr at its HQ setting; the same array where the rates agree.

    Shape:
        samples: [n], float32; the result has about ``n * to_hz / from_hz``.
    """
    if from_hz == to_hz or len(samples) == 0:
        return samples
    return np.asarray(soxr.resample(samples, from_hz, to_hz, quality="HQ"), dtype=np.float32)


def fit_clip(samples: Samples, n: int) -> tuple[Samples, int]:
    """Cut or zero-pad to exactly ``n`` samples; also how many of them are real.

    >>> fit_clip(np.ones(2, np.float32), 3)
    (array([1., 1., 0.], dtype=float32), 2)
    """
    n_valid = min(len(samples), n)
    if len(samples) >= n:
        return samples[:n], n_valid
    return np.concatenate([samples, np.zeros(n - n_valid, dtype=np.float32)]), n_valid


def mix_down(block: Samples) -> Samples:
    """Mean of the channels, [frames, channels] to [frames], the same however blocks are cut."""
    if block.shape[1] == 1:
        return block[:, 0]
    mixed = block[:, 0] + block[:, 1]
    for channel in range(2, block.shape[1]):
        mixed += block[:, channel]
    return mixed * np.float32(1 / block.shape[1])
