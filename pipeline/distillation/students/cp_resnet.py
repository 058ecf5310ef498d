"""cp-resnet: a ResNet whose kernels are chosen to keep the receptive field small.

A 5 x 5 convolution of stride 2, then three stages of four residual blocks; the first stage halves
time and mels three times.  Of the convolutions behind, most are 1 x 1, so that a frame of the last
stage sees 231 mel frames, however deep the network is.

The kernels are those of the network that Ding and Lerch trained, whose second stage has three more
3 x 3 convolutions than rho 7 gives in Koutini's own rule (135 frames); 5,534,612 parameters with 20
classes say that it is this one, and that a linear layer with bias behind the mean over time and mels
is its classifier.  Initial weights follow Fixup (Zhang et al., ICLR 2019): the second convolution of
each block starts at zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipeline.audio.extractor import Frames
from pipeline.cards import StudentCard
from pipeline.distillation.students.contract import Student, StudentOutput, mean_time, mel_mean, narrowed
from pipeline.distillation.students.layers import ConvNorm, MaxPool, picture

#: Of each block, the kernels of its two convolutions.
KERNELS = (
    ((3, 1), (3, 3), (3, 3), (3, 3)),
    ((3, 1), (1, 3), (1, 3), (1, 3)),
    ((1, 1), (1, 1), (1, 1), (1, 1)),
)
_POOLED_AFTER = (0, 1, 3)  # blocks of the first stage
_SHORTEST = 15  # mel frames: halved, rounded up, then three times rounded down, leaves one


class CpResNet(Student):
    """Stem, three stages of residual blocks, mean over time and mels, linear layer.

    Args:
        width: factor of all channel counts.
    """

    def __init__(self, card: StudentCard, *, n_classes: int, n_mels: int, width: float) -> None:
        super().__init__()
        self.card = card
        self.arguments = {"n_classes": n_classes, "n_mels": n_mels, "width": width}
        channels = narrowed(card.stage_channels, width)
        self.stem = ConvNorm(1, channels[0], kernel=5, stride=2)
        self.stage1 = _stage(channels[0], channels[0], KERNELS[0], _POOLED_AFTER)
        self.stage2 = _stage(channels[0], channels[1], KERNELS[1])
        self.stage3 = _stage(channels[1], channels[2], KERNELS[2])
        self.classify = nn.Linear(channels[2], n_classes)
        self._initialise()

    def forward(self, mel: Tensor, n_frames: Tensor) -> StudentOutput:
        """See :meth:`Student.forward`."""
        x, n_frames = self.stem(*picture(mel, n_frames, shortest=_SHORTEST))
        stages = []
        for stage in (self.stage1, self.stage2, self.stage3):
            for layer in stage:
                x, n_frames = layer(x, n_frames)
            stages.append(Frames(mel_mean(x), n_frames))
        return StudentOutput(self.classify(mean_time(stages[-1].features, n_frames)), tuple(stages))

    def _initialise(self) -> None:
        nn.init.kaiming_normal_(self.stem.convolve.weight, nonlinearity="relu")
        nn.init.zeros_(self.classify.bias)
        blocks = [module for module in self.modules() if isinstance(module, _Block)]
        for block in blocks:
            _spread(block.first.convolve, len(blocks) ** -0.5)
            nn.init.zeros_(block.second.convolve.weight)
            if block.shortcut is not None:
                _spread(block.shortcut.convolve, 1.0)


class _Block(nn.Module):
    """Two convolutions beside a shortcut, which is a convolution where the channels change."""

    def __init__(self, inputs: int, outputs: int, kernels: tuple[int, int]) -> None:
        super().__init__()
        self.first = ConvNorm(inputs, outputs, kernel=kernels[0])
        self.second = ConvNorm(outputs, outputs, kernel=kernels[1], linear=True)
        self.shortcut = ConvNorm(inputs, outputs, linear=True) if inputs != outputs else None

    def forward(self, x: Tensor, n_frames: Tensor) -> tuple[Tensor, Tensor]:
        y, _ = self.second(*self.first(x, n_frames))
        if self.shortcut is not None:
            x, _ = self.shortcut(x, n_frames)
        return torch.relu_(y + x), n_frames


def _stage(
    inputs: int, outputs: int, kernels: tuple[tuple[int, int], ...], pooled_after: tuple[int, ...] = ()
) -> nn.ModuleList:
    layers: list[nn.Module] = []
    for position, pair in enumerate(kernels):
        layers.append(_Block(outputs if position else inputs, outputs, pair))
        if position in pooled_after:
            layers.append(MaxPool(2, 2))
    return nn.ModuleList(layers)


def _spread(layer: nn.Conv2d, factor: float) -> None:
    """Gaussian weights of variance 2 / (kernel values x outputs), times ``factor`` squared."""
    fan = layer.out_channels * math.prod(layer.kernel_size)
    nn.init.normal_(layer.weight, std=factor * math.sqrt(2.0 / fan))


def build(card: StudentCard, *, n_classes: int, n_mels: int, width: float = 1.0) -> CpResNet:
    """Build with fresh weights; a ``width`` below 1 makes a narrow network, for tests."""
    return CpResNet(card, n_classes=n_classes, n_mels=n_mels, width=width)
