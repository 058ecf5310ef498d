"""Audio to what a network takes, batched and on the audio's device.

Sources: ``feature_extraction_*.py`` of transformers for wav2vec 2.0, Whisper, AST (Kaldi's filter
banks) and CLAP.  Mel filters come from the library itself.  Dither, random crops and the random
choice of a clip as "longer" in CLAP's fusion are left out, so that results repeat.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import require
from pipeline.extraction.teachers.hf.architecture import Architecture

Inputs = dict[str, Tensor]

_KALDI_FLOOR = 1.192092955078125e-07
_PREEMPHASIS = 0.97
_CLAP_FLOOR = 1e-10


class FrontEnd(nn.Module):
    """From windows to the keyword arguments of a network.

    Args:
        preprocessor: ``preprocessor_config.json``.
    """

    bank: Tensor

    def __init__(self, preprocessor: Mapping[str, Any], numbers: Architecture) -> None:
        super().__init__()
        self.preprocessor, self.numbers = dict(preprocessor), numbers

    def whole(self, audio: Tensor, n_valid: Tensor) -> Tensor:
        """What is done to a clip before it is cut into windows: [clip, samples] -> the same."""
        del n_valid
        return audio

    def forward(self, windows: Tensor, n_valid: Tensor) -> Inputs:
        """[window, samples], zero beyond ``n_valid`` [window]."""
        raise NotImplementedError

    def _setting(self, name: str, default: Any) -> Any:
        return self.preprocessor.get(name, default)

    def _keep_bank(self, **settings: Any) -> None:
        mel_filter_bank = require("transformers.audio_utils", extra="hf").mel_filter_bank
        with warnings.catch_warnings():  # the published AST has filters narrower than a bin
            warnings.filterwarnings("ignore", "At least one mel filter")
            bank = torch.from_numpy(mel_filter_bank(**settings))
        self.register_buffer("bank", bank, persistent=False)


class WaveInput(FrontEnd):
    """The waveform itself, each clip with mean 0 and variance 1 where the model was trained so."""

    def whole(self, audio: Tensor, n_valid: Tensor) -> Tensor:
        """Over the valid samples; population variance."""
        if not self._setting("do_normalize", True):
            return audio
        valid = torch.arange(audio.shape[1], device=audio.device) < n_valid[:, None]
        count = n_valid.clamp(min=1)[:, None]
        centred = (audio - (audio * valid).sum(1, keepdim=True) / count) * valid
        variance = centred.square().sum(1, keepdim=True) / count
        return centred / (variance + 1e-7).sqrt()

    def forward(self, windows: Tensor, n_valid: Tensor) -> Inputs:
        """As it is."""
        del n_valid
        return {"input_values": windows}


class WhisperInput(FrontEnd):
    """Log-mel of the whole window, silence behind the clip included, floored 8 decades below its maximum."""

    def __init__(self, preprocessor: Mapping[str, Any], numbers: Architecture) -> None:
        super().__init__(preprocessor, numbers)
        self.fft, self.hop = int(self._setting("n_fft", 400)), int(self._setting("hop_length", 160))
        self._keep_bank(
            num_frequency_bins=1 + self.fft // 2,
            num_mel_filters=int(self._setting("feature_size", 80)),
            min_frequency=0.0,
            max_frequency=8000.0,
            sampling_rate=numbers.rate_hz,
            norm="slaney",
            mel_scale="slaney",
        )
        self.bank = self.bank.float()

    def forward(self, windows: Tensor, n_valid: Tensor) -> Inputs:
        """[window, samples] -> [window, mel, frame]."""
        del n_valid
        table = torch.hann_window(self.fft, device=windows.device)
        spectrum = torch.stft(windows, self.fft, self.hop, window=table, return_complex=True)[..., :-1]
        mel = self.bank.T @ torch.view_as_real(spectrum).square().sum(-1)
        log = mel.clamp(min=1e-10).log10()
        log = torch.maximum(log, log.amax((1, 2), keepdim=True) - 8.0)
        return {"input_features": (log + 4.0) / 4.0}


class AstInput(FrontEnd):
    """Kaldi's log-mel of the clip; zeros behind it before the scaling, as the original pads."""

    def __init__(self, preprocessor: Mapping[str, Any], numbers: Architecture) -> None:
        super().__init__(preprocessor, numbers)
        self.hop = round(0.010 * numbers.rate_hz)
        self.frame = round(0.025 * numbers.rate_hz)
        self.fft = 1 << (self.frame - 1).bit_length()
        self._keep_bank(
            num_frequency_bins=1 + self.fft // 2,
            num_mel_filters=int(self._setting("num_mel_bins", 128)),
            min_frequency=20,
            max_frequency=numbers.rate_hz // 2,
            sampling_rate=numbers.rate_hz,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )

    def forward(self, windows: Tensor, n_valid: Tensor) -> Inputs:
        """[window, samples] -> [window, frame, mel]."""
        logmel = self._logmel(windows.to(_precise(windows))).float()
        n_frames = 1 + (n_valid.clamp(min=self.frame) - self.frame) // self.hop
        valid = torch.arange(logmel.shape[1], device=windows.device) < n_frames[:, None]
        logmel = logmel * valid[:, :, None]
        if self._setting("do_normalize", True):
            mean, deviation = float(self._setting("mean", -4.2677393)), float(self._setting("std", 4.5689974))
            logmel = (logmel - mean) / (2 * deviation)
        return {"input_values": logmel}

    def _logmel(self, windows: Tensor) -> Tensor:
        frames = windows.unfold(1, self.frame, self.hop)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)  # the first sample stands before itself
        table = torch.hann_window(self.frame, periodic=False, dtype=frames.dtype, device=frames.device)
        spectrum = torch.fft.rfft((frames - _PREEMPHASIS * before) * table, n=self.fft)
        power = torch.view_as_real(spectrum).square().sum(-1)
        return (power @ self.bank.to(power.dtype)).clamp(min=_KALDI_FLOOR).log()


