"""Cosine-distance difference: do two clips stand at the same angle for student and teacher?

Source: Ding and Lerch, ISMIR 2023, section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.distillation.losses.relations import mean_over_frames, pair_mask

_NORM_FLOOR = 1e-6


def cosine_difference(student: Tensor, teacher: Tensor, n_frames: Tensor) -> Tensor:
    """Mean of ``|S S' - T T'|`` on L2-normalised features, per frame over the batch.

    Frame ``f`` compares the clips that have a valid frame ``f``; frames with fewer than two such
    clips say nothing and are left out of the mean.

    Shape:
        student: [batch, frames, student channels].
        teacher: [batch, frames, teacher channels].
        n_frames: [batch], frames valid in both.

    Returns:
        A scalar in [0, 2].
    """
    similarity = [_similarity(features) for features in (student, teacher)]  # [frames, batch, batch]
    pairs = pair_mask(n_frames, student.shape[1])
    size = pairs.diagonal(dim1=1, dim2=2).sum(1)
    per_frame = ((similarity[0] - similarity[1]).abs() * pairs).sum((1, 2)) / (size * size).clamp(min=1)
    return mean_over_frames(per_frame, size)


def _similarity(features: Tensor) -> Tensor:
    """Cosines within each frame, [frames, batch, batch]; a vanishing row is 0 and has no gradient."""
    x = features.transpose(0, 1)
    norm = torch.linalg.vector_norm(x, dim=2, keepdim=True)
    alive = norm > _NORM_FLOOR
    unit = torch.where(alive, x / torch.where(alive, norm, torch.ones_like(norm)), torch.zeros_like(x))
    return torch.bmm(unit, unit.transpose(1, 2))
