"""Files as windows, decoded one after the other in a thread of its own, in bounded memory."""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.audio.decode import AudioFile
from pipeline.audio.samples import Samples
from pipeline.audio.timing import n_samples, seconds
from pipeline.errors import AudioError, AudioRangeError

__all__ = ["FileEnd", "Grid", "Window", "ahead", "listen"]

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Grid:
    """Windows of ``clip_s`` every ``hop_s``, none shorter than ``min_s``; all in seconds."""

    clip_s: float
    hop_s: float
    min_s: float


@dataclass(frozen=True, eq=False)
class Window:
    """Mono samples of a file from ``start_s`` on, at the file's own ``rate_hz``."""

    samples: Samples
    rate_hz: int
    start_s: float
    duration_s: float

    @property
    def length_s(self) -> float:
        """Seconds that it covers."""
        return seconds(len(self.samples), self.rate_hz)


@dataclass(frozen=True)
class FileEnd:
    """A file has been heard: its seconds, why it was not heard to its end, or why not at all."""

    duration_s: float
    short: str = ""
    error: AudioError | None = None


def listen(path: str, grid: Grid) -> Iterator[Window | FileEnd]:
    """The windows of a file, then its end; an error is an end too.

    Damage after the first block ends the file early, and its end says so.
    """
    duration_s, n_windows, heard = 0.0, 0, _Heard()
    try:
        with AudioFile(path) as file:
            duration_s = file.info.duration_s
            for window in _windows(file, grid, heard):
                n_windows += 1
                yield window
        if not n_windows:
            reason = f"{duration_s:.3f} s is too short: the front end needs {grid.min_s:.3f} s"
            raise AudioRangeError(reason, name=Path(path).name)
    except AudioError as error:
        yield FileEnd(duration_s, error=error)
    else:
        yield FileEnd(duration_s, heard.short)


@dataclass
class _Heard:
    """Collects why part of a file could not be heard."""

    short: str = ""


def _windows(file: AudioFile, grid: Grid, heard: _Heard) -> Iterator[Window]:
    """Whole windows as soon as their last sample is there, then what is left of those that reach beyond the end."""
    rate_hz, duration_s = file.info.rate_hz, file.info.duration_s
    clip = n_samples(grid.clip_s, rate_hz)
    kept, first, index = np.zeros(0, dtype=np.float32), 0, 0
    for block in _blocks(file, grid.clip_s, heard):
        kept = np.concatenate([kept, block])
        while (start := n_samples(index * grid.hop_s, rate_hz)) + clip <= first + len(kept):
            yield Window(kept[start - first : start - first + clip], rate_hz, seconds(start, rate_hz), duration_s)
            index += 1
        passed = min(start - first, len(kept))
        kept, first = kept[passed:], first + passed
    end = first + len(kept)
    while (start := n_samples(index * grid.hop_s, rate_hz)) < end:
        left = kept[start - first :]
        new = index == 0 or n_samples((index - 1) * grid.hop_s, rate_hz) + clip < end
        if new and len(left) >= grid.min_s * rate_hz:
            yield Window(left, rate_hz, seconds(start, rate_hz), duration_s)
        index += 1


def _blocks(file: AudioFile, clip_s: float, heard: _Heard) -> Iterator[Samples]:
    """The file in blocks of whole seconds, so that their borders are samples at every rate."""
    block_s = math.ceil(clip_s)
    for index in range(max(1, math.ceil(file.info.duration_s / block_s))):
        try:
            part = file.read(index * block_s, block_s)
        except AudioError as error:
            if index == 0:
                raise
            if not isinstance(error, AudioRangeError):
                heard.short = f"heard up to {index * block_s:g} s: {error.reason}"
            return
        heard.short = heard.short or part.short
        yield part.samples


def ahead(items: Iterable[_Item], depth: int) -> Iterator[_Item]:
    """The same items, made by a thread that is up to ``depth`` of them ahead; its errors are raised here."""
    done, stop = object(), threading.Event()
    line: queue.Queue[object] = queue.Queue(depth)

    def put(item: object) -> None:
        while not stop.is_set():
            try:
                return line.put(item, timeout=0.1)
            except queue.Full:
                continue

    def make() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(done)
        except BaseException as error:
            put(_Raised(error))

    worker = threading.Thread(target=make, name="decoding ahead", daemon=True)
    worker.start()
    try:
        while (item := line.get()) is not done:
            if isinstance(item, _Raised):
                raise item.error
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        worker.join()


@dataclass(frozen=True)
class _Raised:
    error: BaseException
