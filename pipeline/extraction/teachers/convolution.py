"""The 3 x 3 convolutions of VGG-like teachers, quick on CPUs: batch-norm folded in, ReLU at once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pipeline.extraction.teachers.winograd import choose_columns, convolve, transform_filters

_LEAST_FILTERS = 1 << 13
"""Filters (input times output channels) from which on Winograd's algorithm pays."""


class QuickConv(nn.Module):
    """A 3 x 3 convolution of stride 1 and padding 1, and what stands behind it.

    With many channels, on a CPU and in float32, it runs by Winograd's algorithm (see
    :mod:`~pipeline.extraction.teachers.winograd`), whose transformed filters, four times the bytes of
    the plain ones, are made on first use; otherwise it is the plain convolution.

    Args:
        conv: the convolution, with or without bias.
        norm: a batch-norm behind it, in eval mode, which is folded in.
        relu: a ReLU behind both.

    Shape:
        x: [batch, channels, height, width], channels last; so is what it gives.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None, *, relu: bool = True) -> None:
        super().__init__()
        usual = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups)
        if usual != ((3, 3), (1, 1), (1, 1), (1, 1), 1):
            raise ValueError(f"only plain 3 x 3 convolutions have this form, not {conv}")
        weight, bias = _folded(conv, norm)
        self.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.relu = relu
        self._filters: dict[int, Tensor] = {}

    @property
    def n_derived(self) -> int:
        """Numbers of the transformed filters, for a plan of memory: at most 36 in place of 9."""
        return 0 if self._few else 4 * self.weight.numel()

    @property
    def _few(self) -> bool:
        return self.weight.shape[0] * self.weight.shape[1] < _LEAST_FILTERS

    def forward(self, x: Tensor) -> Tensor:
        """Convolution, bias, ReLU."""
        if x.shape[1] == 1:
            x = one_channel_last(x[:, 0])
        if self._few or x.device.type != "cpu" or x.dtype != torch.float32:
            plain = F.conv2d(x, self.weight, self.bias, padding=1)
            return plain.relu_() if self.relu else plain
        columns = choose_columns(x.shape[3])
        if columns not in self._filters:
            self._filters[columns] = transform_filters(self.weight, columns)
        filters = self._filters[columns]
        return convolve(x.permute(0, 2, 3, 1), filters, self.bias, columns, relu=self.relu).permute(0, 3, 1, 2)


def one_channel_last(maps: Tensor) -> Tensor:
    """[map, height, width] -> [map, 1, height, width], with the strides of channels last.

    A map of one channel has either layout; PyTorch, left to choose, convolves it into maps with
    channels first, which take several times as long and are then copied.
    """
    n, height, width = maps.shape
    return maps.contiguous().as_strided((n, 1, height, width), (height * width, 1, width, 1))


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    weight = conv.weight.detach()
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()
    if norm is None:
        return weight, bias
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale, shift = (norm.weight, norm.bias) if norm.affine else (None, None)
    folded, moved = fuse_conv_bn_weights(conv.weight, conv.bias, mean, variance, norm.eps, scale, shift)
    return folded.detach(), moved.detach()
