"""Parameters and multiply-accumulates (MACs) of a network, counted by hooks in one forward pass.

Counted are convolutions (1-d to 3-d, transposed too) and linear layers: one MAC is one product
added to a sum, so a convolution costs ``outputs x kernel values x input channels / groups`` and a
linear layer ``outputs x inputs``.  Biases, normalisation, activations, pooling and the mel front
end are not counted: they are below a few per cent here.  Layers of other kinds that hold
parameters are named, so that a recurrent or attention student is not reported as free.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FREE = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.PReLU, nn.Embedding)


@dataclass(frozen=True)
class Complexity:
    """What one clip costs.

    Attributes:
        n_parameters: trainable or not, shared ones once; buffers are not parameters.
        macs: multiply-accumulates of one forward pass over one clip.
        by_layer: name of each counted layer and its MACs, in order of first use.
        uncounted: layers with parameters whose MACs this does not know.
    """

    n_parameters: int
    macs: int
    by_layer: tuple[tuple[str, int], ...]
    uncounted: tuple[str, ...]


def count_parameters(network: nn.Module) -> int:
    """All parameters; one that is used twice counts once."""
    return sum(parameter.numel() for parameter in network.parameters())


def measure(network: nn.Module, *inputs: Any) -> Complexity:
    """Count one forward pass; the network is left in the mode it was in.

    Args:
        inputs: what ``network`` is called with, a batch of one clip; for a student
            ``mel [1, frames, bands]`` and ``n_frames [1]``.
    """
    counts: dict[str, int] = {}
    was_training = network.training
    network.eval()
    try:
        with torch.inference_mode(), _hooked(network, counts):
            network(*inputs)
    finally:
        network.train(was_training)
    return Complexity(
        n_parameters=count_parameters(network),
        macs=sum(counts.values()),
        by_layer=tuple(counts.items()),
        uncounted=tuple(_unknown_layers(network)),
    )


def layer_macs(layer: nn.Module, given: Tensor, made: Tensor) -> int:
    """MACs of one call of a convolution or linear layer, from its input and output."""
    if isinstance(layer, _CONVOLUTIONS):
        return made.numel() * math.prod(layer.kernel_size) * layer.in_channels // layer.groups
    if isinstance(layer, _TRANSPOSED):
        return given.numel() * math.prod(layer.kernel_size) * layer.out_channels // layer.groups
    if isinstance(layer, nn.Linear):
        return made.numel() * layer.in_features
    raise TypeError(f"MACs of {type(layer).__name__} are not known.")


@contextmanager
def _hooked(network: nn.Module, counts: dict[str, int]) -> Iterator[None]:
    handles = []
    for name, layer in network.named_modules():
        if isinstance(layer, (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear)):

            def add(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor, name: str = name) -> None:
                counts[name] = counts.get(name, 0) + layer_macs(layer, given[0], made)

            handles.append(layer.register_forward_hook(add))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _unknown_layers(network: nn.Module) -> Iterator[str]:
    known = (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear, *_FREE)
    for name, layer in network.named_modules():
        if not isinstance(layer, known) and any(True for _ in layer.parameters(recurse=False)):
            yield f"{name or 'network'} ({type(layer).__name__})"