class ClapInput(FrontEnd):
    """Mel in decibels of a window that a short clip fills by being repeated."""

    def __init__(self, preprocessor: Mapping[str, Any], numbers: Architecture) -> None:
        super().__init__(preprocessor, numbers)
        self.fft, self.hop = int(self._setting("fft_window_size", 1024)), int(self._setting("hop_length", 480))
        self.fusion = self._setting("truncation", "fusion") == "fusion"
        self._keep_bank(
            num_frequency_bins=1 + self.fft // 2,
            num_mel_filters=int(self._setting("feature_size", 64)),
            min_frequency=float(self._setting("frequency_min", 0)),
            max_frequency=float(self._setting("frequency_max", 14_000)),
            sampling_rate=numbers.rate_hz,
            norm=None if self.fusion else "slaney",
            mel_scale="htk" if self.fusion else "slaney",
        )

    def forward(self, windows: Tensor, n_valid: Tensor) -> Inputs:
        """[window, samples] -> [window, 1 or 4 copies, frame, mel]; no window is longer than the model's."""
        filled = self._fill(windows, n_valid.clamp(min=1)[:, None])
        filled = filled.to(_precise(filled))
        table = torch.hann_window(self.fft, dtype=filled.dtype, device=filled.device)
        spectrum = torch.stft(filled, self.fft, self.hop, window=table, return_complex=True)
        power = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2)
        mel = (power @ self.bank.to(power.dtype)).clamp(min=_CLAP_FLOOR)
        decibels = (10.0 * mel.log10()).float()[:, None]
        longer = torch.zeros(len(windows), 1, dtype=torch.bool, device=windows.device)
        return {"input_features": decibels.expand(-1, 4 if self.fusion else 1, -1, -1), "is_longer": longer}

    def _fill(self, windows: Tensor, n_valid: Tensor) -> Tensor:
        padding, limit = self._setting("padding", "repeatpad"), windows.shape[1]
        if padding not in ("repeat", "repeatpad"):
            return windows
        at = torch.arange(limit, device=windows.device)
        repeated = windows.gather(1, at % n_valid)
        return repeated if padding == "repeat" else repeated * (at < limit // n_valid * n_valid)


def _precise(audio: Tensor) -> torch.dtype:
    """The originals compute these spectra in float64; where a device has none, float32."""
    return torch.float32 if audio.device.type == "mps" else torch.float64
