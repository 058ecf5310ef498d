"""The receptive field of a network, found by asking it: which of its input does one output see?

A unit depends on all inputs that can make it "not a number": NaN passes through convolutions, sums,
maxima and normalisation whatever the weights are, where a gradient would follow a maximum to one
input alone.  So all inputs up to a place are set to NaN, and the place is searched by halving.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Field", "receptive_field"]


@dataclass(frozen=True)
class Field:
    """What one unit in the middle of a network's last feature map sees.

    Attributes:
        frames: input frames from the first to the last that it depends on.
        mels: the same along the mel axis, at most all of them.
    """

    frames: int
    mels: int


@torch.inference_mode()
def receptive_field(network: nn.Module, *, n_frames: int, n_mels: int, map_frames: int) -> Field:
    """Of the last map [1, channels, map_frames, mels] that a layer of ``network`` gives.

    Args:
        network: called with mels [1, n_frames, n_mels] and valid frames [1]; a narrow one sees as far.
        n_frames: enough that a unit in the middle does not see the ends, else all are counted.
        map_frames: frames of the map, which tells it from what follows.

    Raises:
        ValueError: no layer gives such a map.
    """
    was_training = network.training
    network.eval()
    length = torch.tensor([n_frames])

    def seen(axis: int, low: int, high: int) -> bool:
        """Whether the unit depends on any input from ``low`` to ``high`` along an axis of [frames, mels]."""
        mel = torch.zeros(1, n_frames, n_mels)
        mel.narrow(axis + 1, low, high - low).fill_(torch.nan)
        with _watched(network, map_frames) as maps:
            network(mel, length)
        if not maps:
            raise ValueError(f"no layer of {type(network).__name__} gives a map of {map_frames} frames")
        features = maps[-1]
        return bool(features[0, :, map_frames // 2, features.shape[3] // 2].isnan().any())

    try:
        frames, mels = (_extent(seen, axis, size) for axis, size in enumerate((n_frames, n_mels)))
    finally:
        network.train(was_training)
    return Field(frames, mels)


def _extent(seen: Callable[[int, int, int], bool], axis: int, size: int) -> int:
    """How many places lie from the first to the last that are seen."""
    first = _halve(lambda cut: seen(axis, 0, cut), size)
    last = _halve(lambda cut: seen(axis, size - cut, size), size)
    return size - (first - 1) - (last - 1)


def _halve(reached: Callable[[int], bool], size: int) -> int:
    """The smallest number of places, 1 to ``size``, with which it is reached; ``size`` where it never is."""
    low, high = 0, size
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


@contextmanager
def _watched(network: nn.Module, map_frames: int) -> Iterator[list[Tensor]]:
    """The maps of ``map_frames`` frames that layers give, in order."""
    maps: list[Tensor] = []

    def keep(layer: nn.Module, _given: Any, made: Any) -> None:
        if isinstance(layer, nn.Conv1d) and made.dim() == 3:
            made = made[..., None]  # over time alone
        if isinstance(made, Tensor) and made.dim() == 4 and made.shape[2] == map_frames:
            maps.append(made)

    handles = [layer.register_forward_hook(keep) for layer in network.modules() if not any(layer.children())]
    try:
        yield maps
    finally:
        for handle in handles:
            handle.remove()
