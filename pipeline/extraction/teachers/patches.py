"""Patches of all clips of a batch, through a network in chunks of bounded size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def run_patches(network: Callable[[Tensor], Tensor], patches: Tensor, n_patches: Tensor, *, chunk: int) -> Tensor:
    """Run a network on the valid patches only.

    Args:
        network: [patch, frames, mels] -> [patch, channels].
        chunk: the most patches at once.

    Shape:
        patches: [clip, patch, frames, mels], may be a view.
        n_patches: [clip], valid patches of each clip.
        returns: [clip, patch, channels], zero beyond ``n_patches``.
    """
    at = torch.arange(patches.shape[1], device=patches.device)
    rows = (at < n_patches[:, None]).flatten().nonzero()[:, 0]
    clip, patch = rows // patches.shape[1], rows % patches.shape[1]
    parts = [
        network(patches[clip[first : first + chunk], patch[first : first + chunk]])
        for first in range(0, len(rows), chunk)
    ]
    if not parts:
        parts = [network(patches[:1, 0])[:0]]
    found = torch.cat(parts)
    made = found.new_zeros(at.numel() * len(patches), found.shape[1])
    made[rows] = found
    return made.reshape(*patches.shape[:2], -1)
