"""Attention transfer: the student is loud where the teacher is, over time.

Source: Zagoruyko and Komodakis, ICLR 2017, eq. 2 (squares summed over channels, p = 2); their
picture is the plane of an image, ours the time axis of a clip.
"""

from __future__ import annotations

import torch
from torch import Tensor

_NORM_FLOOR = 1e-12


def attention_transfer(student: Tensor, teacher: Tensor, n_frames: Tensor) -> Tensor:
    """Squared distance of the attention over frames, each of length 1, mean over clips.

    Clips with fewer than two valid frames have no shape in time and are left out.  Invariant to
    rotation of the channels and to the scale of each clip.

    Shape:
        student: [batch, frames, student channels].
        teacher: [batch, frames, teacher channels].
        n_frames: [batch], frames valid in both.

    Returns:
        A scalar in [0, 2].
    """
    valid = torch.arange(student.shape[1], device=n_frames.device)[None, :] < n_frames[:, None]
    a, b = (_attention(features, valid) for features in (student, teacher))
    counts = n_frames >= 2
    return ((a - b).square().sum(1) * counts).sum() / counts.sum().clamp(min=1)


def _attention(features: Tensor, valid: Tensor) -> Tensor:
    """Mean square over channels, of length 1 over valid frames: [batch, frames]; 0 for a silent clip."""
    energy = torch.where(valid[:, :, None], features, torch.zeros_like(features)).square().mean(2)
    length = energy.square().sum(1, keepdim=True)
    alive = length > _NORM_FLOOR**2
    return torch.where(alive, energy, torch.zeros_like(energy)) / torch.where(alive, length, 1.0).sqrt()
