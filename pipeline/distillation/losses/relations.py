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
        gram: [frames, batch, batch], scalar products; 0 where a clip is not valid.
        differs: [frames], bool: whether the clips differ by more than rounding.
    """

    gram: Tensor
    differs: Tensor


def pair_mask(n_frames: Tensor, frames: int) -> Tensor:
    """Pairs of clips that are both valid in a frame: [batch] to [frames, batch, batch], bool."""
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
        features: [batch, frames, channels].
        pairs: [frames, batch, batch], bool.
    """
    x = features.transpose(0, 1)
    valid = pairs.diagonal(dim1=1, dim2=2)[:, :, None]
    count = valid.sum(1, keepdim=True)
    x = torch.where(valid, x, torch.zeros_like(x))
    mean = x.detach().sum(1, keepdim=True) / count.clamp(min=1)
    x = torch.where(valid, x - mean, x)
    gram = torch.bmm(x, x.transpose(1, 2))
    with torch.no_grad():
        spread = gram.diagonal(dim1=1, dim2=2).sum(1)
        differs = spread > _SPREAD_FLOOR * (count[:, 0, 0] * mean.square().sum((1, 2))) + _NORM_FLOOR**2
    return Geometry(gram, differs)


def squared_distances(gram: Tensor, pairs: Tensor) -> Tensor:
    """Squared Euclidean distances within each frame, [frames, batch, batch].

    The diagonal and pairs that do not count are 0 without a gradient; a squared distance that
    rounding made negative counts as 0.
    """
    norm = gram.diagonal(dim1=1, dim2=2)
    squared = norm[:, :, None] + norm[:, None, :] - 2 * gram
    return torch.where(apart(pairs), squared, torch.zeros_like(squared)).clamp(min=0)


def cosines(features: Tensor) -> Tensor:
    """Cosines within each frame: [batch, frames, channels] to [frames, batch, batch].

    A vanishing row is 0 and has no gradient.
    """
    x = features.transpose(0, 1)
    norm = torch.linalg.vector_norm(x, dim=2, keepdim=True)
    alive = norm > _NORM_FLOOR
    unit = torch.where(alive, x / torch.where(alive, norm, torch.ones_like(norm)), torch.zeros_like(x))
    return torch.bmm(unit, unit.transpose(1, 2))
