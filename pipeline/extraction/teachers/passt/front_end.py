"""The log-mel spectrogram of PaSST.

Source: ``AugmentMelSTFT`` of hear21passt 0.0.26 (``models/preprocess.py``) as it runs at inference:
pre-emphasis, a centred and mirrored Fourier transform, Kaldi's mel filters from 0 Hz to 1 kHz below
the Nyquist frequency, logarithm, fixed scaling.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pipeline.cards import ExtractorCard
from pipeline.extraction.teachers.passt.card import FFT, MELS, RATE_HZ, STFT_HOP, STFT_WINDOW

_PREEMPHASIS = 0.97
_FLOOR = 1e-5
_SHIFT, _SCALE = 4.5, 5.0
_MEL, _MEL_HZ = 1127.0, 700.0


class LogMel(nn.Module):
    """Windows of samples to scaled log-mel frames; float32 in all modes."""

    window: Tensor
    filters: Tensor

    def __init__(self, card: ExtractorCard) -> None:
        super().__init__()
        low_hz, high_hz = (float(card.parameters[key] or 0) for key in ("low_hz", "high_hz"))
        self.register_buffer("window", torch.hann_window(STFT_WINDOW, periodic=False), persistent=False)
        self.register_buffer("filters", _filters(low_hz, high_hz), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """[window, samples] to [window, mel, frame]; pre-emphasis costs one sample."""
        emphasised = samples[:, 1:] - _PREEMPHASIS * samples[:, :-1]
        spectrum = torch.stft(emphasised, FFT, STFT_HOP, STFT_WINDOW, self.window, return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1)
        mel = torch.matmul(self.filters, power).add_(_FLOOR).log_()
        return mel.add_(_SHIFT).div_(_SCALE)


def _filters(low_hz: float, high_hz: float) -> Tensor:
    """Triangles straight in mel, of height one, in float32 as the original's: [mel, 513].

    :func:`pipeline.audio.mel.kaldi_filters` has the same ones in float64.  A filter that a tone only
    touches is a difference of nearly equal mels, and moves the logarithm by 1e-3 when rounded otherwise.
    """
    low, high = (_MEL * math.log1p(hz / _MEL_HZ) for hz in (low_hz, high_hz))
    edges = low + torch.arange(MELS + 2)[:, None] * ((high - low) / (MELS + 1))
    mels = _MEL * torch.log(1 + torch.arange(FFT // 2) * (RATE_HZ / FFT) / _MEL_HZ)
    rise = (mels - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - mels) / (edges[2:] - edges[1:-1])
    return nn.functional.pad(torch.minimum(rise, fall).clamp(min=0), (0, 1))
