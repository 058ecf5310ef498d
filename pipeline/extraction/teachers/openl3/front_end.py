"""One-second windows to the spectrogram in decibels that OpenL3 was trained on.

Source: ``openl3/models.py`` of openl3 0.4.2 and ``time_frequency.py`` of kapre 0.3.6.  Decibels are
ten times the logarithm of the *magnitude*, so the floor of -80 lies at a hundred-millionth of the
window's largest value, and in a pure tone most bins hold nothing but the rounding errors of a float32
transform.
"""

from __future__ import annotations

import math

import librosa
import numpy as np
import scipy.fft
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.extraction.teachers.openl3.card import FFT_HOP, RATE_HZ, WINDOW, Representation
from pipeline.extraction.teachers.tf_window import hann

_LEAST = 1e-10
_FLOOR_DB = -80.0


class FrontEnd(nn.Module):
    """Magnitude spectrogram, mel bands where there are any, decibels below the window's largest.

    Args:
        exact: a float32 transform that rounds as the original's does, on the CPU whatever the device;
            otherwise the transform is in float64, where no bin is rounding error above the floor, so
            that every device and library gives the same.
    """

    window: Tensor
    bank: Tensor

    def __init__(self, representation: Representation, *, exact: bool) -> None:
        super().__init__()
        self.representation, self.exact = representation, exact
        fft = representation.fft
        window = torch.from_numpy(hann(fft)) if exact else torch.hann_window(fft, dtype=torch.float64)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("bank", _mel_bank(representation), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """[window, 48,000] -> [window, frequency, time]."""
        fft, mels, n_frames, _ = self.representation
        missing = (n_frames - 1) * FFT_HOP + fft - WINDOW
        frames = F.pad(windows, (0, max(0, missing))).unfold(1, fft, FFT_HOP)
        magnitude = self._exact(frames) if self.exact else self._transformed(frames)
        if mels:
            magnitude = magnitude @ self.bank
        decibels = magnitude.clamp_(min=_LEAST).log_().mul_(10 / math.log(10))
        decibels -= decibels.amax((1, 2), keepdim=True)
        return decibels.clamp_(min=_FLOOR_DB).transpose(1, 2)

    def _transformed(self, frames: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.rfft(frames * self.window)
        power = spectrum.real.square() + spectrum.imag.square()
        return power.float().sqrt_()

    def _exact(self, frames: Tensor) -> Tensor:
        tapered = (frames * self.window).cpu().numpy()
        return torch.from_numpy(np.abs(scipy.fft.rfft(tapered))).to(frames.device)


def _mel_bank(representation: Representation) -> Tensor:
    """[fft / 2 + 1, mels]; empty for linear frequency."""
    if not representation.mels:
        return torch.empty(0)
    bank = librosa.filters.mel(sr=RATE_HZ, n_fft=representation.fft, n_mels=representation.mels)
    return torch.from_numpy(bank).T.contiguous()
