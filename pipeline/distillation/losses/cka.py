"""Linear CKA: does one linear map, up to rotation and scale, carry the student's clips onto the teacher's?

Source: Kornblith, Norouzi, Lee and Hinton, ICML 2019, eq. 2 and 3, with a linear kernel; the plain
(biased) estimate, which for few clips and many channels is high for any two features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.distillation.losses.relations import centred, geometry, mean_over_frames, pair_mask


def linear_cka(student: Tensor, teacher: Tensor, n_frames: Tensor) -> Tensor:
    """``1 - tr(K L) / sqrt(tr(K K) tr(L L))`` on centred Gram matrices, mean over frames.

    Invariant to shift, rotation and scale.  Frames with fewer than two valid clips are left out; a
    frame in which all clips are alike counts 1 and has no gradient.

    Shape:
        student: [batch, frames, student channels].
        teacher: [batch, frames, teacher channels]; either may be coarser, see
            :func:`pipeline.distillation.losses.align.pair`.
        n_frames: [batch], frames valid in both.

    Returns:
        A scalar in [0, 1].
    """
    pairs = pair_mask(student, teacher, n_frames)
    size = pairs.diagonal(dim1=1, dim2=2).sum(1)
    ours, theirs = (_unit_gram(features, pairs) for features in (student, teacher))
    return mean_over_frames(1 - (ours * theirs).sum((1, 2)), size)


def _unit_gram(features: Tensor, pairs: Tensor) -> Tensor:
    """Centred Gram matrices of norm 1, [frames, batch, batch]; 0 where all clips are alike."""
    gram, differs = geometry(features, pairs)
    gram = torch.where(differs[:, None, None], centred(gram, pairs), 0.0)
    square = gram.square().sum((1, 2))
    return gram / torch.where(square > 0, square, 1.0).sqrt()[:, None, None]
