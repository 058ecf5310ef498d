"""The cnn family: four convolutions, early strides, and a mean and a maximum over time.

Time is cut by four at once and the mel axis by two, because the first layers are where a CPU
spends its time; channels then double as the picture shrinks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.audio.extractor import Frames
from pipeline.cards import StudentCard
from pipeline.distillation.students.contract import Student, StudentOutput, mask_time, mel_mean, narrowed, pool_time
from pipeline.distillation.students.normalisation import FrameNorm, PlainNorm, PlainVectorNorm, VectorNorm

_STEM_STRIDE = (4, 2)


class Cnn(Student):
    """Three stages of convolutions over [time, mel], and a head over time alone.

    Args:
        width: factor of all channel counts.
        dropout: share of pooled features dropped while training.
    """

    def __init__(
        self,
        card: StudentCard,
        *,
        n_classes: int,
        n_mels: int,
        width: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.card = card
        self.arguments = {"n_classes": n_classes, "n_mels": n_mels, "width": width, "dropout": dropout}
        plain = not card.parameters["valid_statistics"]
        first, second, third, head = narrowed((*card.stage_channels, int(str(card.parameters["head"]))), width)
        self.normalise = (PlainVectorNorm if plain else VectorNorm)(n_mels, affine=False)
        self.stem = _Block(1, first, kernel=(7, 5), stride=_STEM_STRIDE, plain=plain)
        self.stage2 = _Block(first, second, kernel=(3, 3), stride=(2, 2), plain=plain)
        self.stage3 = nn.ModuleList(
            [
                _Block(second, third, kernel=(3, 3), stride=(2, 2), plain=plain),
                _Block(third, third, kernel=(3, 3), stride=(1, 2), plain=plain),
            ]
        )
        bins = -(-n_mels // 16)
        self.head = nn.Sequential(nn.Linear(third * bins, head), nn.ReLU(inplace=True))
        self.classify = nn.Sequential(nn.Dropout(dropout), nn.Linear(2 * head, n_classes))

    def forward(self, mel: Tensor, n_frames: Tensor) -> StudentOutput:
        """See :meth:`Student.forward`."""
        x = self.normalise(mel, n_frames)[:, None]
        x = mask_time(x.contiguous(memory_format=torch.channels_last), n_frames)
        stages = []
        x, n_frames = self.stem(x, n_frames)
        stages.append(Frames(mel_mean(x), n_frames))
        x, n_frames = self.stage2(x, n_frames)
        stages.append(Frames(mel_mean(x), n_frames))
        for block in self.stage3:
            x, n_frames = block(x, n_frames)
        stages.append(Frames(mel_mean(x), n_frames))
        hidden = self.head(x.permute(0, 2, 1, 3).flatten(2))
        return StudentOutput(self.classify(pool_time(hidden, n_frames)), tuple(stages))


class _Block(nn.Module):
    """Convolution, batch normalisation, ReLU; frames beyond the clip are zeroed."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: tuple[int, int], stride: tuple[int, int], plain: bool
    ) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.convolve = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.normalise = PlainNorm(outputs) if plain else FrameNorm(outputs)
        self.stride_s = stride[0]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, n_frames: Tensor) -> tuple[Tensor, Tensor]:
        n_frames = torch.div(n_frames + self.stride_s - 1, self.stride_s, rounding_mode="floor")
        x = torch.relu_(self.normalise(self.convolve(x), n_frames))
        return mask_time(x, n_frames), n_frames


def build(card: StudentCard, *, n_classes: int, n_mels: int, width: float = 1.0, dropout: float = 0.2) -> Cnn:
    """Build with fresh weights; a ``width`` below 1 makes a narrow network, for tests."""
    return Cnn(card, n_classes=n_classes, n_mels=n_mels, width=width, dropout=dropout)
