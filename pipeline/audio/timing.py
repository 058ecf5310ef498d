"""Seconds, samples and frames, in integers.

Times in tables are seconds with at most six digits behind the point.  They become whole
microseconds first, so that no sum or product of floats decides where a clip begins.
"""

from __future__ import annotations

import math

__all__ = ["align_lengths", "frame_count", "hop_ratio", "n_microseconds", "n_samples", "seconds", "valid_frames"]

_MICRO = 1_000_000


def n_microseconds(duration_s: float) -> int:
    """Whole microseconds, rounded.

    >>> n_microseconds(0.1 + 0.2)
    300000
    """
    if not math.isfinite(duration_s):
        raise ValueError(f"a time must be a finite number of seconds, not {duration_s}")
    return round(duration_s * _MICRO)


def n_samples(duration_s: float, rate_hz: int) -> int:
    """Samples in ``duration_s``, rounded half up.

    >>> n_samples(10.0, 44_100), n_samples(29.1, 16_000), n_samples(0.1 + 0.2, 44_100)
    (441000, 465600, 13230)
    """
    return (2 * n_microseconds(duration_s) * rate_hz + _MICRO) // (2 * _MICRO)


def seconds(n: int, rate_hz: int) -> float:
    """The nearest float to ``n / rate_hz`` seconds.

    >>> seconds(441_000, 44_100)
    10.0
    """
    return n / rate_hz


def frame_count(n: int, window: int, hop: int, *, center: bool) -> int:
    """Frames that a transform makes of ``n`` samples.

    With ``center`` the signal is padded by half a window on both sides, so that frame ``k`` is
    centred on sample ``k * hop``; without, only whole windows count.

    >>> frame_count(160_000, 1024, 512, center=True), frame_count(160_000, 1024, 512, center=False)
    (313, 311)
    >>> frame_count(0, 1024, 512, center=True), frame_count(100, 1024, 512, center=False)
    (0, 0)
    """
    if n <= 0:
        return 0
    padded = n + 2 * (window // 2) if center else n
    return 1 + (padded - window) // hop if padded >= window else 0


def valid_frames(n_valid: int, n_frames: int, hop: int, *, offset: int = 0) -> int:
    """Frames of ``n_frames`` that start on a real sample, where frame ``k`` starts at ``offset + k * hop``.

    >>> valid_frames(1_000, 10, 320), valid_frames(960, 10, 320), valid_frames(0, 10, 320)
    (4, 3, 0)
    >>> valid_frames(100, 10, 320, offset=-512)
    2
    """
    if n_valid <= 0:
        return 0
    return min(n_frames, max(0, -(-(n_valid - offset) // hop)))


def hop_ratio(coarse_hop_s: float, fine_hop_s: float) -> int:
    """How often a frame of the coarser sequence is repeated to lie over the finer one.

    >>> hop_ratio(0.96, 0.16)
    6
    """
    coarse, fine = n_microseconds(coarse_hop_s), n_microseconds(fine_hop_s)
    if fine <= 0 or coarse < fine:
        raise ValueError(f"hops of {coarse_hop_s} s and {fine_hop_s} s are not a coarse and a fine one")
    return (2 * coarse + fine) // (2 * fine)


def align_lengths(n_coarse: int, n_fine: int, ratio: int) -> int:
    """Common length after the coarse sequence is repeated ``ratio`` times and both are cut.

    >>> align_lengths(11, 62, 6), align_lengths(10, 62, 6)
    (62, 60)
    """
    return min(n_coarse * ratio, n_fine)
