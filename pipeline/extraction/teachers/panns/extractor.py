"""PANNs CNN14 as an extractor: one embedding per clip, and a frame every 0.32 s."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.audio.extractor import Extractor, Frames, Mode, mask_frames
from pipeline.cards import ExtractorCard
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.panns.card import FFT, HOP, POOLED
from pipeline.extraction.teachers.panns.checkpoint import load_checkpoint
from pipeline.extraction.teachers.panns.network import Cnn14

SHORTEST = (POOLED - 1) * HOP
"""Samples that give one frame of the last map."""


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> Panns:
    """CNN14 from an official checkpoint; ``width`` on the card says how wide.

    Raises:
        WeightsError: not one file, or not this network's.
    """
    if len(weights) != 1:
        raise WeightsError(f"{card.name} takes 1 file of weights ({card.weights[0].filename}), not {len(weights)}.")
    network = Cnn14(int(card.parameters["width"] or 0))
    load_checkpoint(network, weights[0], f"PANNs Cnn14 of width {card.parameters['width']}")
    return Panns(card, outputs=outputs, mode=mode, network=network)


class Panns(Extractor):
    """CNN14. Each clip is what it would be alone: reflected at its own end, and padded there."""

    def __init__(self, card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, network: Cnn14) -> None:
        super().__init__()
        self.card, self.outputs, self.mode, self.network = card, outputs, mode, network.eval()
        with torch.no_grad():
            if mode != "exact":
                network.fold()
            if mode == "half":
                for block in network.blocks:
                    block.to(torch.bfloat16)

    def count_frames(self, output: str, n_samples: int) -> int:
        """One embedding per clip, or a frame per 32 mel frames; at least one."""
        if n_samples <= 0:
            return 0
        return 1 if output == "clip" else (1 + max(n_samples, SHORTEST) // HOP) // POOLED

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        """See :class:`~pipeline.audio.extractor.Extractor`."""
        audio = F.pad(audio, (0, max(0, SHORTEST - audio.shape[1])))
        real = n_valid.clamp(min=SHORTEST)
        lengths = 1 + real // HOP
        alike = bool((real == audio.shape[1]).all())
        with torch.backends.cudnn.flags(allow_tf32=False):
            padded = _reflected(audio, real)
            frames = self.network.frames(padded, None if alike else lengths, by_fft=self.mode != "exact")
        n_frames = torch.where(n_valid > 0, lengths // POOLED, 0)
        made = {}
        if "clip" in self.outputs:
            embedding = self.network.embedding(frames, lengths // POOLED)
            made["clip"] = mask_frames(embedding[:, None], (n_valid > 0).to(torch.int64))
        if "frames" in self.outputs:
            made["frames"] = mask_frames(frames, n_frames)
        return {name: made[name] for name in self.outputs}


def _reflected(audio: Tensor, n_valid: Tensor) -> Tensor:
    """Mirror 512 samples at the start and at each clip's own end: [clip, samples] -> [clip, samples + 1024]."""
    at = torch.arange(-FFT // 2, audio.shape[1] + FFT // 2, device=audio.device).abs()
    last = n_valid[:, None] - 1
    mirrored = torch.where(at <= last, at, 2 * last - at)
    beyond = mirrored < last - FFT // 2
    beyond &= at > last
    return audio.gather(1, mirrored.clamp_(min=0)).masked_fill_(beyond, 0.0)
