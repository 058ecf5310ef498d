"""The log-mel front end that VGGish and YAMNet share but for the offset of the logarithm.

Source: ``mel_features.py`` of Google's AudioSet models: frames of 25 ms every 10 ms that start with
the signal (nothing is centred or reflected), periodic Hann, FFT of 512, magnitude, HTK mel bands
with triangles that are straight in mel, natural logarithm.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

RATE_HZ = 16_000
FFT = 512
WINDOW = 400
HOP = 160
MELS = 64
LOW_HZ, HIGH_HZ = 125.0, 7500.0
PATCH_FRAMES = 96
PATCH_SAMPLES = (PATCH_FRAMES - 1) * HOP + WINDOW


class HtkLogMel(nn.Module):
    """``log(mel + offset)`` of the magnitude spectrum.

    Args:
        offset: what keeps the logarithm finite.
        double: compute in float64 and round at the end.  A loud tone leaves rounding noise in empty
            bands that is not small beside the offset.

    Shape:
        [batch, samples] -> [batch, 1 + (samples - 400) // 160, 64], float32; at least 400 samples.
    """

    window: Tensor
    bank: Tensor

    def __init__(self, offset: float, *, double: bool) -> None:
        super().__init__()
        self.offset = offset
        dtype = torch.float64 if double else torch.float32
        bank = torch.from_numpy(mel_bank()).to(dtype)
        self.register_buffer("window", torch.hann_window(WINDOW, dtype=torch.float64).to(dtype), persistent=False)
        self.register_buffer("bank", bank, persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Waveform to log-mel frames."""
        frames = audio.to(self.window.dtype).unfold(1, WINDOW, HOP) * self.window
        mel: Tensor = torch.fft.rfft(frames, FFT).abs() @ self.bank
        return mel.add_(self.offset).log_().float()


def mel_bank() -> NDArray[np.float64]:
    """Triangles of the HTK mel scale, the lowest bin of the spectrum left out: [257, 64]."""
    bins = _mel(np.linspace(0.0, RATE_HZ / 2, FFT // 2 + 1))[:, None]
    edges = np.linspace(_mel(np.array(LOW_HZ)), _mel(np.array(HIGH_HZ)), MELS + 2)
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    bank = np.maximum(0.0, np.minimum(rising, falling))
    bank[0] = 0.0
    return bank


def _mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    mel: NDArray[np.float64] = 1127.0 * np.log1p(hz / 700.0)
    return mel
