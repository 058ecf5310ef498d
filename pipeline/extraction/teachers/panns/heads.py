"""What is read off the last map of a PANN: embeddings, class probabilities.

A head takes ``fc1``, ``fc_audioset``, the frames [clip, time, channels] and how many of each clip
are real, and gives its outputs by name, each to be called when it is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Head = Callable[[nn.Module, nn.Module, Tensor, Tensor], Mapping[str, Callable[[], Tensor]]]


def over_clip(
    fc1: nn.Module, fc_audioset: nn.Module, frames: Tensor, n_frames: Tensor, *, act: Callable[[Tensor], Tensor]
) -> Mapping[str, Callable[[], Tensor]]:
    """Maximum plus mean over each clip's own frames, then fc1: ``clip``; its classes: ``tags``."""

    @cache
    def embedding() -> Tensor:
        beyond = _beyond(frames, n_frames)
        largest = frames.masked_fill(beyond, -torch.inf).amax(1)
        mean = frames.masked_fill(beyond, 0.0).sum(1) / n_frames[:, None]
        made: Tensor = fc1(largest + mean).relu()
        return made[:, None]

    return {"clip": embedding, "frames": lambda: frames, "tags": lambda: act(fc_audioset(embedding()))}


def over_segments(
    fc1: nn.Module, fc_audioset: nn.Module, frames: Tensor, n_frames: Tensor
) -> Mapping[str, Callable[[], Tensor]]:
    """Classes of each frame: ``segments``; the largest of each over a clip: ``tags``.

    Three frames at a time are pooled, maximum plus mean, then fc1.  A clip's end is padded as its
    start is; frames are not negative, so that zeros beyond it change no maximum.
    """

    @cache
    def embeddings() -> Tensor:
        within = frames.masked_fill(_beyond(frames, n_frames), 0.0).transpose(1, 2)
        pooled = F.max_pool1d(within, 3, stride=1, padding=1) + F.avg_pool1d(within, 3, stride=1, padding=1)
        made: Tensor = fc1(pooled.transpose(1, 2)).relu()
        return made

    @cache
    def segments() -> Tensor:
        return torch.sigmoid(fc_audioset(embeddings()))

    def mean() -> Tensor:
        total = embeddings().masked_fill(_beyond(frames, n_frames), 0.0).sum(1)
        return (total / n_frames[:, None])[:, None]

    def largest() -> Tensor:
        return segments().masked_fill(_beyond(frames, n_frames), 0.0).amax(1)[:, None]

    return {"clip": mean, "frames": lambda: frames, "segments": segments, "tags": largest}


def _beyond(frames: Tensor, n_frames: Tensor) -> Tensor:
    return (torch.arange(frames.shape[1], device=frames.device) >= n_frames[:, None])[:, :, None]
