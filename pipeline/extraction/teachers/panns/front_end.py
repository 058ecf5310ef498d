"""The log-mel front end of PANNs, whose tables are part of every checkpoint.

Source: torchlibrosa's ``Spectrogram`` and ``LogmelFilterBank``, as the PANNs repository uses them:
a power spectrum by convolution with a windowed Fourier table, reflected at both ends of a clip, and
librosa's mel filters.
"""

from __future__ import annotations

import librosa
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.extraction.teachers.panns.variants import FFT, HIGH_HZ, HOP, LOW_HZ, MELS, RATE_HZ

_FLOOR = 1e-10


class Spectrogram(nn.Module):
    """Power spectrum by the checkpoint's own Fourier table."""

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


class LogMel(nn.Module):
    """[clip, frame, 513] -> [clip, frame, 64] in decibels."""

    def __init__(self) -> None:
        super().__init__()
        bank = librosa.filters.mel(sr=RATE_HZ, n_fft=FFT, n_mels=MELS, fmin=LOW_HZ, fmax=HIGH_HZ)
        self.melW = nn.Parameter(torch.from_numpy(bank).T.contiguous())

    def forward(self, power: Tensor) -> Tensor:
        """Power spectrum to log-mel."""
        return 10.0 * torch.log10((power @ self.melW).clamp_(min=_FLOOR))


def power_by_fft(padded: Tensor) -> Tensor:
    """What :class:`Spectrogram` gives, by an FFT: [clip, samples] -> [clip, frame, 513]."""
    window = torch.hann_window(FFT, device=padded.device)
    spectrum = torch.stft(padded, FFT, HOP, window=window, center=False, return_complex=True)
    return torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2)


def reflected(audio: Tensor, n_valid: Tensor) -> Tensor:
    """Mirror 512 samples at the start and at each clip's own end: [clip, samples] -> [clip, samples + 1024]."""
    at = torch.arange(-FFT // 2, audio.shape[1] + FFT // 2, device=audio.device).abs()
    last = n_valid[:, None] - 1
    mirrored = torch.where(at <= last, at, 2 * last - at)
    beyond = mirrored < last - FFT // 2
    beyond &= at > last
    return audio.gather(1, mirrored.clamp_(min=0)).masked_fill_(beyond, 0.0)
