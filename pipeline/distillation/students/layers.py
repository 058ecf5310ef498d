"""Layers over pictures [batch, channels, frames, mels] that keep padding out of every answer.

Each takes the valid frames [batch] beside the picture and gives both back; what lies beyond is zero,
as if the clip had ended there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.distillation.students.contract import mask_time
from pipeline.distillation.students.normalisation import FrameNorm

__all__ = ["ConvNorm", "MaxPool", "Separable", "picture"]

Picture = tuple[Tensor, Tensor]


def picture(mel: Tensor, n_frames: Tensor, *, shortest: int) -> Picture:
    """Mels [batch, frames, mels] as a picture of one channel.

    Clips of fewer than ``shortest`` frames are followed by zeros up to there, so that pooling leaves
    at least one frame; empty clips stay empty.
    """
    x = mask_time(mel[:, None], n_frames)
    if torch.compiler.is_exporting():  # a graph has no branches: always as if the clip were short
        length = torch.sym_max(x.shape[2], shortest)  # type: ignore[no-untyped-call]
        x = F.pad(x, (0, 0, 0, shortest))[:, :, :length]
    elif x.shape[2] < shortest:
        x = F.pad(x, (0, 0, 0, shortest - x.shape[2]))
    n_frames = torch.where(n_frames > 0, n_frames.clamp(min=shortest), n_frames)
    return x.contiguous(memory_format=torch.channels_last), n_frames


class ConvNorm(nn.Module):
    """Convolution, batch normalisation and, unless ``linear``, ReLU.

    Kernels and strides are of both axes, or (frames, mels).  Kernels are odd and padded to keep the
    size, which a stride divides, rounded up.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int | tuple[int, int] = 1,
        stride: int | tuple[int, int] = 1,
        groups: int = 1,
        linear: bool = False,
    ) -> None:
        super().__init__()
        kernel, stride = _pair(kernel), _pair(stride)
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.convolve = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.normalise = FrameNorm(outputs)
        self.stride, self.linear = stride[0], linear
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, n_frames: Tensor) -> Picture:
        """[batch, inputs, frames, mels] to [batch, outputs, frames / stride, mels / stride]."""
        n_frames = torch.div(n_frames + self.stride - 1, self.stride, rounding_mode="floor")
        x = self.normalise(self.convolve(x), n_frames)
        return mask_time(x if self.linear else x.relu_(), n_frames), n_frames


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


class Separable(nn.Module):
    """A 3 x 3 convolution within each channel, then one across channels; both normalised, with ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = ConvNorm(inputs, inputs, kernel=3, groups=inputs)
        self.pointwise = ConvNorm(inputs, outputs)

    def forward(self, x: Tensor, n_frames: Tensor) -> Picture:
        """[batch, inputs, frames, mels] to [batch, outputs, frames, mels]."""
        x, n_frames = self.depthwise(x, n_frames)
        return self.pointwise(x, n_frames)  # type: ignore[no-any-return]


class MaxPool(nn.Module):
    """The maximum of each ``frames`` x ``mels``; what does not fill a whole window is dropped."""

    def __init__(self, frames: int, mels: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d((frames, mels))
        self.frames = frames

    def forward(self, x: Tensor, n_frames: Tensor) -> Picture:
        """[batch, channels, frames, mels] to that over the window."""
        n_frames = torch.div(n_frames, self.frames, rounding_mode="floor")
        return mask_time(self.pool(x), n_frames), n_frames
