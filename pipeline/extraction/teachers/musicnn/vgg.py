"""The VGG network of the musicnn package: log-mel patches to the outputs of its five pools.

Source: ``vgg`` in ``musicnn/models.py`` of the PyPI package ``musicnn`` 0.1.0.  Five blocks of a
[3 x 3] convolution with SAME padding, ReLU, batch-norm and a maximum without padding.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.extraction.teachers.convolution import QuickConv
from pipeline.extraction.teachers.musicnn.card import PATCH_FRAMES, PATCH_HOP_FRAMES
from pipeline.extraction.teachers.musicnn.layers import Array
from pipeline.extraction.teachers.musicnn.network import as_tensor
from pipeline.extraction.teachers.musicnn.vgg_layers import VggLayer, VggLayers

POOLS: tuple[tuple[tuple[int, int], tuple[int, int]], ...] = (
    ((4, 1), (2, 2)),
    ((2, 2), (2, 2)),
    ((2, 2), (2, 2)),
    ((2, 2), (2, 2)),
    ((4, 4), (4, 4)),
)
"""Size and stride of each maximum, over time and over frequency."""

_CPU_PATCHES = 8
_DEVICE_PATCHES = 128
"""Patches at a time: the first map of each takes 4.6 MB before its maximum."""


def pooled_length(n_frames: int, n_blocks: int) -> int:
    """Frames that are left after so many blocks."""
    for (length, _), (stride, _) in POOLS[:n_blocks]:
        n_frames = max(0, (n_frames - length) // stride + 1)
    return n_frames


class Vgg(nn.Module):
    """Exact as published, or with each batch-norm after its maximum (``reorder``), which is the same and quicker.

    ``dtype`` is that of the convolutions but the first, which has one channel to read and little to do.
    """

    def __init__(self, layers: VggLayers, *, reorder: bool, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.input_scale, self.input_shift = layers.input_scale, layers.input_shift
        kind = _ReorderedBlock if reorder else _Block
        first, *others = (
            kind(layer, size, stride) for layer, (size, stride) in zip(layers.convolutions, POOLS, strict=True)
        )
        for block in others:
            block.convolve_in(dtype)
        self.blocks = nn.ModuleList([first, *others])
        self.register_buffer("tags", as_tensor(layers.tags), persistent=False)
        self.register_buffer("tags_bias", as_tensor(layers.tags_bias), persistent=False)

    def of_patches(self, logmel: Tensor, n_patches: int) -> dict[str, Tensor]:
        """The last pool of each patch as the original flattens it, and the mean of every pool over its map.

        Shape: [clip, time, 96] -> ``pool5`` [clip, patch, 2 * width], ``layers`` [clip, patch, 5 * width].
        """
        windows = logmel.unfold(1, PATCH_FRAMES, PATCH_HOP_FRAMES)[:, :n_patches].transpose(2, 3).flatten(0, 1)
        step = _CPU_PATCHES if logmel.device.type == "cpu" else _DEVICE_PATCHES
        parts = [self._of_chunk(patches) for patches in torch.split(windows, step)]
        made = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return {name: values.view(len(logmel), n_patches, -1) for name, values in made.items()}

    def frames(self, logmel: Tensor, lengths: Tensor) -> Tensor:
        """The fourth pool, averaged over frequency, of whole clips; clip by clip, so that memory is bounded.

        Shape:
            logmel: [clip, time, 96].
            lengths: [clip], mel frames that are real; beyond them is padding.
            returns: [clip, time // 16, width].
        """
        n_frames = pooled_length(logmel.shape[1], 4)
        made = [
            self._frames_of_clip(clip[:length], n_frames) for clip, length in zip(logmel, lengths.tolist(), strict=True)
        ]
        return torch.stack(made)

    def taggram(self, pool5: Tensor) -> Tensor:
        """[..., 2 * width] -> [..., 50], probabilities."""
        return torch.sigmoid(pool5 @ self.get_buffer("tags") + self.get_buffer("tags_bias"))

    def _of_chunk(self, patches: Tensor) -> dict[str, Tensor]:
        means, x = [], self._image(patches)
        for block in self.blocks:
            x = block(x)
            means.append(x.mean((2, 3)))
        return {"pool5": x.permute(0, 2, 3, 1).flatten(1), "layers": torch.cat(means, 1)}

    def _frames_of_clip(self, logmel: Tensor, n_frames: int) -> Tensor:
        x = self._image(logmel[None])
        for block in self.blocks[:4]:
            x = block(x)
        averaged = x[0].mean(2).T
        return F.pad(averaged, (0, 0, 0, n_frames - len(averaged)))

    def _image(self, logmel: Tensor) -> Tensor:
        """[patch, time, 96] -> [patch, 1, time, 96], normalised."""
        return (logmel * self.input_scale + self.input_shift)[:, None]


class _Block(nn.Module):
    """Convolution, ReLU, batch-norm, maximum: [patch, in, time, frequency] -> [patch, out, less, less]."""

    bias: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, layer: VggLayer, size: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.size, self.stride = size, stride
        self.conv: nn.Module = _convolution(layer.kernel)
        for name in ("bias", "scale", "shift"):
            self.register_buffer(name, as_tensor(getattr(layer, name)[:, None, None].copy()), persistent=False)

    def convolve_in(self, dtype: torch.dtype) -> None:
        """The convolution alone in another type."""
        self.conv.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """As published."""
        y = self.conv(x).add_(self.bias).relu_()
        return F.max_pool2d(y.mul_(self.scale).add_(self.shift), self.size, self.stride)


class _ReorderedBlock(_Block):
    """The same numbers with the maximum first: ReLU and batch-norm then act on a quarter of the values.

    Both are monotonic, so the maximum may go before them where the scale is positive; where it is
    negative the kernel is negated, which makes the smallest value the largest.
    """

    sign: Tensor

    def __init__(self, layer: VggLayer, size: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__(layer, size, stride)
        sign = np.where(layer.scale < 0, -1.0, 1.0)
        self.register_buffer("sign", as_tensor(sign[:, None, None].copy()), persistent=False)
        self.conv = QuickConv(_convolution(layer.kernel * sign), relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maximum, then sign, bias, ReLU, batch-norm, these in float32."""
        x = x.to(self.conv.get_parameter("weight").dtype, memory_format=torch.channels_last)
        y = F.max_pool2d(self.conv(x), self.size, self.stride).float()
        return y.mul_(self.sign).add_(self.bias).relu_().mul_(self.scale).add_(self.shift)


def _convolution(kernel: Array) -> nn.Conv2d:
    """Of a kernel [3, 3, channels in, channels out]."""
    weight = as_tensor(kernel.transpose(3, 2, 0, 1).copy())
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1, bias=False)
    conv.weight = nn.Parameter(weight, requires_grad=False)
    return conv
