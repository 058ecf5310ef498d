"""The networks of the PANNs collection, one table: a trunk of blocks, and what is read off it.

Source: ``pytorch/models.py`` of the PANNs repository (``Cnn14``, ``Cnn14_DecisionLevelMax``,
``Cnn10``, ``Cnn6``, ``MobileNetV1``, ``MobileNetV2``) and ``Cnn14_pruned`` of the E-PANNs
repository.  State-dict names are those of the official checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from pipeline.extraction.teachers.panns.front_end import LogMel, Spectrogram, power_by_fft
from pipeline.extraction.teachers.panns.heads import Head, over_clip, over_segments
from pipeline.extraction.teachers.panns.layers import (
    Block,
    Blocks,
    Chain,
    ConvBlock,
    InvertedResidual,
    Lengths,
    convolution,
    pointwise,
)
from pipeline.extraction.teachers.panns.variants import AUDIOSET_CLASSES, MELS

Shapes = Mapping[str, tuple[int, ...]]
"""Of a checkpoint's tensors by name."""

_RELU, _RELU6 = partial(nn.ReLU, inplace=True), partial(nn.ReLU6, inplace=True)
_MOBILENET_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Channels and stride of each block after the first, at width 32."""
_MOBILENET_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 2), (6, 160, 3, 1), (6, 320, 1, 1),
)  # fmt: skip
"""Widening, channels, blocks, stride of the first of them, at width 32."""


@dataclass(frozen=True)
class Trunk:
    """Blocks by name, the channels they end with, and those of the embedding."""

    blocks: Mapping[str, nn.Module]
    channels: int
    embedding: int


@dataclass(frozen=True)
class Architecture:
    """How a network of the collection is made: ``trunk(width, shapes)``, and its head."""

    trunk: Callable[[int, Shapes], Trunk]
    head: Head


def build_network(name: str, width: int, shapes: Shapes | None = None) -> Network:
    """A network of random weights.

    Args:
        name: a key of :data:`ARCHITECTURES`.
        width: channels of the first block: 64 as published, 32 for MobileNets.
        shapes: of the checkpoint to come; a pruned network takes its channels from there.
    """
    architecture = ARCHITECTURES[name]
    return Network(architecture.trunk(width, shapes or {}), architecture.head)


class Network(nn.Module):
    """Mel frames to the last map, averaged over frequency, and on to what a head reads off it.

    Attributes:
        channels, embedding: of the last map, of the embedding.
    """

    def __init__(self, trunk: Trunk, head: Head) -> None:
        super().__init__()
        self.spectrogram_extractor = Spectrogram()
        self.logmel_extractor = LogMel()
        self.bn0 = nn.BatchNorm2d(MELS)
        for name, block in trunk.blocks.items():
            self.add_module(name, block)
        self.fc1 = nn.Linear(trunk.channels, trunk.embedding)
        self.fc_audioset = nn.Linear(trunk.embedding, AUDIOSET_CLASSES)
        self.channels, self.embedding, self.head = trunk.channels, trunk.embedding, head
        self.names, self.folded = tuple(trunk.blocks), False

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks in order."""
        return [self.get_submodule(name) for name in self.names]

    def fold(self) -> None:
        """Put each batch-norm into the convolution before it, and lay weights out channels last."""
        for block in self.blocks:
            cast(Block, block).fold()
            block.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.folded = True

    def frames(self, padded: Tensor, lengths: Lengths, *, by_fft: bool) -> Tensor:
        """Waveforms to a sequence of features.

        Shape:
            padded: [clip, samples + 1024], reflected by 512 samples at both ends.
            lengths: [clip], mel frames that are real, where clips differ; what lies beyond is
                treated as the zero padding that a clip of that length has.
            returns: [clip, time, channels]; what lies beyond a clip's end there means nothing.
        """
        power = power_by_fft(padded) if by_fft else self.spectrogram_extractor(padded)
        logmel = self.logmel_extractor(power)
        x = self.bn0(logmel.transpose(1, 2)[..., None]).transpose(1, 3)
        if self.folded:
            x = x.contiguous(memory_format=torch.channels_last)
        x = x.to(next(self.blocks[0].parameters()).dtype)
        for block in self.blocks:
            x, lengths = block(x, lengths)
        averaged: Tensor = x.float().mean(3)
        return averaged.transpose(1, 2)

    def read(self, frames: Tensor, n_frames: Tensor, outputs: tuple[str, ...]) -> dict[str, Tensor]:
        """The outputs asked for, each [clip, frames, channels]."""
        made = self.head(self.fc1, self.fc_audioset, frames, n_frames)
        return {name: made[name]() for name in outputs}


