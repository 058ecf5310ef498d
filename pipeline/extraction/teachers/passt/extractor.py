"""PaSST as an extractor: embeddings of windows, and one of a whole clip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.audio.extractor import Extractor, Frames, Mode, mask_frames
from pipeline.cards import ExtractorCard
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.passt.card import CLASSES, LONGEST, PATCH, ROWS, SCENE_HOP, SHORTEST, STFT_HOP, STRIDE
from pipeline.extraction.teachers.passt.checkpoint import load_checkpoint
from pipeline.extraction.teachers.passt.front_end import LogMel
from pipeline.extraction.teachers.passt.network import PaSST
from pipeline.extraction.teachers.passt.windows import Windows

_TOKENS_AT_ONCE = 1_024
"""Tokens in one pass on a CPU: nine windows of 0.96 s; more gain nothing."""
_TOKENS_AT_ONCE_GPU = 32_768


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> Passt:
    """PaSST from an official checkpoint; ``width``, ``depth`` and ``heads`` on the card say how large.

    Raises:
        WeightsError: not one file, or not this network's.
    """
    if len(weights) != 1:
        raise WeightsError(f"{card.name} takes 1 file of weights ({card.weights[0].filename}), not {len(weights)}.")
    width, depth, heads = (int(card.parameters[key] or 0) for key in ("width", "depth", "heads"))
    network = PaSST(width, depth, heads)
    load_checkpoint(network, weights[0], f"PaSST of {depth} blocks of width {width} for 10 s")
    return Passt(card, outputs=outputs, mode=mode, network=network)


class Passt(Extractor):
    """PaSST. All windows of a batch go through the network together, a bounded number at a time."""

    def __init__(self, card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, network: PaSST) -> None:
        super().__init__()
        self.card, self.outputs, self.mode = card, outputs, mode
        self.windows = Windows(*(int(card.parameters[key] or 0) for key in ("window", "hop")))
        self.front_end, self.network = LogMel(card), network.eval()
        if mode == "half":
            for block in network.blocks:
                block.get_submodule("attn").to(torch.bfloat16)
                block.get_submodule("mlp").to(torch.bfloat16)

    def count_frames(self, output: str, n_samples: int) -> int:
        """A window at the first sample and every ``hop`` behind it within the clip; one scene."""
        if n_samples <= 0:
            return 0
        return 1 if output.startswith("scene") else self.windows.count(n_samples)

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        """See :class:`~pipeline.audio.extractor.Extractor`."""
        made: dict[str, Frames] = {}
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            if {"embedding", "all"} & set(self.outputs):
                n_frames = torch.where(n_valid > 0, self.windows.count(n_valid), 0)
                features = self._embed_windows(audio, n_valid, n_frames, self.windows)
                made |= _both("embedding", "all", features, n_frames)
            if {"scene", "scene_all"} & set(self.outputs):
                n_scenes = (n_valid > 0).to(torch.int64)
                made |= _both("scene", "scene_all", self._embed_scenes(audio, n_valid), n_scenes)
        return {name: made[name] for name in self.outputs}

    def _embed_windows(self, audio: Tensor, n_valid: Tensor, n_frames: Tensor, windows: Windows) -> Tensor:
        """Windows of every clip, none beyond its end: [clip, samples] -> [clip, frame, 527 + width]."""
        clips, frames = windows.pairs(n_frames)
        features = audio.new_zeros(len(audio), int(n_frames.max()), CLASSES + self.network.width)
        for part in self._chunks(len(clips), windows.length):
            samples = windows.cut(audio, n_valid, clips[part], frames[part])
            features[clips[part], frames[part]] = self._embed(samples)
        return features

    def _embed_scenes(self, audio: Tensor, n_valid: Tensor) -> Tensor:
        """Each clip whole, with those of the same length; long ones by windows: -> [clip, 1, 527 + width]."""
        features = audio.new_zeros(len(audio), 1, CLASSES + self.network.width)
        audio = F.pad(audio, (0, max(0, SHORTEST - audio.shape[1])))
        lengths = torch.where(n_valid > 0, n_valid.clamp(SHORTEST, LONGEST + 1), 0)
        for length in set(lengths.tolist()) - {0}:
            (alike,) = (lengths == length).nonzero(as_tuple=True)
            if length > LONGEST:
                features[alike] = self._embed_long(audio[alike], n_valid[alike])
                continue
            for part in self._chunks(len(alike), length):
                features[alike[part], 0] = self._embed(audio[alike[part], :length])
        return features

    def _embed_long(self, audio: Tensor, n_valid: Tensor) -> Tensor:
        """The mean over windows of the longest length: [clip, samples] -> [clip, 1, 527 + width]."""
        windows = Windows(LONGEST, SCENE_HOP)
        n_frames = windows.count(n_valid)
        features = self._embed_windows(audio, n_valid, n_frames, windows)
        return features.sum(1, keepdim=True) / n_frames[:, None, None]

    def _embed(self, samples: Tensor) -> Tensor:
        """Logits, then embeddings: [window, samples] -> [window, 527 + width]."""
        features = self.network.features(self.front_end(samples), fast=self.mode != "exact")
        return torch.cat([self.network.logits(features), features], 1)

    def _chunks(self, n: int, length: int) -> Iterator[slice]:
        """Slices of ``n`` inputs of so many samples, small enough for one pass."""
        columns = ((length - 1) // STFT_HOP + 1 - PATCH) // STRIDE + 1
        on_cpu = self.front_end.window.device.type == "cpu"
        size = max(1, (_TOKENS_AT_ONCE if on_cpu else _TOKENS_AT_ONCE_GPU) // (2 + ROWS * columns))
        return (slice(start, start + size) for start in range(0, n, size))


def _both(embedding: str, both: str, features: Tensor, n_frames: Tensor) -> dict[str, Frames]:
    """The two outputs that one run gives."""
    frames = mask_frames(features, n_frames)
    return {both: frames, embedding: Frames(frames.features[..., CLASSES:], n_frames)}
