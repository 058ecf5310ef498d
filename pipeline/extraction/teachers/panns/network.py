"""CNN14 under the names of the official checkpoint.

Source: ``pytorch/models.py`` of the PANNs repository (``Cnn14``) and torchlibrosa's ``Spectrogram``
and ``LogmelFilterBank``, whose tables are part of the checkpoint.
"""

from __future__ import annotations

import librosa
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pipeline.extraction.teachers.panns.card import FFT, HOP, MELS, RATE_HZ

_AUDIOSET_CLASSES = 527
_FLOOR = 1e-10
_EPSILON = 1e-5


class Cnn14(nn.Module):
    """Mel frames to the last map, averaged over frequency, and on to the embedding of a clip.

    Args:
        width: channels of the first block; the published network has 64, and 32 times as many at the end.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.spectrogram_extractor = _Spectrogram()
        self.logmel_extractor = _LogMel()
        self.bn0 = nn.BatchNorm2d(MELS)
        channels = [1, *(width << step for step in range(6))]
        for number in range(1, 7):
            setattr(self, f"conv_block{number}", _ConvBlock(channels[number - 1], channels[number]))
        self.fc1 = nn.Linear(channels[-1], channels[-1])
        self.fc_audioset = nn.Linear(channels[-1], _AUDIOSET_CLASSES)

    @property
    def blocks(self) -> list[_ConvBlock]:
        """The six convolution blocks."""
        return [block for block in self.children() if isinstance(block, _ConvBlock)]

    def fold(self) -> None:
        """Put each batch-norm into the convolution before it, whose weights are laid out channels last."""
        for block in self.blocks:
            block.fold()

    def frames(self, padded: Tensor, lengths: Tensor | None, *, by_fft: bool) -> Tensor:
        """Waveforms to a sequence of features.

        Shape:
            padded: [clip, samples + 1024], reflected by 512 samples at both ends.
            lengths: [clip], mel frames that are real, where clips differ; what lies beyond is
                treated as the zero padding that a clip of that length has.
            returns: [clip, mel frames // 32, 32 * width].
        """
        power = _power_by_fft(padded) if by_fft else self.spectrogram_extractor(padded)
        logmel = self.logmel_extractor(power)
        x = self.bn0(logmel.transpose(1, 2)[..., None]).transpose(1, 3)
        first = self.blocks[0].conv1.weight
        if first.is_contiguous(memory_format=torch.channels_last):
            x = x.contiguous(memory_format=torch.channels_last)
        x = x.to(first.dtype)
        for block in self.blocks:
            x = block(x, lengths)
            if block is not self.blocks[-1]:
                x = F.avg_pool2d(x, 2)
                lengths = None if lengths is None else lengths // 2
        averaged: Tensor = x.float().mean(3)
        return averaged.transpose(1, 2)

    def embedding(self, frames: Tensor, n_frames: Tensor) -> Tensor:
        """Maximum plus mean over each clip's own frames, then fc1: [clip, time, c] -> [clip, c]."""
        beyond = (torch.arange(frames.shape[1], device=frames.device) >= n_frames[:, None])[:, :, None]
        largest = frames.masked_fill(beyond, -torch.inf).amax(1)
        mean = frames.masked_fill(beyond, 0.0).sum(1) / n_frames[:, None]
        return self.fc1(largest + mean).relu()  # type: ignore[no-any-return]


class _ConvBlock(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1, bias=False)
        self.bn1: nn.Module = nn.BatchNorm2d(n_out)
        self.bn2: nn.Module = nn.BatchNorm2d(n_out)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """[clip, channel, time, mel], no frame added or lost."""
        x = self.bn1(self.conv1(_cut(x, lengths))).relu_()
        return _cut(self.bn2(self.conv2(_cut(x, lengths))).relu_(), lengths)

    def fold(self) -> None:
        """Batch-norms into convolutions."""
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
            weight, bias = norm.get_parameter("weight"), norm.get_parameter("bias")
            conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, None, mean, variance, _EPSILON, weight, bias)
            conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
        self.bn1, self.bn2 = nn.Identity(), nn.Identity()


class _Spectrogram(nn.Module):
    """Power spectrum as a convolution with the checkpoint's Fourier table."""

    def __init__(self) -> None:
        super().__init__()
        self.stft = _FourierTable()

    def forward(self, padded: Tensor) -> Tensor:
        """[clip, samples] -> [clip, frame, 513]."""
        real = F.conv1d(padded[:, None], self.stft.conv_real.weight, stride=HOP)
        imaginary = F.conv1d(padded[:, None], self.stft.conv_imag.weight, stride=HOP)
        return (real.square() + imaginary.square()).transpose(1, 2)


class _FourierTable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_real = nn.Conv1d(1, FFT // 2 + 1, FFT, HOP, bias=False)
        self.conv_imag = nn.Conv1d(1, FFT // 2 + 1, FFT, HOP, bias=False)
        angle = 2 * torch.pi * torch.outer(torch.arange(FFT // 2 + 1), torch.arange(FFT)).remainder(FFT).double() / FFT
        window = torch.hann_window(FFT, dtype=torch.float64)
        self.conv_real.weight = nn.Parameter((angle.cos() * window).float()[:, None])
        self.conv_imag.weight = nn.Parameter((-angle.sin() * window).float()[:, None])


class _LogMel(nn.Module):
    """[clip, frame, 513] -> [clip, frame, 64] in decibels."""

    def __init__(self) -> None:
        super().__init__()
        bank = librosa.filters.mel(sr=RATE_HZ, n_fft=FFT, n_mels=MELS, fmin=50, fmax=14_000)
        self.melW = nn.Parameter(torch.from_numpy(bank).T.contiguous())

    def forward(self, power: Tensor) -> Tensor:
        """Power spectrum to log-mel."""
        return 10.0 * torch.log10((power @ self.melW).clamp_(min=_FLOOR))


def _power_by_fft(padded: Tensor) -> Tensor:
    window = torch.hann_window(FFT, device=padded.device)
    spectrum = torch.stft(padded, FFT, HOP, window=window, center=False, return_complex=True)
    return torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2)


def _cut(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Zero the time steps at and beyond each clip's length."""
    if lengths is None:
        return x
    keep = torch.arange(x.shape[2], device=x.device) < lengths[:, None]
    return x * keep[:, None, :, None].to(x.dtype)
