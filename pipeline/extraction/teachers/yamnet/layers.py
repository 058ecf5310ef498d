"""The numbers of a YAMNet checkpoint, in order and in PyTorch's layout.

Source: ``yamnet.py`` of the official code.  There are 27 convolutions without bias, each followed
by a batch-norm without scale and by ReLU: one of 3 x 3 over the patch, then thirteen pairs of a
depthwise one and a pointwise one; last a dense layer to the classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.errors import WeightsError
from pipeline.extraction.teachers.bundle import read_bundle

STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
"""Of the depthwise convolutions. The first convolution has 2."""

N_CONVOLUTIONS = 1 + 2 * len(STRIDES)
_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_Tensors = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Convolution:
    """A convolution and the batch-norm behind it.

    Shape:
        kernel: [channels out, channels in per group, height, width].
        beta, mean, variance: [channels out].
    """

    kernel: Tensor
    beta: Tensor
    mean: Tensor
    variance: Tensor
    stride: int
    groups: int


@dataclass(frozen=True)
class Layers:
    """All of YAMNet: 27 convolutions, and the dense layer [classes, channels], [classes]."""

    convolutions: tuple[Convolution, ...]
    dense: Tensor
    dense_bias: Tensor


def read_layers(index: Path, data: Path) -> Layers:
    """Read a checkpoint of any width.

    Raises:
        WeightsError: not a YAMNet checkpoint, or damaged.
    """
    tensors = _by_short_name(read_bundle(index, data))
    try:
        layers = _arrange(tensors)
    except KeyError as error:
        raise WeightsError(
            f"{index}: no tensor {error} in it; this is not the checkpoint of TF-Hub's YAMNet "
            "(folder variables of its SavedModel)."
        ) from error
    _check(layers, tensors, index)
    return layers


def _by_short_name(tensors: _Tensors) -> dict[str, NDArray[np.generic]]:
    """``layer-1/.../_yamnet/layer_with_weights-3/beta/.ATTRIBUTES/...`` -> ``layer_with_weights-3/beta``."""
    return {
        name.rpartition("_yamnet/")[2].removesuffix(_SUFFIX): tensor
        for name, tensor in tensors.items()
        if "_yamnet/" in name
    }


def _arrange(tensors: _Tensors) -> Layers:
    strides = (2, *(stride for pair in STRIDES for stride in (pair, 1)))
    convolutions = [_convolution(tensors, number, stride) for number, stride in enumerate(strides)]
    last = f"layer_with_weights-{2 * N_CONVOLUTIONS}"
    dense = _tensor(tensors, f"{last}/kernel")
    return Layers(tuple(convolutions), dense.T.contiguous(), _tensor(tensors, f"{last}/bias"))


def _convolution(tensors: _Tensors, number: int, stride: int) -> Convolution:
    """Convolution ``n`` is layer ``2n`` with weights, its batch-norm is the next."""
    name, norm = (f"layer_with_weights-{2 * number + step}" for step in (0, 1))
    depthwise = number % 2 == 1
    kernel = _tensor(tensors, f"{name}/{'depthwise_kernel' if depthwise else 'kernel'}")
    kernel = kernel.permute(2, 3, 0, 1) if depthwise else kernel.permute(3, 2, 0, 1)
    beta, mean, variance = (_tensor(tensors, f"{norm}/{part}") for part in ("beta", "moving_mean", "moving_variance"))
    return Convolution(kernel.contiguous(), beta, mean, variance, stride, len(kernel) if depthwise else 1)


def _tensor(tensors: _Tensors, name: str) -> Tensor:
    return torch.from_numpy(tensors[name].astype(np.float32))


def _check(layers: Layers, tensors: _Tensors, index: Path) -> None:
    """Shapes that fit each other, and finite values."""
    for name, tensor in tensors.items():
        if not np.isfinite(tensor.astype(np.float64)).all():
            raise WeightsError(f"{index}: {name} holds values that are not finite; the file is damaged.")
    n_in = 1
    for number, layer in enumerate(layers.convolutions):
        size = 1 if number and not number % 2 else 3
        n_out = n_in if layer.groups > 1 else len(layer.kernel)
        wanted = (n_out, n_in // layer.groups, size, size)
        norms = {tuple(part.shape) for part in (layer.beta, layer.mean, layer.variance)}
        if tuple(layer.kernel.shape) != wanted or norms != {(n_out,)}:
            raise WeightsError(
                f"{index} is not YAMNet: layer_with_weights-{2 * number} has shape {list(layer.kernel.shape)}, "
                f"expected {list(wanted)}, and batch-norms of {n_out} channels."
            )
        n_in = n_out
    if layers.dense.shape[1:] != (n_in,) or layers.dense_bias.shape != layers.dense.shape[:1]:
        raise WeightsError(f"{index} is not YAMNet: its dense layer has {list(layers.dense.shape)} weights.")
