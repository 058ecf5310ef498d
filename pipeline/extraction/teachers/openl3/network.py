"""The audio half of the L3 network: eight convolutions over the spectrogram of one second.

Source: ``openl3/models.py`` of openl3 0.4.2, whose layers Keras stores in the order of
:func:`layer_shapes`.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.extraction.teachers.convolution import QuickConv

EPSILON = 1e-3
_MULTIPLES = (1, 1, 2, 2, 4, 4, 8, 8)
_POOLED_AFTER = (1, 3, 5)


def channels_of(width: int) -> tuple[int, ...]:
    """Input channels of the first convolution, then output channels of each."""
    return (1, *(width * multiple for multiple in _MULTIPLES))


class Network(nn.Module):
    """Spectrograms to embeddings.

    Every convolution but the last is followed by a batch-norm and a ReLU.

    Args:
        width: channels of the first two convolutions; the published networks have 64.
        pool: size of the last pooling, over frequency and time.
    """

    def __init__(self, width: int, pool: tuple[int, int]) -> None:
        super().__init__()
        channels = channels_of(width)
        self.pool = pool
        self.norm = nn.BatchNorm2d(1, eps=EPSILON)
        self.convs = nn.ModuleList(nn.Conv2d(n_in, n_out, 3, padding=1) for n_in, n_out in pairwise(channels))
        self.norms = nn.ModuleList(nn.BatchNorm2d(n_out, eps=EPSILON) for n_out in channels[1:-1])

    def forward(self, decibels: Tensor) -> Tensor:
        """[window, frequency, time] -> [window, size], in the original's order of frequency, time, channel."""
        x = self.norm(decibels[:, None])
        if not self.norms:
            x = x.contiguous(memory_format=torch.channels_last)
        x = x.to(self.convs[0].get_parameter("weight").dtype)
        for index, conv in enumerate(self.convs):
            x = conv(x)
            if index < len(self.norms):
                x = self.norms[index](x).relu_()
            if index in _POOLED_AFTER:
                x = F.max_pool2d(x, 2)
        return F.max_pool2d(x, self.pool).permute(0, 2, 3, 1).flatten(1).float()

    def fold(self) -> None:
        """Put batch-norms and ReLUs into the convolutions before them, which are then the quick ones."""
        norms = [*self.norms, None]
        self.convs = nn.ModuleList(_quick(conv, norm) for conv, norm in zip(self.convs, norms, strict=True))
        self.norms = nn.ModuleList()


def _quick(conv: nn.Module, norm: nn.Module | None) -> QuickConv:
    assert isinstance(conv, nn.Conv2d)
    assert norm is None or isinstance(norm, nn.BatchNorm2d)
    return QuickConv(conv, norm, relu=norm is not None)
