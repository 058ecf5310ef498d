"""MusiCNN layer by layer, as published: the ``exact`` mode and the measure of the ``fast`` one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.extraction.teachers.musicnn.card import PATCH_FRAMES, PATCH_HOP_FRAMES
from pipeline.extraction.teachers.musicnn.layers import Array, Convolution, Layers

_CHUNK = 8
"""Patches at a time; each needs about 30 MB."""


class ExactNetwork(nn.Module):
    """Log-mel frames to feature maps and pools, in float32."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.input_scale, self.input_shift = layers.input_scale, layers.input_shift
        self.timbral = tuple(_Block(layer) for layer in layers.timbral)
        self.temporal = tuple(_Block(layer) for layer in layers.temporal)
        self.middle = tuple(_Block(layer) for layer in layers.middle)
        self.blocks = nn.ModuleList([*self.timbral, *self.temporal, *self.middle])
        self.head = Head(layers)

    def pools(self, logmel: Tensor, n_patches: int) -> Tensor:
        """Mean and maximum of all maps over each patch, mean first.

        Shape: [clip, time, 96] with at least ``n_patches`` patches -> [clip, patch, 2 * channels].
        """
        windows = logmel.unfold(1, PATCH_FRAMES, PATCH_HOP_FRAMES)[:, :n_patches].transpose(2, 3)
        made = [self._maps(patches, None) for patches in torch.split(windows.flatten(0, 1), _CHUNK)]
        pools = torch.cat([torch.cat([maps.mean(1), maps.amax(1)], 1) for maps in made])
        return pools.view(len(logmel), n_patches, -1)

    def features(self, logmel: Tensor, keep: Tensor) -> Tensor:
        """All maps over each whole clip.

        Shape:
            logmel: [clip, time, 96].
            keep: [clip, time, 1], 1 where a frame is real and 0 where it is padding.
            returns: [clip, time, channels].
        """
        pairs = zip(torch.split(logmel, 1), torch.split(keep, 1), strict=True)
        return torch.cat([self._maps(clip, mask) for clip, mask in pairs])

    def _maps(self, logmel: Tensor, keep: Tensor | None) -> Tensor:
        """Timbral, temporal and three middle maps side by side: [patch, time, channels]."""
        x = _masked(logmel * self.input_scale + self.input_shift, keep)
        image = x[:, None]
        maps = [block(F.pad(image, (0, 0, 3, 3))).amax(3) for block in self.timbral]
        maps += [block(_pad_same(image, block.kernel.shape[2])).amax(3) for block in self.temporal]
        front = _masked(torch.cat(maps, 1).transpose(1, 2), keep)
        return torch.cat([front, *self._middle(front, keep)], 2)

    def _middle(self, front: Tensor, keep: Tensor | None) -> list[Tensor]:
        """Three layers over time; the second and third add what came in."""
        made: list[Tensor] = []
        for block in self.middle:
            x = made[-1] if made else front
            y = block(F.pad(x, (0, 0, 3, 3))[:, None])[:, :, :, 0].transpose(1, 2)
            made.append(_masked(y + x if made else y, keep))
        return made


class Head(nn.Module):
    """Pools to the penultimate layer and the tags."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        parts = {
            "dense": layers.pool_scale[:, None] * layers.dense,
            "dense_bias": layers.pool_shift @ layers.dense + layers.dense_bias,
            "scale": layers.dense_scale,
            "shift": layers.dense_shift,
            "tags": layers.tags,
            "tags_bias": layers.tags_bias,
        }
        for name, values in parts.items():
            self.register_buffer(name, as_tensor(values), persistent=False)

    def penultimate(self, pools: Tensor) -> Tensor:
        """[..., 1506] -> [..., 200]."""
        dense = pools @ self.get_buffer("dense") + self.get_buffer("dense_bias")
        return dense.relu() * self.get_buffer("scale") + self.get_buffer("shift")

    def taggram(self, penultimate: Tensor) -> Tensor:
        """[..., 200] -> [..., 50], probabilities."""
        return torch.sigmoid(penultimate @ self.get_buffer("tags") + self.get_buffer("tags_bias"))


class _Block(nn.Module):
    """Convolution, ReLU, batch-norm: [batch, 1, time, frequency] -> [batch, out, time, frequency]."""

    kernel: Tensor
    bias: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        self.register_buffer("kernel", as_tensor(layer.kernel.transpose(2, 0, 1)[:, None]), persistent=False)
        for name in ("bias", "scale", "shift"):
            self.register_buffer(name, as_tensor(getattr(layer, name)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.conv2d(x, self.kernel, self.bias).relu_()
        return y.mul_(self.scale[:, None, None]).add_(self.shift[:, None, None])


def as_tensor(values: Array | Sequence[float]) -> Tensor:
    """float32 and contiguous."""
    return torch.as_tensor(values).to(torch.float32).contiguous()


def _pad_same(image: Tensor, length: int) -> Tensor:
    """TensorFlow's SAME over time: the odd sample goes to the end."""
    before = (length - 1) // 2
    return F.pad(image, (0, 0, before, length - 1 - before))


def _masked(x: Tensor, keep: Tensor | None) -> Tensor:
    return x if keep is None else x * keep
