"""Bring student and teacher frames onto one time axis; padding never gets through.

Source: Ding and Lerch, ISMIR 2023, section 3.4.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pipeline.audio.extractor import Frames

Alignment = Literal["repeat", "mean"]


class Aligned(NamedTuple):
    """Student and teacher on one time axis.

    Shape:
        student: [batch, frames, student channels].
        teacher: [batch, frames, teacher channels].
        n_frames: [batch], int64, frames valid in both.
    """

    student: Tensor
    teacher: Tensor
    n_frames: Tensor


def align(student: Frames, teacher: Frames, how: Alignment) -> Aligned:
    """Average both over time, or repeat the coarser and cut both to the shorter."""
    return _by_mean(student, teacher) if how == "mean" else _by_repeat(student, teacher)


def time_mean(frames: Frames) -> Tensor:
    """Mean over valid frames, [batch, channels]; zeros for a clip without any."""
    index = torch.arange(frames.features.shape[1], device=frames.features.device)
    keep = (index[None, :] < frames.n_frames[:, None])[:, :, None]
    total = torch.where(keep, frames.features, torch.zeros_like(frames.features)).sum(1)
    return total / frames.n_frames.clamp(min=1)[:, None]


def _by_mean(student: Frames, teacher: Frames) -> Aligned:
    n_frames = torch.minimum(student.n_frames, teacher.n_frames).clamp(max=1)
    return Aligned(time_mean(student)[:, None], time_mean(teacher)[:, None], n_frames)


def _by_repeat(student: Frames, teacher: Frames) -> Aligned:
    s, t = student, teacher
    factor = repeat_factor(s.features.shape[1], t.features.shape[1])
    if s.features.shape[1] >= t.features.shape[1]:
        t = _repeated(t, factor)
    else:
        s = _repeated(s, factor)
    length = min(s.features.shape[1], t.features.shape[1])
    n_frames = torch.minimum(s.n_frames, t.n_frames).clamp(max=length)
    return Aligned(s.features[:, :length], t.features[:, :length], n_frames)


def repeat_factor(frames_a: int, frames_b: int) -> int:
    """How often the coarser of two sequences is repeated: the ratio of lengths, rounded.

    >>> repeat_factor(62, 10), repeat_factor(62, 11), repeat_factor(15, 30), repeat_factor(20, 1)
    (6, 6, 2, 20)
    """
    longer, shorter = max(frames_a, frames_b), min(frames_a, frames_b)
    return max(1, (2 * longer + shorter) // (2 * shorter))


def _repeated(frames: Frames, factor: int) -> Frames:
    return Frames(frames.features.repeat_interleave(factor, dim=1), frames.n_frames * factor)