def _conv_blocks(width: int, shapes: Shapes, *, n_blocks: int, n_convs: int, kernel: int, pool_last: bool) -> Trunk:
    widths = [width << step for step in range(n_blocks)]
    pools = [2] * (n_blocks - 1) + [2 if pool_last else 1]
    blocks = {
        f"conv_block{number}": ConvBlock(n_in, [n_out] * n_convs, kernel=kernel, pool=pool)
        for number, (n_in, n_out, pool) in enumerate(zip([1, *widths], widths, pools, strict=False), 1)
    }
    return Trunk(blocks, widths[-1], widths[-1])


def _pruned(width: int, shapes: Shapes) -> Trunk:
    """CNN14 with the channels the checkpoint has; as published, half of them in blocks 4 to 6."""
    blocks: dict[str, nn.Module] = {}
    n_in = 1
    for number in range(1, 7):
        usual = (width << number - 1) // (2 if number > 3 else 1)
        names = [f"conv_block{number}.conv{conv}.weight" for conv in (1, 2)]
        channels = [shapes.get(name, (usual,))[0] for name in names]
        blocks[f"conv_block{number}"] = ConvBlock(n_in, channels, pool=1 if number == 6 else 2)
        n_in = channels[-1]
    return Trunk(blocks, n_in, 32 * width)


def _mobilenet_v1(width: int, shapes: Shapes) -> Trunk:
    n_in = width
    chains = [Chain(convolution(1, n_in, stride=2, act=_RELU))]
    for channels, stride in _MOBILENET_V1:
        n_out = channels * width // 32
        depthwise = convolution(n_in, n_in, stride=stride, groups=n_in, act=_RELU)
        chains.append(Chain([*depthwise, *pointwise(n_in, n_out, _RELU)]))
        n_in = n_out
    return Trunk({"features": Blocks(chains)}, n_in, 32 * width)


def _mobilenet_v2(width: int, shapes: Shapes) -> Trunk:
    n_in = width
    blocks: list[nn.Module] = [Chain(convolution(1, n_in, stride=2, act=_RELU6))]
    for widening, channels, repeats, first_stride in _MOBILENET_V2:
        n_out = channels * width // 32
        for stride in [first_stride] + [1] * (repeats - 1):
            blocks.append(_inverted(n_in, n_out, widening=widening, stride=stride))
            n_in = n_out
    blocks.append(Chain(pointwise(n_in, 40 * width, _RELU6)))
    return Trunk({"features": Blocks(blocks)}, 40 * width, 32 * width)


def _inverted(n_in: int, n_out: int, *, widening: int, stride: int) -> InvertedResidual:
    hidden = n_in * widening
    wider = pointwise(n_in, hidden, _RELU6) if widening > 1 else []
    depthwise = convolution(hidden, hidden, stride=stride, groups=hidden, act=_RELU6)
    chain = Chain([*wider, *depthwise, *pointwise(hidden, n_out)])
    return InvertedResidual(chain, residual=stride == 1 and n_in == n_out)


_CNN14 = partial(_conv_blocks, n_blocks=6, n_convs=2, kernel=3, pool_last=False)
_SIGMOID, _SOFTMAX = partial(over_clip, act=torch.sigmoid), partial(over_clip, act=partial(torch.softmax, dim=-1))

ARCHITECTURES: Mapping[str, Architecture] = {
    "Cnn14": Architecture(_CNN14, _SIGMOID),
    "Cnn14_DecisionLevelMax": Architecture(_CNN14, over_segments),
    "Cnn14_pruned": Architecture(_pruned, _SOFTMAX),
    "Cnn10": Architecture(partial(_conv_blocks, n_blocks=4, n_convs=2, kernel=3, pool_last=True), _SIGMOID),
    "Cnn6": Architecture(partial(_conv_blocks, n_blocks=4, n_convs=1, kernel=5, pool_last=True), _SIGMOID),
    "MobileNetV1": Architecture(_mobilenet_v1, _SIGMOID),
    "MobileNetV2": Architecture(_mobilenet_v2, _SIGMOID),
}
