"""tcnext: convolutions that shrink the picture early, then ConvNeXt-like blocks over time alone.

Depthwise convolutions over pictures spare operations but hardly any time on a CPU, which spends it
moving the picture through memory.  So they stand where the picture has become a short sequence: the
mel axis is folded into the channels first, and parameters there cost almost nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.audio.extractor import Frames, mask_frames
from pipeline.cards import StudentCard
from pipeline.distillation.students.contract import Student, StudentOutput, mask_time, mel_mean, narrowed, pool_time
from pipeline.distillation.students.layers import ConvNorm
from pipeline.distillation.students.normalisation import VectorNorm

_LAYER_SCALE = 0.1


class TcNext(Student):
    """Two stages of one convolution each; the third folds the mels and goes on over time.

    Args:
        width: factor of all channel counts.
        dropout: share of pooled features dropped while training.
    """

    def __init__(self, card: StudentCard, *, n_classes: int, n_mels: int, width: float, dropout: float) -> None:
        super().__init__()
        self.card = card
        self.arguments = {"n_classes": n_classes, "n_mels": n_mels, "width": width, "dropout": dropout}
        fold, blocks, kernel, expansion = (
            int(str(card.parameters[key])) for key in ("fold", "blocks", "kernel", "expansion")
        )
        first, second, third, folded = narrowed((*card.stage_channels, fold), width)
        self.normalise = VectorNorm(n_mels, affine=False)
        self.stage1 = ConvNorm(1, first, kernel=(7, 5), stride=(4, 2))
        self.stage2 = ConvNorm(first, second, kernel=3, stride=2)
        self.shrink = ConvNorm(second, folded, kernel=3, stride=2)
        self.fold = nn.Linear(folded * -(-n_mels // 8), third, bias=False)
        self.fold_norm = VectorNorm(third)
        self.blocks = nn.ModuleList([_Block(third, kernel, expansion, dilation=2**k) for k in range(blocks)])
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * third, n_classes))

    def forward(self, mel: Tensor, n_frames: Tensor) -> StudentOutput:
        """See :meth:`Student.forward`."""
        x = self.normalise(mel, n_frames)[:, None]
        x = mask_time(x.contiguous(memory_format=torch.channels_last), n_frames)
        stages = []
        for stage in (self.stage1, self.stage2):
            x, n_frames = stage(x, n_frames)
            stages.append(Frames(mel_mean(x), n_frames))
        x, n_frames = self.shrink(x, n_frames)
        folded = self.fold_norm(self.fold(x.permute(0, 2, 3, 1).flatten(2)), n_frames)
        frames = mask_frames(torch.relu_(folded), n_frames)
        for block in self.blocks:
            frames = block(*frames)
        stages.append(frames)
        return StudentOutput(self.classify(pool_time(*frames)), tuple(stages))


class _Block(nn.Module):
    """Within each channel over time, then across channels, wide and narrow again; added to the input."""

    def __init__(self, channels: int, kernel: int, expansion: int, *, dilation: int) -> None:
        super().__init__()
        reach = dilation * (kernel // 2)
        self.over_time = nn.Conv1d(
            channels, channels, kernel, padding=reach, dilation=dilation, groups=channels, bias=False
        )
        self.normalise = VectorNorm(channels)
        self.widen = nn.Linear(channels, expansion * channels)
        self.narrow = nn.Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), _LAYER_SCALE))

    def forward(self, x: Tensor, n_frames: Tensor) -> Frames:
        y = self.normalise(self.over_time(x.transpose(1, 2)).transpose(1, 2), n_frames)
        y = self.narrow(torch.relu_(self.widen(y)))
        return mask_frames(x + self.scale * y, n_frames)


def build(card: StudentCard, *, n_classes: int, n_mels: int, width: float = 1.0, dropout: float = 0.2) -> TcNext:
    """Build with fresh weights; a ``width`` below 1 makes a narrow network, for tests."""
    return TcNext(card, n_classes=n_classes, n_mels=n_mels, width=width, dropout=dropout)
