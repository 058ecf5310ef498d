"""Tags of audio files of any length: clip by clip in bounded memory, averaged to the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.decode import AudioFile
from pipeline.audio.samples import Samples
from pipeline.deployment.tagger import Tagger, load_tagger
from pipeline.errors import AudioError, AudioRangeError, ClipsFailedError
from pipeline.evaluation.runs import find_run
from pipeline.events import ClipFailed, ClipShort, Listener, TaskAdvanced, TaskFinished, TaskStarted, ignore
from pipeline.files import publish_bytes
from pipeline.licences import demands

_TASK = "Tagging"
_BATCH_CLIPS = 8


@dataclass(frozen=True)
class FileTags:
    """One file.

    Shape:
        scores: [classes], mean of the clips' probabilities, each weighted by its seconds.

    Attributes:
        short: empty, or why not all of it could be heard.
    """

    path: str
    duration_s: float
    n_clips: int
    scores: NDArray[np.float64]
    short: str = ""


@dataclass(frozen=True)
class FileFailure:
    """A file that gave nothing, and why, in words."""

    path: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Tags:
    """What a run says of files, in the order in which they were given."""

    run: str
    classes: tuple[str, ...]
    thresholds: tuple[float, ...] | None
    licence: str
    licences: tuple[tuple[str, str], ...] = ()
    files: tuple[FileTags, ...] = ()
    failures: tuple[FileFailure, ...] = field(default=())

    def top(self, file: FileTags, k: int) -> list[tuple[str, float, bool | None]]:
        """The ``k`` highest classes: name, score, and whether it passes its threshold (None: there is none)."""
        order = np.argsort(-file.scores, kind="stable")[:k]
        return [(self.classes[i], float(file.scores[i]), self._present(file, int(i))) for i in order]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "run": self.run,
            "licence": self.licence,
            "licence_demands": demands(self.licence),
            "licences": [{"licence": text, "covers": what} for text, what in self.licences],
            "files": [self._file_dict(file) for file in self.files],
            "failures": [{"path": f.path, "kind": f.kind, "reason": f.reason} for f in self.failures],
        }

    def to_text(self, k: int) -> str:
        """Per file its ``k`` highest classes with scores, a star where the threshold is passed; then the licence."""
        lines = []
        for file in self.files:
            lines.append(
                f"{file.path} ({file.duration_s:.1f} s, {file.n_clips} {'clip' if file.n_clips == 1 else 'clips'})"
            )
            for name, score, present in self.top(file, k):
                lines.append(f"  {score:.3f}{' *' if present else '  '} {name}")
        return "\n".join([*lines, f"licence of {self.run}: {self.licence}. {demands(self.licence)}"])

    def to_json(self) -> str:
        """:meth:`as_dict` as JSON text."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def require(self) -> None:
        """Refuse to end well where a file failed.

        Raises:
            ClipsFailedError: naming how many and the first.
        """
        if self.failures:
            first = self.failures[0]
            raise ClipsFailedError(
                f"{len(self.failures)} of {len(self.files) + len(self.failures)} files gave no tags; the first is "
                f"{first.path}: {first.reason}"
            )

    def to_csv(self) -> str:
        """One line per file: path, seconds, clips, a column per class, the licence last; failures have no scores."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["file", "duration_s", "clips", *self.classes, "problem", "licence"])
        for file in self.files:
            scores = [f"{value:.6f}" for value in file.scores]
            writer.writerow([file.path, f"{file.duration_s:.3f}", file.n_clips, *scores, file.short, self.licence])
        for failure in self.failures:
            writer.writerow([failure.path, "", 0, *[""] * len(self.classes), failure.reason, self.licence])
        return out.getvalue()

    def _file_dict(self, file: FileTags) -> dict[str, Any]:
        scores = dict(zip(self.classes, map(float, file.scores), strict=True))
        about = {"path": file.path, "duration_s": file.duration_s, "n_clips": file.n_clips, "short": file.short}
        return about | {"scores": scores}

    def _present(self, file: FileTags, index: int) -> bool | None:
        return None if self.thresholds is None else bool(file.scores[index] >= self.thresholds[index])


def predict(run: Path, paths: Sequence[str], *, device: str = "cpu", listener: Listener = ignore) -> Tags:
    """Tag files with the student of a run; a bad file is reported and the rest is done.

    Args:
        run: folder of a finished student.
        paths: audio files of any length, rate and channel count.

    Raises:
        RunError: no finished student there.
    """
    tagger = load_tagger(run, device=device)
    files, failures = [], []
    listener(TaskStarted(_TASK, len(paths), "files"))
    for path in paths:
        try:
            file = tag_file(tagger, path)
        except AudioError as error:
            failures.append(FileFailure(path, error.kind, error.reason))
            listener(ClipFailed(path, error.kind, error.reason))
        else:
            files.append(file)
            if file.short:
                listener(ClipShort(path, file.short))
        listener(TaskAdvanced(_TASK, 1, Path(path).name))
    listener(TaskFinished(_TASK))
    names = (tagger.name, tagger.classes, tagger.thresholds, tagger.licence, tagger.licences)
    return Tags(*names, files=tuple(files), failures=tuple(failures))


def predict_by_name(
    run: str, paths: Sequence[str], *, csv_path: Path | None = None, device: str = "cpu", listener: Listener = ignore
) -> Tags:
    """As :func:`predict`, the run given as a folder or name; all scores also to a CSV if asked for."""
    found = predict(find_run(run), paths, device=device, listener=listener)
    if csv_path is not None:
        publish_bytes(csv_path, found.to_csv().encode())
    return found


def tag_file(tagger: Tagger, path: str) -> FileTags:
    """Scores of one file.

    Raises:
        AudioError: nothing of it can be heard; the subclass says why.
    """
    total, seconds, n_clips = np.zeros(len(tagger.classes)), 0.0, 0
    with AudioFile(path) as file:
        heard = _Heard()
        for batch in _batches(_clips(file, tagger.clip_s, tagger.min_s, heard)):
            weights = np.array([len(samples) / rate_hz for samples, rate_hz in batch])
            total += weights @ tagger.score(batch)
            seconds += float(weights.sum())
            n_clips += len(batch)
        duration_s = file.info.duration_s
    if not n_clips:
        raise AudioRangeError(
            f"{duration_s:.3f} s is too short: the front end needs {tagger.min_s:.3f} s",
            name=Path(path).name,
        )
    return FileTags(path, duration_s, n_clips, total / seconds, heard.short)


@dataclass
class _Heard:
    """Collects why part of a file could not be heard."""

    short: str = ""


def _clips(file: AudioFile, clip_s: float, min_s: float, heard: _Heard) -> Iterator[tuple[Samples, int]]:
    """Consecutive clips; the last may be shorter.  Damage after the first clip ends the file early."""
    for index in range(max(1, int(np.ceil(file.info.duration_s / clip_s)))):
        try:
            part = file.read(index * clip_s, clip_s)
        except AudioRangeError:
            if index == 0:
                raise
            return
        except AudioError as error:
            if index == 0:
                raise
            heard.short = f"heard up to {index * clip_s:g} s: {error.reason}"
            return
        heard.short = heard.short or part.short
        if len(part.samples) >= min_s * part.rate_hz:
            yield part.samples, part.rate_hz


def _batches(clips: Iterator[tuple[Samples, int]]) -> Iterator[list[tuple[Samples, int]]]:
    batch: list[tuple[Samples, int]] = []
    for clip in clips:
        batch.append(clip)
        if len(batch) == _BATCH_CLIPS:
            yield batch
            batch = []
    if batch:
        yield batch
