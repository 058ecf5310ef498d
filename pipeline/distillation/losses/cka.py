"""Linear CKA: does one linear map, up to rotation and scale, carry the student's clips onto the teacher's?

Source: Kornblith, Norouzi, Lee and Hinton, ICML 2019, eq. 2 and 3, with a linear kernel; the plain
(biased) estimate, which for few clips and many channels is high for any two features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.distillation.losses.relations import geometry, mean_over_frames, pair_mask


def linear_cka(student: Tensor, teacher: Tensor, n_frames: Tensor) -> Tensor:
    """``1 - tr(K L) / sqrt(tr(K K) tr(L L))`` on centred Gram matrices, mean over frames.

    Invariant to shift, rotation and scale.  Frames with fewer than two valid clips are left out; a
    frame in which all clips are alike counts 1 and has no gradient.

    Shape:
        student: [batch, frames, student channels].
        teacher: [batch, frames, teacher channels].
        n_frames: [batch], frames valid in both.

    Returns:
        A scalar in [0, 1].
    """
    pairs = pair_mask(n_frames, student.shape[1])
    size = pairs.diagonal(dim1=1, dim2=2).sum(1)
    ours, theirs = (_unit_gram(features, pairs) for features in (student, teacher))
    return mean_over_frames(1 - (ours * theirs).sum((1, 2)), size)


def _unit_gram(features: Tensor, pairs: Tensor) -> Tensor:
    """Centred Gram matrices of norm 1, [frames, batch, batch]; 0 where all clips are alike."""
    gram, differs = geometry(features, pairs)
    gram = torch.where(differs[:, None, None], gram, torch.zeros_like(gram))
    norm = torch.where(differs, gram.square().sum((1, 2)), torch.ones_like(gram[:, 0, 0])).sqrt()
    return gram / norm[:, None, None]
