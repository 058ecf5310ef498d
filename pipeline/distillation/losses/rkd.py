"""Relational knowledge distillation: the same distances between two clips, the same angles among three.

Source: Park, Kim, Lu and Cho, CVPR 2019, eq. 5 to 8; the angle counts twice, as there.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.distillation.losses.relations import Geometry, geometry, mean_over_frames, pair_mask, squared_distances

ANGLE_WEIGHT = 2.0
_DISTANCE_EPS = 1e-12
_CLOSE = 1e-6


def relational(student: Tensor, teacher: Tensor, n_frames: Tensor) -> Tensor:
    """:func:`relational_distance` plus twice :func:`relational_angle`, on one set of Gram matrices."""
    pairs = pair_mask(student, teacher, n_frames)
    ours, theirs = (geometry(features, pairs) for features in (student, teacher))
    return _distance(ours, theirs, pairs) + ANGLE_WEIGHT * _angle(ours, theirs, pairs)


def relational_distance(student: Tensor, teacher: Tensor, n_frames: Tensor) -> Tensor:
    """Huber difference of distances, each divided by the mean distance of its frame.

    The mean is over ordered pairs of two valid clips, then over frames with at least two.
    Invariant to shift, rotation and scale.

    Shape:
        student: [batch, frames, student channels].
        teacher: [batch, frames, teacher channels]; either may be coarser, see
            :func:`pipeline.distillation.losses.align.pair`.
        n_frames: [batch], frames valid in both.
    """
    pairs = pair_mask(student, teacher, n_frames)
    return _distance(geometry(student, pairs), geometry(teacher, pairs), pairs)


def relational_angle(student: Tensor, teacher: Tensor, n_frames: Tensor) -> Tensor:
    """Huber difference of the cosines of the angles at ``j`` between clips ``i`` and ``k``.

    The mean is over ordered triplets of three valid clips, then over frames with at least three.
    Time and memory grow with frames x batch cubed.

    Shape: as :func:`relational_distance`.
    """
    pairs = pair_mask(student, teacher, n_frames)
    return _angle(geometry(student, pairs), geometry(teacher, pairs), pairs)


def _distance(ours: Geometry, theirs: Geometry, pairs: Tensor) -> Tensor:
    size = pairs.diagonal(dim1=1, dim2=2).sum(1)
    a, b = (_scaled_distances(relation, pairs, size) for relation in (ours, theirs))
    each = F.smooth_l1_loss(a, b, reduction="none").sum((1, 2))
    return mean_over_frames(each / (size * (size - 1)).clamp(min=1), size)


def _scaled_distances(relation: Geometry, pairs: Tensor, size: Tensor) -> Tensor:
    """Distances over their mean, [frames, batch, batch]; 0 on the diagonal and where all clips are alike."""
    squared = squared_distances(relation.gram, pairs)
    squared = torch.where(relation.differs[:, None, None], squared, torch.zeros_like(squared))
    there = squared > 0
    distance = torch.where(there, torch.sqrt(squared + _DISTANCE_EPS), torch.zeros_like(squared))
    mean = distance.sum((1, 2)) / (size * (size - 1)).clamp(min=1)
    return distance / torch.where(mean > 0, mean, 1.0)[:, None, None]


def _angle(ours: Geometry, theirs: Geometry, pairs: Tensor) -> Tensor:
    size = pairs.diagonal(dim1=1, dim2=2).sum(1)
    inverse = _inverse_distances(ours, pairs)
    with torch.no_grad():
        aim = _angle_cosines(theirs.gram, _inverse_distances(theirs, pairs))
    each: Tensor = _AngleDifference.apply(ours.gram, inverse, aim)  # type: ignore[no-untyped-call]
    return mean_over_frames(each / (size * (size - 1) * (size - 2)).clamp(min=1), size, least=3)


def _inverse_distances(relation: Geometry, pairs: Tensor) -> Tensor:
    """[frames, batch, batch]; 0 for pairs that do not count or lie (almost) on one another."""
    squared = squared_distances(relation.gram, pairs)
    close = _CLOSE * squared.detach().mean((1, 2), keepdim=True)
    there = (squared > close) & relation.differs[:, None, None]
    return torch.where(there, squared, torch.ones_like(squared)).rsqrt() * there


def _angle_cosines(gram: Tensor, inverse: Tensor) -> Tensor:
    """Cosines at ``j`` between ``i`` and ``k``: [frames, j, i, k]; 0 unless three clips differ.

    ``<x_i - x_j, x_k - x_j> = g_ik - g_ij - g_jk + g_jj`` needs no differences of clips.
    """
    half = 0.5 * gram.diagonal(dim1=1, dim2=2)[:, :, None] - gram  # g_jj / 2 - g_ji
    cosine = gram[:, None] + half[:, :, :, None]
    cosine += half[:, :, None, :]
    cosine *= inverse[:, :, :, None]
    cosine *= inverse[:, :, None, :]
    cosine.diagonal(dim1=2, dim2=3).zero_()
    return cosine


class _AngleDifference(torch.autograd.Function):
    """Sum of Huber differences of the cosines of each frame, with its gradient written out.

    Autograd would pass some twenty times over [frames, batch, batch, batch] and keep most of it;
    here what the gradient needs is summed to [frames, batch, batch] on the way.
    """

    @staticmethod
    def forward(ctx: Any, gram: Tensor, inverse: Tensor, aim: Tensor) -> Tensor:
        """Shapes as in :func:`_angle_cosines`; gives [frames]."""
        cosine = _angle_cosines(gram, inverse)
        difference = cosine - aim
        slope = difference.clamp(-1, 1)  # the derivative of the Huber loss
        value = difference.sub_(slope, alpha=0.5).mul_(slope).sum((1, 2, 3))
        # Both slots of a cosine give the same, so that their derivatives are one, doubled.
        of_inverse = 2 * cosine.mul_(slope).sum(3) / torch.where(inverse > 0, inverse, 1.0)
        weight = slope.mul_(inverse[:, :, :, None]).mul_(inverse[:, :, None, :])
        of_half = 2 * weight.sum(3)
        of_gram = weight.sum(1) - of_half + torch.diag_embed(0.5 * of_half.sum(2))
        ctx.save_for_backward(of_gram, of_inverse)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """Chain rule."""
        of_gram, of_inverse = ctx.saved_tensors
        return grad[:, None, None] * of_gram, grad[:, None, None] * of_inverse, None
