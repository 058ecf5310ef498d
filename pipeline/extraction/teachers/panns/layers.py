"""The blocks PANNs are made of, under the names of the official checkpoints.

Source: ``pytorch/models.py`` of the PANNs repository (``ConvBlock``, ``ConvBlock5x5``, and what
``MobileNetV1`` and ``MobileNetV2`` are built from).

Every block takes a map and the clips' lengths in it, and returns both, since pooling shortens them.
Before a convolution reaches over time, what lies beyond each clip's end is set to zero: the padding
that the clip would have if it were alone.  ``lengths`` is None where all clips fill the map.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.extraction.teachers.convolution import QuickConv

Lengths = Tensor | None
Act = Callable[[], nn.Module]


class Block(Protocol):
    """``(map [clip, channel, time, mel], lengths [clip]) -> (map, lengths)``, foldable."""

    def __call__(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        """Run it."""

    def fold(self) -> None:
        """Put batch-norms into the convolutions before them."""


def cut(x: Tensor, lengths: Lengths) -> Tensor:
    """Zero the time steps at and beyond each clip's length."""
    if lengths is None:
        return x
    keep = torch.arange(x.shape[2], device=x.device) < lengths[:, None]
    return x * keep[:, None, :, None].to(x.dtype)


class ConvBlock(nn.Module):
    """Convolutions, each with batch-norm and ReLU, then average pooling.

    Args:
        channels: of each convolution, ``conv1`` and so on.
        kernel: 3 or 5.
        pool: 2 or 1.
    """

    def __init__(self, n_in: int, channels: Sequence[int], *, kernel: int = 3, pool: int = 2) -> None:
        super().__init__()
        self.pool = pool
        self.numbers = range(1, len(channels) + 1)
        for number, before, after in zip(self.numbers, [n_in, *channels], channels, strict=False):
            self.add_module(f"conv{number}", nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(after))
            self.add_module(f"act{number}", nn.ReLU(inplace=True))

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        """[clip, channel, time, mel]; time and mel are halved where the block pools."""
        for number in self.numbers:
            x = cut(x, lengths)
            for kind in ("conv", "bn", "act"):
                x = self.get_submodule(f"{kind}{number}")(x)
        if self.pool == 1:
            return x, lengths
        return F.avg_pool2d(x, self.pool), _shortened(lengths, self.pool)

    def fold(self) -> None:
        """Batch-norms into convolutions, which also apply the ReLU where they are 3 x 3."""
        for number in self.numbers:
            conv = cast(nn.Conv2d, self.get_submodule(f"conv{number}"))
            norm = cast(nn.BatchNorm2d, self.get_submodule(f"bn{number}"))
            self.add_module(f"bn{number}", nn.Identity())
            if conv.kernel_size == (3, 3):
                self.add_module(f"conv{number}", QuickConv(conv, norm))
                self.add_module(f"act{number}", nn.Identity())
            else:
                self.add_module(f"conv{number}", fuse_conv_bn_eval(conv, norm))


class Chain(nn.ModuleList):
    """Layers of a MobileNet by number: convolutions, average poolings, batch-norms, ReLUs."""

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        """[clip, channel, time, mel]."""
        for layer in self:
            x = layer(cut(x, lengths) if _reaches_over_time(layer) else x)
            lengths = _shortened(lengths, _stride(layer))
        return x, lengths

    def fold(self) -> None:
        """Batch-norms into convolutions; a convolution and the pooling after it into one of stride 2."""
        for norm in [at for at, layer in enumerate(self) if isinstance(layer, nn.BatchNorm2d)]:
            conv = max(at for at in range(norm) if isinstance(self[at], nn.Conv2d))
            # A batch-norm commutes with averaging: scale and shift are the same everywhere.
            folded = fuse_conv_bn_eval(cast(nn.Conv2d, self[conv]), cast(nn.BatchNorm2d, self[norm]))
            self[norm] = nn.Identity()
            if isinstance(self[conv + 1], nn.AvgPool2d):
                folded, self[conv + 1] = _pooled(folded), nn.Identity()
            self[conv] = folded


class InvertedResidual(nn.Module):
    """Widen, convolve each channel, narrow; added to its input where shapes allow."""

    def __init__(self, layers: Chain, *, residual: bool) -> None:
        super().__init__()
        self.conv, self.residual = layers, residual

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        """[clip, channel, time, mel]."""
        made, shortened = self.conv(x, lengths)
        return (x + made if self.residual else made), shortened

    def fold(self) -> None:
        """Batch-norms into convolutions."""
        self.conv.fold()


class Blocks(nn.ModuleList):
    """Blocks by number, one after another."""

    def forward(self, x: Tensor, lengths: Lengths) -> tuple[Tensor, Lengths]:
        """[clip, channel, time, mel]."""
        for block in self:
            x, lengths = block(x, lengths)
        return x, lengths

    def fold(self) -> None:
        """Fold each."""
        for block in self:
            block.fold()  # type: ignore[operator]


def convolution(n_in: int, n_out: int, *, stride: int = 1, groups: int = 1, act: Act) -> list[nn.Module]:
    """3 x 3 convolution, average pooling by the stride, batch-norm, activation.

    With a stride of 1 nothing stands in the place of the pooling, so that the numbers are the checkpoint's.
    """
    conv = nn.Conv2d(n_in, n_out, 3, padding=1, groups=groups, bias=False)
    return [conv, nn.AvgPool2d(stride) if stride > 1 else nn.Identity(), nn.BatchNorm2d(n_out), act()]


def pointwise(n_in: int, n_out: int, *act: Act) -> list[nn.Module]:
    """1 x 1 convolution, batch-norm, and an activation where one is given."""
    return [nn.Conv2d(n_in, n_out, 1, bias=False), nn.BatchNorm2d(n_out), *(kind() for kind in act)]


def _reaches_over_time(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)


def _stride(layer: nn.Module) -> int:
    stride = getattr(layer, "stride", 1)
    return int(stride[0] if isinstance(stride, tuple) else stride)


def _shortened(lengths: Lengths, stride: int) -> Lengths:
    return lengths if lengths is None or stride == 1 else lengths // stride


def _pooled(conv: nn.Conv2d) -> nn.Conv2d:
    """3 x 3 with padding 1, then the mean of 2 x 2: one 4 x 4 convolution of stride 2, also at the edges."""
    made = nn.Conv2d(conv.in_channels, conv.out_channels, 4, stride=2, padding=1, groups=conv.groups)
    shifted = [F.pad(conv.weight, (left, 1 - left, top, 1 - top)) for left in (0, 1) for top in (0, 1)]
    made.weight, made.bias = nn.Parameter(torch.stack(shifted).mean(0)), conv.bias
    return made.eval()
