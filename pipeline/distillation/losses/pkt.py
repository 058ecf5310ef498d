"""Probabilistic knowledge transfer: each clip's neighbours are as likely for the student as for the teacher.

Source: Passalis and Tefas, ECCV 2018, eq. 4 to 8, with the cosine kernel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.distillation.losses.relations import apart, cosines, mean_over_frames, pair_mask

_EPS = 1e-7


def probabilistic_transfer(student: Tensor, teacher: Tensor, n_frames: Tensor) -> Tensor:
    """KL divergence of the neighbours' probabilities, mean over clips, then over frames.

    The probability of a neighbour is ``(cosine + 1) / 2`` over the sum of all other clips' of the
    frame.  Invariant to rotation and to the scale of each clip.  Frames with fewer than two valid
    clips are left out.

    Shape:
        student: [batch, frames, student channels].
        teacher: [batch, frames, teacher channels]; either may be coarser, see
            :func:`pipeline.distillation.losses.align.pair`.
        n_frames: [batch], frames valid in both.

    Returns:
        A scalar of at least 0, up to rounding.
    """
    pairs = pair_mask(student, teacher, n_frames)
    size = pairs.diagonal(dim1=1, dim2=2).sum(1)
    p, q = (_neighbours(features, pairs) for features in (teacher, student))
    divergence = (p * torch.log((p + _EPS) / (q + _EPS)) * apart(pairs)).sum((1, 2))
    return mean_over_frames(divergence / size.clamp(min=1), size)


def _neighbours(features: Tensor, pairs: Tensor) -> Tensor:
    """Rows of probabilities over the other clips, [frames, batch, batch]."""
    kernel = (cosines(features, pairs) + 1) / 2 * apart(pairs)
    return kernel / kernel.sum(2, keepdim=True).clamp(min=_EPS)
