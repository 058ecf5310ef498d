"""The log-mel spectrogram of PaSST.

Source: ``AugmentMelSTFT`` of hear21passt 0.0.26 (``models/preprocess.py``) as it runs at inference:
pre-emphasis, a centred and mirrored Fourier transform, Kaldi's mel filters from 0 Hz to 1 kHz below
the Nyquist frequency, logarithm, fixed scaling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.audio.mel import kaldi_filters
from pipeline.cards import ExtractorCard
from pipeline.extraction.teachers.passt.card import FFT, MELS, RATE_HZ, STFT_HOP, STFT_WINDOW

_PREEMPHASIS = 0.97
_FLOOR = 1e-5
_SHIFT, _SCALE = 4.5, 5.0


class LogMel(nn.Module):
    """Windows of samples to scaled log-mel frames; float32 in all modes."""

    window: Tensor
    filters: Tensor

    def __init__(self, card: ExtractorCard) -> None:
        super().__init__()
        low_hz, high_hz = (float(card.parameters[key] or 0) for key in ("low_hz", "high_hz"))
        filters = torch.from_numpy(kaldi_filters(RATE_HZ, FFT, MELS, low_hz, high_hz))
        self.register_buffer("window", torch.hann_window(STFT_WINDOW, periodic=False), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """[window, samples] to [window, mel, frame]; pre-emphasis costs one sample."""
        emphasised = samples[:, 1:] - _PREEMPHASIS * samples[:, :-1]
        spectrum = torch.stft(emphasised, FFT, STFT_HOP, STFT_WINDOW, self.window, return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        mel = torch.matmul(self.filters, power).add_(_FLOOR).log_()
        return mel.add_(_SHIFT).div_(_SCALE)
