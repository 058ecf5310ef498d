"""Cosine with a projection head: a learned linear map carries the student's features to the teacher's.

Source: the projectors of FitNets, Romero et al., ICLR 2015, with the cosine instead of the square.
The maps are trained with the student and kept in its checkpoint, never among its weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_NORM_FLOOR = 1e-6


class Projections(nn.Module):
    """One linear map from each student stage to each teacher.

    Args:
        stages: channels of each stage that takes part, by its position.
        teachers: channels of each teacher.
    """

    def __init__(self, stages: dict[int, int], teachers: Sequence[int]) -> None:
        super().__init__()
        self.maps = nn.ModuleDict(
            {
                f"{stage}-{teacher}": nn.Linear(inputs, outputs)
                for stage, inputs in stages.items()
                for teacher, outputs in enumerate(teachers)
            }
        )

    def forward(self, stage: int, teacher: int, features: Tensor) -> Tensor:
        """Map features [batch, frames, student channels] to [batch, frames, teacher channels]."""
        mapped: Tensor = self.maps[f"{stage}-{teacher}"](features)
        return mapped


def cosine_distance(student: Tensor, teacher: Tensor, n_frames: Tensor) -> Tensor:
    """``1 - cosine`` of student and teacher in the same space, mean over valid frames of all clips.

    A vanishing vector counts 1 and has no gradient.

    Shape:
        student, teacher: [batch, frames, channels].
        n_frames: [batch], frames valid in both.

    Returns:
        A scalar in [0, 2].
    """
    valid = torch.arange(student.shape[1], device=n_frames.device)[None, :] < n_frames[:, None]
    product = torch.where(valid, (student * teacher).sum(2), 0.0)
    norms = [torch.linalg.vector_norm(x, dim=2) for x in (student, teacher)]
    alive = valid & (norms[0] > _NORM_FLOOR) & (norms[1] > _NORM_FLOOR)
    cosine = torch.where(alive, product, 0.0) / torch.where(alive, norms[0] * norms[1], 1.0)
    return ((1 - cosine) * valid).sum() / valid.sum().clamp(min=1)
