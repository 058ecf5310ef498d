"""The log-mel front end that VGGish and YAMNet share but for the offset of the logarithm.

Source: ``mel_features.py`` of Google's AudioSet models: frames of 25 ms every 10 ms that start with
the signal (nothing is centred or reflected), periodic Hann, FFT of 512, magnitude, HTK mel bands
with triangles that are straight in mel, natural logarithm.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import scipy.fft
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.extraction.teachers.tf_window import hann

_FRAMES_AT_ONCE = 1 << 14

Transform = Literal["float32", "float64", "tensorflow"]

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

    In a loud tone the empty bands hold the rounding errors of the transform, which are not small
    beside the offset: float32 transforms differ from one another by up to 0.006 there.

    Args:
        offset: what keeps the logarithm finite.
        transform: ``float32``; ``float64``, rounded at the end, as the numpy original of VGGish has it;
            or ``tensorflow``, a float32 transform that rounds as TensorFlow's does on a CPU, and runs
            there whatever the device.

    Shape:
        [batch, samples] -> [batch, 1 + (samples - 400) // 160, 64], float32; at least 400 samples.
    """

    window: Tensor
    bank: Tensor

    def __init__(self, offset: float, *, transform: Transform) -> None:
        super().__init__()
        self.offset, self.transform = offset, transform
        dtype = torch.float64 if transform == "float64" else torch.float32
        window = torch.hann_window(WINDOW, dtype=torch.float64).to(dtype)
        window = torch.from_numpy(hann(WINDOW)) if transform == "tensorflow" else window
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("bank", torch.from_numpy(mel_bank()).to(dtype), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Waveform to log-mel frames, some thousand at once, so that long clips take no more memory."""
        n_frames, block = 1 + (audio.shape[1] - WINDOW) // HOP, max(1, _FRAMES_AT_ONCE // max(1, len(audio)))
        firsts = range(0, n_frames, block)
        parts = [self._frames(audio[:, at * HOP : (at + block - 1) * HOP + WINDOW]) for at in firsts]
        return torch.cat(parts, 1)

    def _frames(self, audio: Tensor) -> Tensor:
        frames = audio.to(self.window.dtype).unfold(1, WINDOW, HOP) * self.window
        mel: Tensor = self._magnitude(frames) @ self.bank
        mel.add_(self.offset).log_()
        return mel.float()

    def _magnitude(self, frames: Tensor) -> Tensor:
        if self.transform != "tensorflow":
            magnitude: Tensor = torch.fft.rfft(frames, FFT).abs()
            return magnitude
        return torch.from_numpy(np.abs(scipy.fft.rfft(frames.cpu().numpy(), FFT))).to(frames.device)


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
