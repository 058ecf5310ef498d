"""Cosine-distance difference: do two clips stand at the same angle for student and teacher?

Source: Ding and Lerch, ISMIR 2023, section 3.1.
"""

from __future__ import annotations

from torch import Tensor

from pipeline.distillation.losses.relations import cosines, mean_over_frames, pair_mask


def cosine_difference(student: Tensor, teacher: Tensor, n_frames: Tensor) -> Tensor:
    """Mean of ``|S S' - T T'|`` on L2-normalised features, per frame over the batch.

    Frame ``f`` compares the clips that have a valid frame ``f``; frames with fewer than two such
    clips say nothing and are left out of the mean.

    Shape:
        student: [batch, frames, student channels].
        teacher: [batch, frames, teacher channels]; either may be coarser, see
            :func:`pipeline.distillation.losses.align.pair`.
        n_frames: [batch], frames valid in both.

    Returns:
        A scalar in [0, 2].
    """
    pairs = pair_mask(student, teacher, n_frames)
    size = pairs.diagonal(dim1=1, dim2=2).sum(1)
    difference = (cosines(student, pairs) - cosines(teacher, pairs)).abs()
    return mean_over_frames((difference * pairs).sum((1, 2)) / (size * size).clamp(min=1), size)
