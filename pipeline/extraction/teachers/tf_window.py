"""The Hann window to the last bit as TensorFlow computes it on a CPU.

The floor of OpenL3's decibels lies so deep that a tone's empty bins show the rounding errors of its
transform.  The original's are repeated only by the original's window: one that is rounded in another
way, as other libraries' cosines give it, moves those bins by up to 6 dB.

Source: the method and the coefficients of the float32 cosine in Eigen, which TensorFlow uses.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_QUARTERS_PER_RADIAN = 0.636619746685028076171875
_QUARTER_TURN = (-1.5703125, -0.000483989715576171875, 1.62865035235881805e-07, 5.56443155441677106e-11)
"""Minus half of pi in pieces, so that each product with a small whole number is nearly exact."""
_COSINE = (2.43722661252832032e-05, -0.00138865201734006405, 0.0416666194796562195, -0.5, 1.0)
_SINE = (-0.000195923411408370290, 0.00833268736556168517, -0.166666620398298226, 0.0)
"""In powers of the square, highest first; the sine is that times the angle, plus the angle."""


def hann(n: int) -> Floats:
    """A periodic window: [n], float32."""
    angle = np.float32(2 * np.pi) * np.arange(n, dtype=np.float32) / np.float32(n)
    return np.float32(0.5) - np.float32(0.5) * cosine(angle)


def cosine(angle: Floats) -> Floats:
    """Of angles from 0 to some turns, every operation rounded to float32."""
    quarters = np.rint(angle * np.float32(_QUARTERS_PER_RADIAN))
    rest = angle
    for part in _QUARTER_TURN:
        rest = rest + quarters * np.float32(part)
    square = rest * rest
    sine = _polynomial(_SINE, square) * rest + rest
    size = np.where(quarters % 2 == 0, _polynomial(_COSINE, square), sine)
    return np.where((quarters + 1) % 4 >= 2, -size, size)


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + np.float32(coefficient)
    return total
