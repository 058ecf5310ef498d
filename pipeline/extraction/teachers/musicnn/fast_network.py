"""MusiCNN put together from the parts in :mod:`fast`: log-mel frames to feature maps and pools."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.extraction.teachers.musicnn.card import MELS, PATCH_FRAMES, PATCH_HOP_FRAMES
from pipeline.extraction.teachers.musicnn.fast import Activation, Temporal, Timbral, TimeConvolution
from pipeline.extraction.teachers.musicnn.layers import Array, Convolution, Layers
from pipeline.extraction.teachers.musicnn.network import Head, as_tensor
from pipeline.extraction.teachers.musicnn.prune import FEATURE_MAX, LOGMEL_MAX, constants, live, select
from pipeline.extraction.teachers.musicnn.sharing import OVERLAP, Rows, rows_of_clip, rows_of_patches

_CPU_ROWS = 512
_CPU_BLOCKS = 8
_DEVICE_ROWS = 16_384
_DEVICE_BLOCKS = 256


class FastNetwork(nn.Module):
    """The same maps as :class:`network.ExactNetwork`, with empty filters left out and patches sharing work."""

    def __init__(self, layers: Layers, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.input_scale, self.input_shift = layers.input_scale, layers.input_shift
        x_max = abs(layers.input_scale) * LOGMEL_MAX + abs(layers.input_shift)
        front = layers.timbral + layers.temporal
        kept = [live(layer, x_max) for layer in front]
        pruned = [select(layer, index) for layer, index in zip(front, kept, strict=True)]
        self.timbral = tuple(Timbral(layer, MELS) for layer in pruned[:2] if layer.n_out)
        self.temporal = tuple(Temporal(layer) for layer in pruned[2:] if layer.n_out)
        starts = np.cumsum([0] + [layer.n_out for layer in front[:-1]])
        filled = np.concatenate([index + start for index, start in zip(kept, starts, strict=True)])
        self.front = _Filling(np.concatenate([constants(layer) for layer in front]), filled)
        self.middle = _FirstMiddle(layers.middle[0], self.front)
        self.residual = tuple(_Middle(layer) for layer in layers.middle[1:])
        self.parts = nn.ModuleList([*self.timbral, *self.temporal, *self.residual])
        self.head = Head(layers)
        for part in self.modules():
            if isinstance(part, Timbral | Temporal | TimeConvolution):
                part.matrix = part.matrix.to(dtype)

    def pools(self, logmel: Tensor, n_patches: int) -> Tensor:
        """Mean and maximum of all maps over each patch.

        Shape: [clip, time, 96] with at least ``span(n_patches)`` frames -> [clip, patch, 2 * channels].
        """
        rows = rows_of_patches(n_patches)
        x = self._normalised(logmel[:, : rows.n_frames])
        front = torch.cat([self._timbral(x, rows), self._temporal_of_patches(x, n_patches)], 3).flatten(0, 1)
        middle = self._middle(front, front.new_ones(1, PATCH_FRAMES, 1))
        means = self._completed([front.mean(1), *(layer.mean(1) for layer in middle)])
        peaks = self._completed([front.amax(1), *(layer.amax(1) for layer in middle)])
        return torch.cat([means, peaks], 1).view(len(logmel), n_patches, -1)

    def features(self, logmel: Tensor, keep: Tensor) -> Tensor:
        """All maps over each whole clip: [clip, time, 96] and its mask [clip, time, 1] -> [clip, time, channels]."""
        x = self._normalised(logmel) * keep
        bands = x.transpose(1, 2).contiguous()
        timbral = self._timbral(x, rows_of_clip(x.shape[1]))[:, 0]
        step = _CPU_BLOCKS if x.device.type == "cpu" else _DEVICE_BLOCKS
        temporal = [torch.cat([part.whole(clips) for clips in torch.split(bands, step)]) for part in self.temporal]
        front = torch.cat([timbral, *temporal], 2) * keep
        middle = self._middle(front, keep)
        return self._completed([front, *middle]) * keep

    def _normalised(self, logmel: Tensor) -> Tensor:
        return logmel * self.input_scale + self.input_shift

    def _timbral(self, x: Tensor, rows: Rows) -> Tensor:
        """[clip, time, 96] -> [clip, patch, frame, live filters]."""
        n_clips, n_frames, _ = x.shape
        table = torch.cat([x, x.new_zeros(n_clips, 1, x.shape[2])], 1).flatten(0, 1)
        index = rows.windows.to(x.device) + torch.arange(n_clips, device=x.device)[:, None, None] * (n_frames + 1)
        step = _CPU_ROWS if x.device.type == "cpu" else _DEVICE_ROWS
        made = [self._timbral_rows(table, part) for part in torch.split(index.flatten(0, 1), step)]
        return torch.cat(made).view(n_clips, len(rows.windows), -1)[:, rows.patches.to(x.device)]

    def _timbral_rows(self, table: Tensor, index: Tensor) -> Tensor:
        windows = table[index].transpose(1, 2).flatten(1)
        return torch.cat([windows[:, :0], *(part(windows) for part in self.timbral)], 1)

    def _temporal_of_patches(self, x: Tensor, n_patches: int) -> Tensor:
        """[clip, time, 96] -> [clip, patch, frame, live filters], by blocks that neighbours share."""
        margin = max((part.before for part in self.temporal), default=0)
        padded = nn.functional.pad(x.transpose(1, 2), (margin, margin + 1))
        blocks = padded.unfold(2, OVERLAP + 2 * margin + 1, PATCH_HOP_FRAMES).transpose(1, 2).flatten(0, 1)
        step = _CPU_BLOCKS if x.device.type == "cpu" else _DEVICE_BLOCKS
        made = [self._temporal_of_blocks(chunk.contiguous(), margin) for chunk in torch.split(blocks, step)]
        starting, ending = (
            torch.cat(side).view(len(x), n_patches + 1, OVERLAP, -1) for side in zip(*made, strict=True)
        )
        return torch.cat([starting[:, :-1], ending[:, 1:, 2 * OVERLAP - PATCH_FRAMES :]], 2)

    def _temporal_of_blocks(self, blocks: Tensor, margin: int) -> tuple[Tensor, Tensor]:
        none = blocks.new_empty(len(blocks), OVERLAP, 0)
        pairs = [(none, none), *(part.shared(blocks, margin, OVERLAP) for part in self.temporal)]
        starting, ending = (torch.cat(side, 2) for side in zip(*pairs, strict=True))
        return starting, ending

    def _middle(self, front: Tensor, keep: Tensor) -> list[Tensor]:
        """Three layers over time, each but the first adding what came in."""
        made = [self.middle(front, keep)]
        for layer in self.residual:
            made.append((layer(made[-1]) + made[-1]) * keep)
        return made

    def _completed(self, parts: list[Tensor]) -> Tensor:
        """Live filters of the front end into the constant ones, and the middle layers after them."""
        return torch.cat([self.front(parts[0]), *parts[1:]], -1)


class _Filling(nn.Module):
    """Puts computed channels among constant ones: [..., live] -> [..., channels]."""

    template: Tensor
    index: Tensor

    def __init__(self, template: Array, index: NDArray[np.int64]) -> None:
        super().__init__()
        self.register_buffer("template", as_tensor(template), persistent=False)
        self.register_buffer("index", torch.from_numpy(index), persistent=False)

    def forward(self, live_channels: Tensor) -> Tensor:
        """All channels."""
        made = self.template.expand(*live_channels.shape[:-1], -1).clone()
        made[..., self.index] = live_channels
        return made


class _Middle(nn.Module):
    """A layer over time: convolution, ReLU, batch-norm."""

    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        self.convolution, self.activation = TimeConvolution(layer.kernel), Activation(layer)

    def forward(self, x: Tensor) -> Tensor:
        """[patch, time, channels in] -> [patch, time, channels out]."""
        return self.activation(self.convolution(x))  # type: ignore[no-any-return]


class _FirstMiddle(nn.Module):
    """The layer on the front end: its constant inputs act through the mask of real frames alone."""

    def __init__(self, layer: Convolution, front: _Filling) -> None:
        super().__init__()
        kept = live(layer, FEATURE_MAX)
        chosen = select(layer, kept)
        index = front.index.numpy()
        constant = front.template.numpy().astype(np.float64)
        constant[index] = 0.0
        self.live = TimeConvolution(chosen.kernel[:, index])
        self.constant = TimeConvolution((chosen.kernel * constant[:, None]).sum(1, keepdims=True))
        self.activation = Activation(chosen)
        self.filling = _Filling(constants(layer), kept)

    def forward(self, front: Tensor, keep: Tensor) -> Tensor:
        """[patch, time, live channels] and [patch or 1, time, 1] -> [patch, time, channels out]."""
        made: Tensor = self.filling(self.activation(self.live(front) + self.constant(keep)))
        return made * keep
