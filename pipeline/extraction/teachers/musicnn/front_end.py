"""MusiCNN's log-mel spectrogram."""

from __future__ import annotations

import librosa
import torch
from torch import Tensor, nn

from pipeline.extraction.teachers.musicnn.card import FFT, HOP, MELS, RATE_HZ


class LogMel(nn.Module):
    """``log10(10000 m + 1)`` of the power mel spectrogram, frames centred and padded with zeros.

    Args:
        half_cast: round the mel to float16 first, as the original does.

    Shape:
        [batch, samples] -> [batch, 1 + samples // 256, 96].
    """

    window: Tensor
    bank: Tensor

    def __init__(self, *, half_cast: bool) -> None:
        super().__init__()
        self.half_cast = half_cast
        bank = librosa.filters.mel(sr=RATE_HZ, n_fft=FFT, n_mels=MELS)
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)
        self.register_buffer("bank", torch.from_numpy(bank).T.contiguous(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Waveform to log-mel frames."""
        spectrum = torch.stft(
            audio, FFT, HOP, window=self.window, center=True, pad_mode="constant", return_complex=True
        )
        power = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2)
        mel = power @ self.bank
        if self.half_cast:
            mel = mel.half().float()
        return torch.log10(mel.mul_(10_000.0).add_(1.0))
