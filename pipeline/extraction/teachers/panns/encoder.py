"""Waveforms to the outputs of a PANN by this project's own network."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from pipeline.audio.extractor import Frames, Mode
from pipeline.extraction.teachers.panns.front_end import reflected
from pipeline.extraction.teachers.panns.network import Network
from pipeline.extraction.teachers.panns.variants import HOP


class Encoder(nn.Module, ABC):
    """A network of the collection, whoever wrote it."""

    @abstractmethod
    def encode(self, audio: Tensor, n_valid: Tensor, outputs: tuple[str, ...]) -> dict[str, Frames]:
        """Outputs of clips that are long enough for one frame; rows beyond ``n_frames`` mean nothing.

        Shape:
            audio: [clip, samples].
            n_valid: [clip].
        """


class OwnEncoder(Encoder):
    """Each clip is what it would be alone: reflected at its own end, and padded there.

    Args:
        pooled: mel frames behind one frame of the last map.
    """

    def __init__(self, network: Network, *, mode: Mode, pooled: int) -> None:
        super().__init__()
        self.network, self.pooled, self.by_fft = network.eval(), pooled, mode != "exact"
        with torch.no_grad():
            if mode != "exact":
                network.fold()
            if mode == "half":
                for block in network.blocks:
                    block.to(torch.bfloat16)

    def encode(self, audio: Tensor, n_valid: Tensor, outputs: tuple[str, ...]) -> dict[str, Frames]:
        """See :class:`Encoder`."""
        lengths = 1 + n_valid // HOP
        alike = bool((n_valid == audio.shape[1]).all())
        # `flags` would otherwise switch cuDNN off: that is its default.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            padded = reflected(audio, n_valid)
            frames = self.network.frames(padded, None if alike else lengths, by_fft=self.by_fft)
        n_frames = lengths // self.pooled
        made = self.network.read(frames, n_frames, outputs)
        return {name: Frames(features, _count(features, n_frames)) for name, features in made.items()}


def _count(features: Tensor, n_frames: Tensor) -> Tensor:
    return n_frames.clamp(max=features.shape[1])
