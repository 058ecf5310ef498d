"""Clips cut into windows whose frames join without a gap, and the windows put into batches. Integers only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pipeline.extraction.teachers.hf.architecture import Architecture


class Window(NamedTuple):
    """A stretch of a clip, and where its frames go.

    ``n_frames`` frames from ``skip`` on become those of the clip from ``first_frame`` on.
    """

    clip: int
    start: int
    n_samples: int
    first_frame: int
    skip: int
    n_frames: int


def cut_windows(lengths: Sequence[int], numbers: Architecture, window: int) -> list[Window]:
    """Windows of all clips, in order.

    A clip that fits is one window. The last window of a longer one reaches back, so that it is as
    long as the others, and gives those frames that are not there yet.

    Args:
        lengths: valid samples of each clip.
        window: samples of a window.
    """
    return [made for clip, n_samples in enumerate(lengths) for made in _cut(clip, n_samples, numbers, window)]


def batch_windows(windows: Sequence[Window], numbers: Architecture, size: int) -> Iterator[list[Window]]:
    """At most ``size`` windows at once; where the model takes any length, those of one length.

    Padding would be heard by norms over time and by attention, so windows of different lengths do not
    share a batch.
    """
    groups: dict[int, list[Window]] = {}
    for window in windows:
        groups.setdefault(input_samples(window, numbers), []).append(window)
    for group in groups.values():
        for first in range(0, len(group), size):
            yield group[first : first + size]


def input_samples(window: Window, numbers: Architecture) -> int:
    """Samples that go in: the model's one length, else the window's own, at least one frame."""
    return numbers.limit or max(window.n_samples, numbers.needed)


def _cut(clip: int, n_samples: int, numbers: Architecture, window: int) -> Iterator[Window]:
    n_frames, per_window = numbers.count_frames(n_samples), numbers.limit_frames or numbers.count_frames(window)
    if 0 < n_frames <= per_window:
        yield Window(clip, 0, min(n_samples, numbers.limit or n_samples), 0, 0, n_frames)
        return
    for first in range(0, n_frames, per_window):
        from_frame = min(first, n_frames - per_window)
        start = from_frame * numbers.hop
        length = min(window, n_samples - start)
        yield Window(clip, start, length, first, first - from_frame, from_frame + per_window - first)
