"""VGGish under the names of the PyTorch port's checkpoint.

Source: ``torchvggish.py`` of the PyPI package ``torchvggish`` 0.2 (Apache-2.0).
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.extraction.teachers.convolution import QuickConv, one_channel_last

_STAGES = ((1,), (2,), (4, 4), (8, 8))
"""Channels of the convolutions between max-pools, in units of the width."""
_MAP = 6 * 4
"""Places of the last map, for 96 frames of 64 mels."""

_AT_ONCE = 16
"""Patches in the convolutions at once, on a CPU with its caches; the dense layers take more."""


class Vggish(nn.Module):
    """Patches to embeddings, before the last ReLU.

    Args:
        width: channels of the first convolution; the published network has 64.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = 1
        for stage in _STAGES:
            for multiple in stage:
                layers += [nn.Conv2d(n_in, multiple * width, 3, padding=1), nn.ReLU()]
                n_in = multiple * width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        sizes = (_MAP * n_in, 64 * width, 64 * width, 2 * width)
        dense: list[nn.Module] = []
        for before, after in pairwise(sizes):
            dense += [nn.Linear(before, after), nn.ReLU()]
        self.embeddings = nn.Sequential(*dense[:-1])

    def forward(self, patches: Tensor) -> Tensor:
        """[patch, 96 frames, 64 mels] -> [patch, 2 * width]; the map is flattened with channels last."""
        x: Tensor = self.features(patches[:, None])
        embedding: Tensor = self.embeddings(x.permute(0, 2, 3, 1).flatten(1))
        return embedding


class QuickVggish(nn.Module):
    """The same with channels last, and quick convolutions on CPUs. Takes the other's weights over."""

    def __init__(self, network: Vggish, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        layers = [
            QuickConv(layer) if isinstance(layer, nn.Conv2d) else layer
            for layer in network.features
            if not isinstance(layer, nn.ReLU)
        ]
        self.features = nn.Sequential(*layers).to(dtype)
        self.embeddings = network.embeddings.to(dtype)

    def forward(self, patches: Tensor) -> Tensor:
        """[patch, 96 frames, 64 mels] -> [patch, 2 * width]."""
        size = _AT_ONCE if patches.device.type == "cpu" else len(patches)
        maps = [self.features(one_channel_last(part)) for part in torch.split(patches.to(self.dtype), max(1, size))]
        embedding: Tensor = self.embeddings(torch.cat([part.permute(0, 2, 3, 1).flatten(1) for part in maps]))
        return embedding.float()


class Whitening(nn.Module):
    """PCA with whitening, and 8-bit rounding, as AudioSet's embeddings are published.

    Args:
        vectors: [channels, channels], one eigenvector a row.
        means: [channels].
        limit: values are clipped to it on either side.
    """

    vectors: Tensor
    means: Tensor

    def __init__(self, vectors: Tensor, means: Tensor, limit: float) -> None:
        super().__init__()
        self.limit = limit
        self.register_buffer("vectors", vectors)
        self.register_buffer("means", means)

    def forward(self, embedding: Tensor) -> Tensor:
        """[..., channels] to the same, multiples of 1/256 from -1/2 to 127/256."""
        whitened = F.linear(embedding - self.means, self.vectors).clamp(-self.limit, self.limit)
        steps = torch.round((whitened + self.limit) * (255.0 / (2 * self.limit)))
        return (steps - 128.0) / 256.0
