"""Windows as hear21passt 0.0.26 cuts them (``wrapper.py``), of clips of different lengths at once."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

_Number = TypeVar("_Number", int, Tensor)


class Windows(NamedTuple):
    """``length`` samples centred on every ``hop``-th sample of a clip, which is mirrored at both ends."""

    length: int
    hop: int

    def count(self, n_samples: _Number) -> _Number:
        """Windows of clips of at least one sample; an odd length leaves out a last centre behind the clip."""
        return (n_samples - self.length % 2) // self.hop + 1

    def pairs(self, n_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Clip and frame of every window: [clip] -> [window] and [window]."""
        index = torch.arange(int(n_frames.max()), device=n_frames.device)
        clips, frames = (index < n_frames[:, None]).nonzero(as_tuple=True)
        return clips, frames

    def cut(self, audio: Tensor, n_valid: Tensor, clips: Tensor, frames: Tensor) -> Tensor:
        """The windows of these clips and frames: [clip, samples] and [clip] -> [window, length].

        A clip too short to be mirrored by half a window is one with silence behind it.
        """
        at = frames[:, None] * self.hop - self.length // 2 + torch.arange(self.length, device=audio.device)
        last = n_valid[clips, None].clamp(min=self.length // 2 + 1) - 1
        at = at.abs()
        at = torch.where(at <= last, at, 2 * last - at)
        inside = at < audio.shape[1]
        return audio[clips[:, None], at.clamp_(max=audio.shape[1] - 1)] * inside
