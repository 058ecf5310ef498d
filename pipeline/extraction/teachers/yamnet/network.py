"""YAMNet's network, as the original computes it and folded.

Source: ``yamnet.py`` of the official code.  TensorFlow pads a convolution of stride 2 on an even
size at the end only: one row below, one column to the right.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.extraction.teachers.convolution import one_channel_last
from pipeline.extraction.teachers.yamnet.layers import Convolution, Layers

_EPSILON = 1e-4


class Yamnet(nn.Module):
    """Patches to embeddings, and those to scores.

    Args:
        fold: batch-norms within the convolutions, channels laid last, patches and kernels upside down.
            What is padded at the end is then padded at the start, which PyTorch does without a copy.
        dtype: of the convolutions.
    """

    def __init__(self, layers: Layers, *, fold: bool, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.fold, self.dtype = fold, dtype
        kind = _Folded if fold else _Plain
        self.convolutions = nn.Sequential(*(kind(layer) for layer in layers.convolutions)).to(dtype)
        if fold:
            for kernel in self.convolutions.parameters():
                if kernel.ndim == 4:
                    kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
        self.dense = nn.Linear(layers.dense.shape[1], len(layers.dense))
        self.dense.weight, self.dense.bias = nn.Parameter(layers.dense), nn.Parameter(layers.dense_bias)

    def embed(self, patches: Tensor) -> Tensor:
        """[patch, 96 frames, 64 mels] -> [patch, channels]."""
        patches = patches.to(self.dtype)
        x = one_channel_last(patches.flip(1, 2)) if self.fold else patches[:, None]
        last: Tensor = self.convolutions(x)
        return last.float().mean((2, 3))

    def score(self, embedding: Tensor) -> Tensor:
        """[..., channels] -> [..., classes], probabilities."""
        logits: Tensor = self.dense(embedding)
        return logits.sigmoid()


class _Plain(nn.Module):
    """Convolution, batch-norm, ReLU."""

    mean: Tensor
    variance: Tensor

    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        self.stride, self.groups = layer.stride, layer.groups
        self.kernel, self.beta = nn.Parameter(layer.kernel), nn.Parameter(layer.beta)
        self.register_buffer("mean", layer.mean)
        self.register_buffer("variance", layer.variance)

    def forward(self, x: Tensor) -> Tensor:
        """[patch, channel, height, width]; extents are even wherever the stride is 2."""
        padding = self.kernel.shape[-1] // 2
        if self.stride == 2:
            x, padding = F.pad(x, (0, 1, 0, 1)), 0
        x = F.conv2d(x, self.kernel, None, self.stride, padding, groups=self.groups)
        return F.batch_norm(x, self.mean, self.variance, None, self.beta, eps=_EPSILON).relu_()


class _Folded(nn.Module):
    """Convolution with a bias, its kernel upside down, and ReLU."""

    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        self.stride, self.groups = layer.stride, layer.groups
        scale = (layer.variance.double() + _EPSILON).rsqrt()
        self.kernel = nn.Parameter((layer.kernel * scale[:, None, None, None]).float().flip(2, 3))
        self.bias = nn.Parameter((layer.beta - layer.mean * scale).float())

    def forward(self, x: Tensor) -> Tensor:
        """[patch, channel, height, width]. With stride 2 the padding behind is not reached."""
        padding = self.kernel.shape[-1] // 2
        return F.conv2d(x, self.kernel, self.bias, self.stride, padding, groups=self.groups).relu_()
