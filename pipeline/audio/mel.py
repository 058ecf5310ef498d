"""Log-mel front ends: filter banks from librosa's mel scales, spectra in torch.

Two kinds of filters:

- ``slaney``: :func:`librosa.filters.mel`, triangles in hertz, each of area one.
- ``kaldi``: the HTK mel scale, triangles straight in *mel*, of height one, none of them reaching
  the Nyquist bin: what the paper's code takes from Kaldi.  The scale itself is librosa's
  (``htk=True``).

Sources: S. Davis and P. Mermelstein 1980 (mel triangles), Kaldi's ``mel-computations``, librosa.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.audio.extractor import Extractor, Frames, Mode, mask_frames
from pipeline.audio.timing import frame_count
from pipeline.cards import ExtractorCard
from pipeline.errors import SettingError

__all__ = ["LogMel", "build", "kaldi_filters", "mel_filters", "slaney_filters"]


_Number = TypeVar("_Number", int, float)


class LogMel(Extractor):
    """Waveforms to scaled log-mel frames, as the card's parameters say.

    Frames are centred on every ``hop``-th sample; the signal is mirrored at both ends of the clip.
    A frame counts where its centre lies within the real samples or right behind the last one.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode) -> None:
        super().__init__()
        self.card, self.outputs, self.mode = card, outputs, mode
        self.n_fft, self.hop, self.n_window = (_number(card, key, int) for key in ("n_fft", "hop", "window"))
        self.preemphasis = _number(card, "preemphasis", float)
        self.log_offset, self.shift, self.scale = (
            _number(card, key, float) for key in ("log_offset", "shift", "scale")
        )
        window = torch.hann_window(self.n_window, periodic=bool(card.parameters["periodic"]))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel_filters(card)), persistent=False)

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        """Log-mel frames of a batch; on a CPU clip by clip, so that a batch fits its cache.

        Shape:
            audio: [batch, samples] and n_valid: [batch], to [batch, frames, bands].
        """
        parts = [audio[i : i + 1] for i in range(len(audio))] if audio.device.type == "cpu" else [audio]
        features = torch.cat([self._log_mel(part) for part in parts])
        counts = [self.count_frames("logmel", int(n)) for n in n_valid.tolist()]
        n_frames = torch.tensor(counts, dtype=torch.int64, device=features.device).clamp(max=features.shape[1])
        return {"logmel": mask_frames(features, n_frames)}

    def count_frames(self, output: str, n_samples: int) -> int:
        """Valid frames of a clip; pre-emphasis costs one sample."""
        self.card.output(output)
        real = n_samples - 1 if self.preemphasis else n_samples
        return frame_count(real, self.n_fft, self.hop, center=True)

    def _log_mel(self, audio: Tensor) -> Tensor:
        """[clips, samples] to [clips, frames, bands]."""
        if self.preemphasis:
            audio = audio[:, 1:] - self.preemphasis * audio[:, :-1]
        spectrum = torch.stft(
            audio,
            self.n_fft,
            self.hop,
            self.n_window,
            self.window,
            center=True,
            pad_mode="reflect",
            return_complex=True,
        )
        parts = torch.view_as_real(spectrum).square()
        power = parts[..., 0] + parts[..., 1]
        mel = torch.matmul(self.filters, power).add_(self.log_offset).log_()
        return mel.add_(self.shift).div_(self.scale).transpose(1, 2)


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> LogMel:
    """The builder on mel cards; mels have no weights, and all modes compute in float32."""
    if weights:
        raise SettingError(f"{card.name} has no weights, but {len(weights)} files were given")
    return LogMel(card, outputs=outputs, mode=mode)


def mel_filters(card: ExtractorCard) -> NDArray[np.float32]:
    """Filters of a card, [bands, n_fft // 2 + 1].

    Raises:
        SettingError: the card names other filters than ``kaldi`` or ``slaney``.
    """
    n_fft, bands = _number(card, "n_fft", int), _number(card, "bands", int)
    low_hz, high_hz = _number(card, "low_hz", float), _number(card, "high_hz", float)
    kind = card.parameters["filters"]
    if kind == "kaldi":
        return kaldi_filters(card.rate_hz, n_fft, bands, low_hz, high_hz)
    if kind == "slaney":
        return slaney_filters(card.rate_hz, n_fft, bands, low_hz, high_hz)
    raise SettingError(f"{card.name} has filters {kind!r}; known are 'kaldi' and 'slaney'")


def slaney_filters(rate_hz: int, n_fft: int, bands: int, low_hz: float, high_hz: float) -> NDArray[np.float32]:
    """Triangles in hertz on Slaney's scale, each of area one: [bands, n_fft // 2 + 1]."""
    filters = librosa.filters.mel(sr=rate_hz, n_fft=n_fft, n_mels=bands, fmin=low_hz, fmax=high_hz)
    return np.asarray(filters, dtype=np.float32)


def kaldi_filters(rate_hz: int, n_fft: int, bands: int, low_hz: float, high_hz: float) -> NDArray[np.float32]:
    """Triangles in HTK mels, of height one: [bands, n_fft // 2 + 1].

    Band ``b`` rises from edge ``b`` to edge ``b + 1`` and falls to edge ``b + 2`` of ``bands + 2``
    edges evenly spaced in mels.  The last bin, at the Nyquist frequency, belongs to none.
    """
    low, high = (float(librosa.hz_to_mel(hz, htk=True)) for hz in (low_hz, high_hz))
    edges = np.linspace(low, high, bands + 2)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = librosa.hz_to_mel(np.arange(n_fft // 2) * rate_hz / n_fft, htk=True)[None, :]
    rise, fall = (bins - left) / (centre - left), (right - bins) / (right - centre)
    triangles = np.maximum(0.0, np.minimum(rise, fall))
    return np.pad(triangles, ((0, 0), (0, 1))).astype(np.float32)


def _number(card: ExtractorCard, key: str, kind: type[_Number]) -> _Number:
    value = card.parameters[key]
    if not isinstance(value, int | float):
        raise SettingError(f"{card.name}: {key} must be a number, not {value!r}")
    return kind(value)
