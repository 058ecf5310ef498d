"""The numbers of a VGG checkpoint of the musicnn package, batch-norms as scale and shift.

Source: ``vgg`` in ``musicnn/models.py`` of the PyPI package ``musicnn`` 0.1.0.  As in MusiCNN itself,
ReLU stands between a convolution and its batch-norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import WeightsError
from pipeline.extraction.teachers.bundle import read_bundle
from pipeline.extraction.teachers.musicnn.layers import Array, batch_norm

N_LAYERS = 5
FLAT_CELLS = 2
"""Cells of the last pool of a patch: two over time, one over frequency."""


@dataclass(frozen=True)
class VggLayer:
    """``scale * relu(x * kernel + bias) + shift``, before the pooling.

    Shape:
        kernel: [3, 3, channels in, channels out], time first.
        bias, scale, shift: [channels out].
    """

    kernel: Array
    bias: Array
    scale: Array
    shift: Array


@dataclass(frozen=True)
class VggLayers:
    """All of the network.

    Shape:
        convolutions: five.
        tags: [2 * channels, 50], the channels of the first half of a patch, then of the second.
    """

    input_scale: float
    input_shift: float
    convolutions: tuple[VggLayer, ...]
    tags: Array
    tags_bias: Array


def read_vgg_layers(index: Path, data: Path, *, width: int, n_tags: int) -> VggLayers:
    """Read a checkpoint of a network with ``width`` filters in each convolution.

    Raises:
        WeightsError: another network, damaged, or with values that are not finite.
    """
    tensors = read_bundle(index, data)
    for name, shape in _shapes(width, n_tags).items():
        _check(index, tensors, name, shape)
    input_scale, input_shift = batch_norm(tensors, 0)
    return VggLayers(
        input_scale=float(input_scale[0]),
        input_shift=float(input_shift[0]),
        convolutions=tuple(_layer(tensors, number) for number in range(1, N_LAYERS + 1)),
        tags=tensors["dense/kernel"].astype(np.float64),
        tags_bias=tensors["dense/bias"].astype(np.float64),
    )


def _layer(tensors: Mapping[str, NDArray[np.generic]], number: int) -> VggLayer:
    kernel, bias = (tensors[f"{number}CNN/{part}"].astype(np.float64) for part in ("kernel", "bias"))
    return VggLayer(kernel, bias, *batch_norm(tensors, number))


def _shapes(width: int, n_tags: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for number in range(N_LAYERS + 1):
        norm = f"batch_normalization_{number}" if number else "batch_normalization"
        shapes |= {
            f"{norm}/{part}": (width if number else 1,) for part in ("gamma", "beta", "moving_mean", "moving_variance")
        }
    for number in range(1, N_LAYERS + 1):
        shapes[f"{number}CNN/kernel"] = (3, 3, 1 if number == 1 else width, width)
        shapes[f"{number}CNN/bias"] = (width,)
    return shapes | {"dense/kernel": (FLAT_CELLS * width, n_tags), "dense/bias": (n_tags,)}


def _check(index: Path, tensors: Mapping[str, NDArray[np.generic]], name: str, shape: tuple[int, ...]) -> None:
    tensor = tensors.get(name)
    what = "a VGG checkpoint of musicnn 0.1.0"
    if tensor is None:
        raise WeightsError(f"{index}: no tensor {name!r} in it; this is not {what}.")
    if tensor.shape != shape:
        raise WeightsError(f"{index}: {name} has shape {list(tensor.shape)}, {what} has {list(shape)}.")
    if not np.isfinite(tensor.astype(np.float64)).all():
        raise WeightsError(f"{index}: {name} holds values that are not finite; the file is damaged. Fetch it again.")
