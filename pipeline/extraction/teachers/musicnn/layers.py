"""The numbers of a MusiCNN checkpoint, in float64 and with batch-norms as scale and shift.

Source: ``musicnn/models.py`` of the PyPI package ``musicnn`` 0.1.0.  There every convolution is
followed by ReLU and then by batch-norm, so the norm cannot be folded into the kernel before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import WeightsError
from pipeline.extraction.teachers.bundle import read_bundle

BATCH_NORM_EPSILON = 1e-3
Array = NDArray[np.float64]
_FRONT = ((7, 38, 204), (7, 67, 204), (128, 1, 51), (64, 1, 51), (32, 1, 51))
_SHAPES = (*_FRONT, (7, 561, 64), (7, 64, 64), (7, 64, 64), (1506, 200), (200, 50))


@dataclass(frozen=True)
class Convolution:
    """``scale * relu(x * kernel + bias) + shift``.

    Shape:
        kernel: [time, frequency or channels in, channels out].
        bias, scale, shift: [channels out].
    """

    kernel: Array
    bias: Array
    scale: Array
    shift: Array

    @property
    def n_out(self) -> int:
        """Channels out."""
        return int(self.kernel.shape[2])


@dataclass(frozen=True)
class Layers:
    """All of MusiCNN.

    Shape:
        timbral: two kernels [7, 38 | 67, n]; temporal: three [128 | 64 | 32, 1, m].
        middle: three [7, channels in, c].
        pool_scale, pool_shift: [2 * channels], mean pool first, then max pool.
        dense: [2 * channels, units]; tags: [units, 50].
    """

    input_scale: float
    input_shift: float
    timbral: tuple[Convolution, ...]
    temporal: tuple[Convolution, ...]
    middle: tuple[Convolution, ...]
    pool_scale: Array
    pool_shift: Array
    dense: Array
    dense_bias: Array
    dense_scale: Array
    dense_shift: Array
    tags: Array
    tags_bias: Array

    @property
    def n_front(self) -> int:
        """Channels of the front end: timbral and temporal."""
        return sum(layer.n_out for layer in self.timbral + self.temporal)

    @property
    def n_channels(self) -> int:
        """Channels that are pooled: front end and the three middle layers."""
        return self.n_front + sum(layer.n_out for layer in self.middle)


def read_layers(index: Path, data: Path) -> Layers:
    """Read a checkpoint.

    Raises:
        WeightsError: not a MusiCNN checkpoint, or damaged.
    """
    tensors = read_bundle(index, data)
    try:
        layers = _arrange(tensors)
    except KeyError as error:
        raise WeightsError(
            f"{index}: no tensor {error} in it; this is not a MusiCNN checkpoint (musicnn 0.1.0)."
        ) from error

    _check(index, layers)
    return layers


def _check(index: Path, layers: Layers) -> None:
    """Sizes and values; the package's repository has a bigger MusiCNN whose tensors have the same names."""
    convolutions = (*layers.timbral, *layers.temporal, *layers.middle)
    arrays = [layer.kernel for layer in convolutions] + [layers.dense, layers.tags]
    found, wanted = [array.shape for array in arrays], list(_SHAPES)
    if found != wanted:
        raise WeightsError(f"{index}: layers of {found}, where MTT_musicnn and MSD_musicnn have {wanted}.")
    others = [values for layer in convolutions for values in (layer.bias, layer.scale, layer.shift)]
    ends = [layers.pool_scale, layers.pool_shift, layers.dense_bias, layers.dense_scale, layers.dense_shift]
    inputs = np.array([layers.input_scale, layers.input_shift])
    if not all(np.isfinite(values).all() for values in (*arrays, *others, *ends, layers.tags_bias, inputs)):
        raise WeightsError(f"{index}: values that are not finite; the file is damaged. Fetch it again.")


def _arrange(tensors: Mapping[str, NDArray[np.generic]]) -> Layers:
    convolutions = [_convolution(tensors, number) for number in range(8)]
    input_scale, input_shift = batch_norm(tensors, 0)
    pool_scale, pool_shift = batch_norm(tensors, 9)
    dense_scale, dense_shift = batch_norm(tensors, 10)
    return Layers(
        input_scale=float(input_scale[0]),
        input_shift=float(input_shift[0]),
        timbral=tuple(convolutions[:2]),
        temporal=tuple(convolutions[2:5]),
        middle=tuple(convolutions[5:]),
        pool_scale=_mean_first(pool_scale),
        pool_shift=_mean_first(pool_shift),
        dense=_mean_first(_double(tensors["dense/kernel"])),
        dense_bias=_double(tensors["dense/bias"]),
        dense_scale=dense_scale,
        dense_shift=dense_shift,
        tags=_double(tensors["dense_1/kernel"]),
        tags_bias=_double(tensors["dense_1/bias"]),
    )


def _convolution(tensors: Mapping[str, NDArray[np.generic]], number: int) -> Convolution:
    name = f"conv2d_{number}" if number else "conv2d"
    scale, shift = batch_norm(tensors, number + 1)
    return Convolution(_double(tensors[f"{name}/kernel"])[:, :, 0], _double(tensors[f"{name}/bias"]), scale, shift)


def batch_norm(tensors: Mapping[str, NDArray[np.generic]], number: int) -> tuple[Array, Array]:
    """Scale and shift of the batch-norm of that number, in the order in which the network was built."""
    name = f"batch_normalization_{number}" if number else "batch_normalization"
    gamma, beta, mean, variance = (
        _double(tensors[f"{name}/{part}"]) for part in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    return scale, beta - scale * mean


def _mean_first(interleaved: Array) -> Array:
    """The original pools to max, mean, max, mean, ...; here all means come first."""
    return np.concatenate([interleaved[1::2], interleaved[0::2]])


def _double(tensor: NDArray[np.generic]) -> Array:
    return tensor.astype(np.float64)
