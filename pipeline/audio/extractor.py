"""The contract of everything that turns waveforms into frame features.

A teacher is an extractor with pretrained weights; a student's log-mel front end is one too, so
that mels and embeddings share one engine, one store format and one reader.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.cards import ExtractorCard
from pipeline.registry import builder

Mode = Literal["exact", "fast", "half"]


class Frames(NamedTuple):
    """Features of a batch of clips.

    Shape:
        features: [batch, frames, channels], float32.  Rows at and beyond ``n_frames`` are zero.
        n_frames: [batch], int64, valid frames of each clip.
    """

    features: Tensor
    n_frames: Tensor


class Extractor(nn.Module, ABC):
    """Waveforms to named sequences of frame features.

    Does no I/O, no resampling, no downloading.  It is built in eval mode, keeps no gradients, and
    gives each clip the same features whatever else is in the batch.

    Attributes:
        card: what this is; ``card.rate_hz`` is the rate of the audio it takes.
        outputs: the outputs asked for, a subset of those on the card.  Layers that only serve
            other outputs need not run.
        mode: ``exact`` (float32 as the original), ``fast`` (float32, folded) or ``half``.
    """

    card: ExtractorCard
    outputs: tuple[str, ...]
    mode: Mode

    @abstractmethod
    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        """Features of each output in ``self.outputs``.

        Shape:
            audio: [batch, samples], float32 in [-1, 1], zero beyond ``n_valid``.
            n_valid: [batch], int64, samples that are real.
        """

    @abstractmethod
    def count_frames(self, output: str, n_samples: int) -> int:
        """How many valid frames a clip of ``n_samples`` real samples has. Pure arithmetic."""

    @torch.inference_mode()
    def forward(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        """:meth:`extract` without gradients."""
        return self.extract(audio, n_valid)


def mask_frames(features: Tensor, n_frames: Tensor) -> Frames:
    """Zero the rows at and beyond ``n_frames``: [batch, frames, channels] and [batch]."""
    index = torch.arange(features.shape[1], device=features.device)
    keep = index[None, :] < n_frames[:, None]
    return Frames(features * keep[:, :, None], n_frames)


def build_extractor(
    card: ExtractorCard,
    *,
    outputs: tuple[str, ...] = (),
    mode: Mode = "fast",
    weights: tuple[Path, ...] = (),
    device: str = "cpu",
) -> Extractor:
    """Build an extractor from its card, ready on ``device`` in eval mode.

    The builder a card names has the signature
    ``(card, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> Extractor``.

    Args:
        outputs: which outputs to compute; the card's default ones when empty.
        weights: verified local files in the order of ``card.weights``.
    """
    made = builder(card)(card, outputs=outputs or card.default_outputs, mode=mode, weights=weights)
    if not isinstance(made, Extractor):
        raise TypeError(f"{card.builder} must return an Extractor, not {type(made).__name__}")
    return made.eval().requires_grad_(False).to(device)
