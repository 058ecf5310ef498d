"""Distance correlation between the student's and the teacher's batch geometry.

Source: Ding and Lerch, ISMIR 2023, section 3.2, with the constants of its official code; the
measure is Szekely, Rizzo and Bakirov, Annals of Statistics 2007.

The textbook formula subtracts every clip from every other, a [frames, batch, batch, channels]
tensor.  Here distances come from one Gram matrix per frame, so that nothing larger than the
features and [frames, batch, batch] is ever made.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.distillation.losses.relations import centred, geometry, mean_over_frames, pair_mask, squared_distances

_DISTANCE_EPS = 1e-12
_CORRELATION_EPS = 1e-9


def distance_correlation(student: Tensor, teacher: Tensor, n_frames: Tensor) -> Tensor:
    """``1 - dCov / sqrt(dVar_s * dVar_t + 1e-9)`` per frame over the batch, mean over frames.

    Frame ``f`` compares the clips that have a valid frame ``f``; frames with fewer than two such
    clips say nothing and are left out of the mean.  The batch is part of the definition.

    Shape:
        student: [batch, frames, student channels].
        teacher: [batch, frames, teacher channels]; either may be coarser, see
            :func:`pipeline.distillation.losses.align.pair`.
        n_frames: [batch], frames valid in both.

    Returns:
        A scalar in [0, 1] up to rounding.
    """
    pairs = pair_mask(student, teacher, n_frames)
    size = pairs.diagonal(dim1=1, dim2=2).sum(1)
    a = centred(_distances(student, pairs), pairs)
    b = centred(_distances(teacher, pairs), pairs)
    area = (size * size).clamp(min=1)
    covariance, variance_a, variance_b = ((x * y).sum((1, 2)) / area for x, y in ((a, b), (a, a), (b, b)))
    correlation = covariance / torch.sqrt(variance_a * variance_b + _CORRELATION_EPS)
    return mean_over_frames(1 - correlation, size)


def _distances(features: Tensor, pairs: Tensor) -> Tensor:
    """Euclidean distances within each frame: [batch, frames, channels] to [frames, batch, batch]."""
    return torch.sqrt(squared_distances(geometry(features, pairs).gram, pairs) + _DISTANCE_EPS)
