"""Bring student and teacher frames onto one time axis; padding never gets through.

Source: Ding and Lerch, ISMIR 2023, section 3.4.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pipeline.audio.extractor import Frames

Alignment = Literal["repeat", "interpolate", "mean"]


class Aligned(NamedTuple):
    """Student and teacher on one time axis, or on the way to it, see :func:`pair`.

    Shape:
        student: [batch, frames, student channels].
        teacher: [batch, frames, teacher channels].
        n_frames: [batch], int64, frames valid in both.
    """

    student: Tensor
    teacher: Tensor
    n_frames: Tensor


def align(student: Frames, teacher: Frames, how: Alignment) -> Aligned:
    """Average both over time, repeat the coarser and cut both to the shorter, or interpolate the coarser."""
    s, t, n_frames = pair(student, teacher, how)
    length = max(s.shape[1], t.shape[1])
    return Aligned(_repeated(s, length), _repeated(t, length), n_frames)


def pair(student: Frames, teacher: Frames, how: Alignment) -> Aligned:
    """The same before the coarser is repeated, so that relations within its frames are worked out once.

    Of the two, one has all frames of the common axis and one may have fewer, which then stand for
    ``ceil(frames / coarse frames)`` each; ``n_frames`` counts on the common axis.
    """
    return _WAYS[how](student, teacher)


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
    frames = [sequence.features.shape[1] for sequence in (student, teacher)]
    factor = repeat_factor(*frames)
    times = (1, factor) if frames[0] >= frames[1] else (factor, 1)
    length = min(frames[0] * times[0], frames[1] * times[1])
    s, t = (x.features[:, : -(-length // many)] for x, many in zip((student, teacher), times, strict=True))
    n_frames = torch.minimum(student.n_frames * times[0], teacher.n_frames * times[1]).clamp(max=length)
    return Aligned(s, t, n_frames)


def repeat_factor(frames_a: int, frames_b: int) -> int:
    """How often the coarser of two sequences is repeated: the ratio of lengths, rounded.

    >>> repeat_factor(62, 10), repeat_factor(62, 11), repeat_factor(15, 30), repeat_factor(20, 1)
    (6, 6, 2, 20)
    """
    longer, shorter = max(frames_a, frames_b), min(frames_a, frames_b)
    return max(1, (2 * longer + shorter) // (2 * shorter))


def _repeated(features: Tensor, length: int) -> Tensor:
    times = -(-length // features.shape[1])
    return features if times == 1 else features.repeat_interleave(times, dim=1)[:, :length]


def _by_interpolation(student: Frames, teacher: Frames) -> Aligned:
    length = max(student.features.shape[1], teacher.features.shape[1])
    s, t = (_interpolated(frames, length) for frames in (student, teacher))
    return Aligned(s.features, t.features, torch.minimum(s.n_frames, t.n_frames))


def _interpolated(frames: Frames, length: int) -> Frames:
    """Linear between the centres of frames; beyond the first and the last valid one they go on unchanged.

    A frame of the new axis is valid where its centre lies within the valid frames.
    """
    n_before = frames.features.shape[1]
    if n_before == length:
        return frames
    device = frames.features.device
    twice = 2 * torch.arange(length, device=device) + 1  # centres, in halves of the new frames
    last = (frames.n_frames - 1).clamp(min=0)
    place = (twice.to(torch.float32) * (n_before / (2 * length)) - 0.5).clamp(min=0)[None, :]  # in frames of before
    place = torch.minimum(place, last[:, None].to(torch.float32))
    left = place.floor().to(torch.int64)
    right = torch.minimum(left + 1, last[:, None])
    clip = torch.arange(len(last), device=device)[:, None]
    share = (place - left).to(frames.features.dtype)[:, :, None]
    features = torch.lerp(frames.features[clip, left], frames.features[clip, right], share)
    return Frames(features, (n_before * twice[None, :] < 2 * length * frames.n_frames[:, None]).sum(1))


_WAYS = {"repeat": _by_repeat, "interpolate": _by_interpolation, "mean": _by_mean}
