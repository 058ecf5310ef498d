"""Several teachers at once: one loss for each, or one geometry of all of them together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.audio.extractor import Frames
from pipeline.distillation.losses.align import Alignment, align


def joined(teachers: Sequence[Frames], how: Alignment) -> Frames:
    """All teachers as one: standardised, brought onto one time axis, channels side by side.

    A frame of a clip is valid where every teacher has it.
    """
    if len(teachers) == 1:
        return teachers[0]
    whole = standardised(teachers[0])
    for other in teachers[1:]:
        a, b, n_frames = align(whole, standardised(other), how)
        whole = Frames(torch.cat([a, b], dim=2), n_frames)
    return whole


def standardised(frames: Frames) -> Frames:
    """Around the batch's mean, and with a mean squared length of 1, so that no teacher dominates.

    One factor for all channels: what lies close within a teacher stays close.
    """
    valid = _valid(frames)
    x = torch.where(valid, frames.features, 0.0)
    count = frames.n_frames.sum().clamp(min=1)
    x = torch.where(valid, x - x.sum((0, 1)) / count, 0.0)
    scale = (x.square().sum() / count).sqrt()
    return Frames(x / torch.where(scale > 0, scale, 1.0), frames.n_frames)


def _valid(frames: Frames) -> Tensor:
    index = torch.arange(frames.features.shape[1], device=frames.features.device)
    return (index[None, :] < frames.n_frames[:, None])[:, :, None]
