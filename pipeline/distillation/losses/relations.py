"""What losses on relations inside a batch share: which pairs count, Gram matrices, distances, cosines.

Distances and angles come from one Gram matrix per frame, so that nothing larger than the features
and [frames, batch, batch] is made, where textbook formulas subtract every clip from every other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_NORM_FLOOR = 1e-6
_SPREAD_FLOOR = 1e-10


class Geometry(NamedTuple):
    """The clips of each frame around their mean.

    Shape:
        gram: [frames, batch, batch], scalar products; those of clips that are not valid mean nothing.
        differs: [frames], bool: whether the clips differ by more than rounding.
    """

    gram: Tensor
    differs: Tensor


def pair_mask(student: Tensor, teacher: Tensor, n_frames: Tensor) -> Tensor:
    """Pairs of clips that are both valid in a frame: [frames, batch, batch], bool.

    Shape:
        student, teacher: [batch, frames, channels].  One of them may be coarser: its frames then
            stand for several of the other's, see :func:`times_of`.
        n_frames: [batch].
    """
    frames = max(student.shape[1], teacher.shape[1])
    valid = torch.arange(frames, device=n_frames.device)[:, None] < n_frames[None, :]
    return valid[:, :, None] & valid[:, None, :]


def apart(pairs: Tensor) -> Tensor:
    """The same without the diagonal: pairs of two clips."""
    return pairs & ~torch.eye(pairs.shape[1], dtype=torch.bool, device=pairs.device)


def mean_over_frames(per_frame: Tensor, size: Tensor, least: int = 2) -> Tensor:
    """Mean of [frames] over the frames in which at least ``least`` clips are compared; else 0.

    Shape:
        per_frame, size: [frames]; ``size`` counts the clips valid in the frame.
    """
    counts = size >= least
    return torch.where(counts, per_frame, torch.zeros_like(per_frame)).sum() / counts.sum().clamp(min=1)


def geometry(features: Tensor, pairs: Tensor) -> Geometry:
    """Scalar products within each frame, around the mean of the valid clips.

    What is built from them does not notice a common shift, and the difference of large numbers
    loses fewer digits; so the mean carries no gradient.

    Shape:
        features: [batch, coarse frames, channels]; where these are fewer than the frames of
            ``pairs``, each stands for several and is worked out once, see :func:`times_of`.
        pairs: [frames, batch, batch], bool.
    """
    times = times_of(features, pairs)
    valid = pairs[::times].diagonal(dim1=1, dim2=2)
    x = features.transpose(0, 1)
    count = valid.sum(1)
    mean = torch.bmm(valid[:, None].to(x.dtype), x.detach()) / count.clamp(min=1)[:, None, None]
    x = (x - mean).masked_fill_(~valid[:, :, None], 0.0)
    gram = torch.bmm(x, x.transpose(1, 2))
    with torch.no_grad():
        spread = gram.diagonal(dim1=1, dim2=2).sum(1)
        differs = spread > _SPREAD_FLOOR * (count * mean.square().sum((1, 2))) + _NORM_FLOOR**2
    return Geometry(repeated(gram, times, len(pairs)), repeated(differs, times, len(pairs)))


def times_of(features: Tensor, pairs: Tensor) -> int:
    """How many frames of ``pairs`` [frames, ...] each frame of features [batch, coarse frames, ...] stands for."""
    return -(-pairs.shape[0] // features.shape[1])


def repeated(values: Tensor, times: int, length: int) -> Tensor:
    """Each entry of the first axis ``times`` over, cut to ``length``."""
    if times == 1:
        return values
    return values[:, None].expand(-1, times, *values.shape[1:]).flatten(0, 1)[:length]


def centred(values: Tensor, pairs: Tensor) -> Tensor:
    """Subtract the means of rows and columns, add that of all; 0 where the pair does not count.

    Shape:
        values, pairs: [frames, batch, batch]; ``values`` are symmetric.
    """
    n = pairs.diagonal(dim1=1, dim2=2).sum(1).clamp(min=1)[:, None]
    kept = values * pairs
    rows = kept.sum(2) / n
    grand = rows.sum(1, keepdim=True) / n
    return (values - rows[:, :, None] - rows[:, None, :] + grand[:, :, None]) * pairs


def squared_distances(gram: Tensor, pairs: Tensor) -> Tensor:
    """Squared Euclidean distances within each frame, [frames, batch, batch].

    The diagonal and pairs that do not count are 0 without a gradient; a squared distance that
    rounding made negative counts as 0.
    """
    norm = gram.diagonal(dim1=1, dim2=2)
    squared = norm[:, :, None] + norm[:, None, :] - 2 * gram
    return torch.where(apart(pairs), squared, torch.zeros_like(squared)).clamp(min=0)


def cosines(features: Tensor, pairs: Tensor) -> Tensor:
    """Cosines within each frame, [frames, batch, batch]; those of clips that are not valid mean nothing.

    A vanishing row is 0 and has no gradient.

    Shape: as :func:`geometry`.
    """
    x = features.transpose(0, 1)
    norm = torch.linalg.vector_norm(x, dim=2, keepdim=True)
    alive = norm > _NORM_FLOOR
    unit = torch.where(alive, x / torch.where(alive, norm, torch.ones_like(norm)), torch.zeros_like(x))
    return repeated(torch.bmm(unit, unit.transpose(1, 2)), times_of(features, pairs), len(pairs))
