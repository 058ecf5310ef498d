"""What losses on relations inside a batch share: which pairs count in which frame."""

from __future__ import annotations

import torch
from torch import Tensor


def pair_mask(n_frames: Tensor, frames: int) -> Tensor:
    """Pairs of clips that are both valid in a frame: [batch] to [frames, batch, batch], bool."""
    valid = torch.arange(frames, device=n_frames.device)[:, None] < n_frames[None, :]
    return valid[:, :, None] & valid[:, None, :]


def mean_over_frames(per_frame: Tensor, size: Tensor) -> Tensor:
    """Mean of [frames] over the frames in which at least two clips are compared; else 0.

    Shape:
        per_frame, size: [frames]; ``size`` counts the clips valid in the frame.
    """
    counts = size >= 2
    return torch.where(counts, per_frame, torch.zeros_like(per_frame)).sum() / counts.sum().clamp(min=1)
