"""Use case: tags of audio files of any length, in batches of clips and in bounded memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.quiet import decoders_quiet
from pipeline.deployment.inputs import Input, find_inputs
from pipeline.deployment.listening import FileEnd, Grid, Window, ahead, listen
from pipeline.deployment.onnx_tagger import load_onnx_tagger
from pipeline.deployment.tagger import Tagger, load_tagger
from pipeline.deployment.tags import FileFailure, FileTags, Tags, WindowTags
from pipeline.errors import AudioError, SettingError
from pipeline.evaluation.runs import find_run
from pipeline.events import ClipFailed, ClipShort, Listener, Note, TaskAdvanced, TaskFinished, TaskStarted, ignore
from pipeline.files import publish_bytes

__all__ = ["Asked", "open_tagger", "predict", "predict_by_name", "tag_file"]

_TASK = "Tagging"
_BATCH_CLIPS = 8
_SHORTEST_HOP_S, _LONG_S = 0.01, 60.0


@dataclass(frozen=True)
class Asked:
    """What is to be said of the files.

    Attributes:
        over_time: keep the scores of every window.
        hop_s: seconds from window to window; None for windows side by side.
        threshold: from which a tag counts as present; None for the run's own.
    """

    over_time: bool = False
    hop_s: float | None = None
    threshold: float | None = None


Each = Callable[[Tags, FileTags | FileFailure], None]


def predict(
    run: Path,
    paths: Sequence[str],
    *,
    asked: Asked | None = None,
    device: str = "cpu",
    each: Each | None = None,
    listener: Listener = ignore,
) -> Tags:
    """Tag files with the student of a run; a bad file is reported and the rest is done.

    Args:
        run: folder of a finished student, or an exported ``.onnx`` file.
        paths: audio files of any length, rate and channel count.
        each: told of every file as soon as it is done, in order.

    Raises:
        RunError: no finished student there.
    """
    inputs = [Input(path, path) for path in paths]
    return tag_inputs(open_tagger(run, device=device), inputs, asked or Asked(), each, listener)


def predict_by_name(
    run: str,
    given: Sequence[str],
    *,
    asked: Asked,
    csv_path: Path | None = None,
    device: str = "cpu",
    stdin: BinaryIO | None = None,
    each: Each | None = None,
    listener: Listener = ignore,
) -> Tags:
    """As :func:`predict`, the run given as a folder, name or ``.onnx`` file; also folders, and ``-`` for ``stdin``.

    Args:
        csv_path: where all scores also go.
    """
    tagger = open_tagger(Path(run) if run.lower().endswith(".onnx") else find_run(run), device=device)
    with find_inputs(given, stdin) as inputs:
        found = tag_inputs(tagger, inputs, asked, each, listener)
    if csv_path is not None:
        publish_bytes(csv_path, found.to_csv().encode("utf-8", errors="surrogateescape"))
    return found


def open_tagger(path: Path, *, device: str = "cpu") -> Tagger:
    """The student of a run folder, or of an exported file.

    Raises:
        RunError: there is none.
    """
    if path.suffix.lower() == ".onnx" and not path.is_dir():
        return load_onnx_tagger(path, device=device)
    return load_tagger(path, device=device)


def tag_file(tagger: Tagger, path: str) -> FileTags:
    """Scores of one file.

    Raises:
        AudioError: nothing of it can be heard; the subclass says why.
    """
    (done,) = _finished(tagger, [Input(path, path)], Asked(), ignore)
    if isinstance(done, FileTags):
        return done
    raise done


def tag_inputs(tagger: Tagger, inputs: Sequence[Input], asked: Asked, each: Each | None, listener: Listener) -> Tags:
    """Tag all inputs; see :func:`predict`."""
    tags = Tags.of(tagger, threshold=asked.threshold, over_time=asked.over_time)
    files: list[FileTags] = []
    failures: list[FileFailure] = []
    started = time.perf_counter()
    listener(TaskStarted(_TASK, len(inputs), "files"))
    with decoders_quiet():
        for file, done in zip(inputs, _finished(tagger, inputs, asked, listener), strict=True):
            told = done if isinstance(done, FileTags) else FileFailure(file.name, done.kind, done.reason)
            if isinstance(told, FileTags):
                files.append(told)
            else:
                failures.append(told)
            _report(told, listener)
            if each is not None:
                each(tags, told)
    listener(TaskFinished(_TASK))
    listener(Note(_speed(sum(file.duration_s for file in files), time.perf_counter() - started)))
    return replace(tags, files=tuple(files), failures=tuple(failures))


def _report(told: FileTags | FileFailure, listener: Listener) -> None:
    if isinstance(told, FileFailure):
        listener(ClipFailed(told.path, told.kind, told.reason))
    elif told.short:
        listener(ClipShort(told.path, told.short))


def _finished(
    tagger: Tagger, inputs: Sequence[Input], asked: Asked, listener: Listener
) -> Iterator[FileTags | AudioError]:
    """Every file in order, its windows scored in batches that go on over the borders of files."""
    grid = Grid(tagger.clip_s, _hop(asked, tagger), tagger.min_s)
    items = (item for file in inputs for item in listen(file.path, grid))
    names = iter(inputs)
    sums = _Sums(next(names, None), asked, listener)
    for part in _parts(ahead(items, 2 * _BATCH_CLIPS)):
        windows = [item for item in part if isinstance(item, Window)]
        scores = iter(tagger.score([(window.samples, window.rate_hz) for window in windows]))
        for item in part:
            if isinstance(item, Window):
                sums.add(item, next(scores))
            else:
                yield sums.close(item)
                sums = _Sums(next(names, None), asked, listener)
        sums.advance()


def _parts(items: Iterator[Window | FileEnd]) -> Iterator[list[Window | FileEnd]]:
    """Items in order, up to a batch of windows at a time."""
    part: list[Window | FileEnd] = []
    n_windows = 0
    for item in items:
        part.append(item)
        n_windows += isinstance(item, Window)
        if n_windows == _BATCH_CLIPS or len(part) == 4 * _BATCH_CLIPS:
            yield part
            part, n_windows = [], 0
    if part:
        yield part


class _Sums:
    """What one file adds up to."""

    def __init__(self, file: Input | None, asked: Asked, listener: Listener) -> None:
        self.name, self.asked, self.listener = "" if file is None else file.name, asked, listener
        self.total: NDArray[np.float64] = np.zeros(0)
        self.seconds, self.n_clips = 0.0, 0
        self.windows: list[WindowTags] = []
        self.share, self.told = 0.0, 0.0

    def add(self, window: Window, scores: NDArray[np.float32]) -> None:
        row = scores.astype(np.float64)
        self.total = row * window.length_s + (self.total if self.n_clips else 0.0)
        self.seconds += window.length_s
        self.n_clips += 1
        end_s = window.start_s + window.length_s
        if self.asked.over_time:
            self.windows.append(WindowTags(window.start_s, end_s, row))
        self.share = min(1.0, end_s / window.duration_s) if window.duration_s > _LONG_S else 0.0

    def advance(self) -> None:
        """Tell how far a long file is."""
        if self.share > self.told:
            self.listener(TaskAdvanced(_TASK, self.share - self.told, Path(self.name).name))
            self.told = self.share

    def close(self, end: FileEnd) -> FileTags | AudioError:
        self.listener(TaskAdvanced(_TASK, 1.0 - self.told, Path(self.name).name))
        if end.error is not None:
            return end.error
        return FileTags(
            path=self.name,
            duration_s=end.duration_s,
            n_clips=self.n_clips,
            scores=self.total / self.seconds,
            short=end.short,
            windows=tuple(self.windows),
        )


def _hop(asked: Asked, tagger: Tagger) -> float:
    hop_s = tagger.clip_s if asked.hop_s is None else asked.hop_s
    if not _SHORTEST_HOP_S <= hop_s <= tagger.clip_s:
        raise SettingError(
            f"--hop is {hop_s:g} s; {tagger.name} hears clips of {tagger.clip_s:g} s, so it must be from "
            f"{_SHORTEST_HOP_S:g} to {tagger.clip_s:g} s."
        )
    return hop_s


def _speed(audio_s: float, took_s: float) -> str:
    rate = audio_s / max(took_s, 1e-9)
    return f"{audio_s:,.0f} s of audio in {took_s:,.1f} s: {rate:,.0f} times real time"
