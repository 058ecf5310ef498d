"""Which filters of a MusiCNN can be left out, with a bound on what that changes.

Weight decay has shrunk about half of the filters to (nearly) nothing: their output hardly depends
on the input.  With inputs in ``[-x_max, x_max]``, the output of ``scale * relu(w * x + bias) + shift``
moves by at most ``|scale| * x_max * sum|w|``, and not at all where ``bias + x_max * sum|w| <= 0``.
A filter whose bound is below ``EPSILON`` is replaced by its output at ``x = 0``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.extraction.teachers.musicnn.layers import Array, Convolution

EPSILON = 1e-4
"""Largest change of a front-end feature; features reach 50, and float16 stores step by 5e-4 at 1."""

LOGMEL_MAX = 8.0
"""``log10(10000 m + 1)`` of a full-scale sine is below 7.5."""

FEATURE_MAX = 1e3
"""Features of the front end stay below 100."""


def live(layer: Convolution, x_max: float, epsilon: float = EPSILON) -> NDArray[np.int64]:
    """Indices of the filters that have to be computed."""
    reach = x_max * np.abs(layer.kernel).sum((0, 1))
    bound = np.where(layer.bias + reach <= 0, 0.0, np.abs(layer.scale) * reach)
    return np.flatnonzero(bound >= epsilon)


def constants(layer: Convolution) -> Array:
    """Each filter's output where its convolution gives zero."""
    return layer.scale * np.maximum(layer.bias, 0.0) + layer.shift


def select(layer: Convolution, filters: NDArray[np.int64]) -> Convolution:
    """The layer with these filters alone."""
    return Convolution(layer.kernel[:, :, filters], layer.bias[filters], layer.scale[filters], layer.shift[filters])
