"""mobile-fcn: two convolutions and six depthwise-separable ones, pooled to one mel band.

The first five layers pool time by 4, 3, 2, 2 and 2, and 96 mels by 2, 2, 2, 3 and 4.
"""

from __future__ import annotations

from torch import Tensor, nn

from pipeline.audio.extractor import Frames
from pipeline.cards import StudentCard
from pipeline.distillation.students.contract import Student, StudentOutput, mean_time, mel_mean, narrowed
from pipeline.distillation.students.layers import ConvNorm, MaxPool, Separable, picture
from pipeline.errors import SettingError

_STEM = 64
_SHORTEST = 4 * 3 * 2 * 2 * 2  # mel frames that become one
_LEAST_MELS = 32


class MobileFcn(Student):
    """Three stages; dropout behind each while training, mean over time, linear layer.

    Args:
        width: factor of all channel counts.
        dropout: share of the features behind each stage dropped while training.
    """

    def __init__(self, card: StudentCard, *, n_classes: int, n_mels: int, width: float, dropout: float) -> None:
        super().__init__()
        if n_mels < _LEAST_MELS:
            raise SettingError(f"{card.name} pools mels by {_LEAST_MELS} or more, but was given {n_mels} of them.")
        self.card = card
        self.arguments = {"n_classes": n_classes, "n_mels": n_mels, "width": width, "dropout": dropout}
        stem, first, second, third = narrowed((_STEM, *card.stage_channels), width)
        fourth_pool = min(4, n_mels // 32)
        self.stage1 = nn.ModuleList(
            [
                ConvNorm(1, stem, kernel=3),
                MaxPool(4, 2),
                ConvNorm(stem, first, kernel=3),
                MaxPool(3, 2),
                Separable(first, first),
                MaxPool(2, 2),
                Separable(first, first),
                MaxPool(2, fourth_pool),
            ]
        )
        self.stage2 = nn.ModuleList([Separable(first, first), MaxPool(2, 4), Separable(first, second)])
        self.stage3 = nn.ModuleList([Separable(second, third), Separable(third, third)])
        self.dropout = nn.Dropout(dropout)
        self.classify = nn.Linear(third, n_classes)

    def forward(self, mel: Tensor, n_frames: Tensor) -> StudentOutput:
        """See :meth:`Student.forward`."""
        x, n_frames = picture(mel, n_frames, shortest=_SHORTEST)
        stages = []
        for stage in (self.stage1, self.stage2, self.stage3):
            for layer in stage:
                x, n_frames = layer(x, n_frames)
            stages.append(Frames(mel_mean(x), n_frames))
            x = self.dropout(x)
        return StudentOutput(self.classify(mean_time(mel_mean(x), n_frames)), tuple(stages))


def build(card: StudentCard, *, n_classes: int, n_mels: int, width: float = 1.0, dropout: float = 0.5) -> MobileFcn:
    """Build with fresh weights; a ``width`` below 1 makes a narrow network, for tests."""
    return MobileFcn(card, n_classes=n_classes, n_mels=n_mels, width=width, dropout=dropout)
