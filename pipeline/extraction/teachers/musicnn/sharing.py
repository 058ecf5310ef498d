"""Which rows of one pass over a clip make up its overlapping patches.

Patch ``p`` covers frames ``93 p`` to ``93 p + 187``.  A [7, k] convolution differs between a patch
and the clip in the three frames at either end of the patch alone, where the patch is padded with
zeros.  So the clip is convolved once, with six rows more for each patch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from pipeline.extraction.teachers.musicnn.card import PATCH_FRAMES, PATCH_HOP_FRAMES

OVERLAP = PATCH_FRAMES - PATCH_HOP_FRAMES
"""Frames that neighbouring patches share: 94."""


@dataclass(frozen=True)
class Rows:
    """Rows of windows to compute, and where the frames of the patches are among them.

    Shape:
        windows: [row, 7], the frames of each row, ``n_frames`` where there is padding.
        patches: [patch, frame], the row of each frame of each patch.
    """

    n_frames: int
    windows: Tensor
    patches: Tensor


def span(n_patches: int) -> int:
    """Frames that so many patches cover."""
    return (n_patches - 1) * PATCH_HOP_FRAMES + PATCH_FRAMES


@lru_cache(maxsize=64)
def rows_of_patches(n_patches: int, taps: int = 7) -> Rows:
    """Rows for patches of one clip: all frames of the clip, then the edges of each patch."""
    n_frames, half = span(n_patches), taps // 2
    starts = torch.arange(n_patches)[:, None] * PATCH_HOP_FRAMES
    patches = starts + torch.arange(PATCH_FRAMES)
    edges = torch.cat([torch.arange(half), torch.arange(PATCH_FRAMES - half, PATCH_FRAMES)])
    patches[:, edges] = n_frames + torch.arange(n_patches * 2 * half).view(n_patches, -1)
    inside = _around(torch.arange(n_frames), half, 0, n_frames, n_frames)
    outside = _around(edges, half, 0, PATCH_FRAMES, -1) + starts[:, :, None]
    outside[_around(edges, half, 0, PATCH_FRAMES, -1).expand_as(outside) < 0] = n_frames
    return Rows(n_frames, torch.cat([inside, outside.flatten(0, 1)]), patches)


@lru_cache(maxsize=64)
def rows_of_clip(n_frames: int, taps: int = 7) -> Rows:
    """Rows for a clip taken as one patch."""
    at = torch.arange(n_frames)
    return Rows(n_frames, _around(at, taps // 2, 0, n_frames, n_frames), at[None])


def _around(frames: Tensor, half: int, low: int, high: int, padding: int) -> Tensor:
    """The frames around each one; those not in ``low`` to ``high`` are ``padding``."""
    around = frames[:, None] + torch.arange(-half, half + 1)
    return around.masked_fill((around < low) | (around >= high), padding)
