"""What is said of files: scores per file and over time, as text, CSV, JSON and lines of JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.deployment.tagger import Tagger
from pipeline.errors import ClipsFailedError
from pipeline.licences import demands

__all__ = ["FileFailure", "FileTags", "Tags", "WindowTags"]

Scores = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WindowTags:
    """One window of a file: ``start_s`` to ``end_s`` in seconds, ``scores`` [classes]."""

    start_s: float
    end_s: float
    scores: Scores


@dataclass(frozen=True, eq=False)
class FileTags:
    """One file.

    Shape:
        scores: [classes], mean of the clips' probabilities, each weighted by its seconds.

    Attributes:
        short: empty, or why not all of it could be heard.
        windows: its clips in order, where tags over time were asked for.
    """

    path: str
    duration_s: float
    n_clips: int
    scores: Scores
    short: str = ""
    windows: tuple[WindowTags, ...] = ()


@dataclass(frozen=True)
class FileFailure:
    """A file that gave nothing, and why, in words."""

    path: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Tags:
    """What a run says of files, in the order in which they were given.

    Attributes:
        over_time: each file has its windows.
        only_present: tags below their threshold are not shown to people.
    """

    run: str
    classes: tuple[str, ...]
    thresholds: tuple[float, ...] | None
    licence: str
    licences: tuple[tuple[str, str], ...] = ()
    files: tuple[FileTags, ...] = ()
    failures: tuple[FileFailure, ...] = field(default=())
    over_time: bool = False
    only_present: bool = False

    @classmethod
    def of(cls, tagger: Tagger, *, threshold: float | None = None, over_time: bool = False) -> Tags:
        """Nothing yet, by this tagger.

        Args:
            threshold: for all classes, instead of the tagger's own.
        """
        thresholds = tagger.thresholds if threshold is None else (threshold,) * len(tagger.classes)
        about = (tagger.name, tagger.classes, thresholds, tagger.licence, tagger.licences)
        return cls(*about, over_time=over_time, only_present=threshold is not None)

    def top(self, heard: FileTags | WindowTags, k: int) -> list[tuple[str, float, bool | None]]:
        """The ``k`` highest classes: name, score, and whether it passes its threshold (None: there is none)."""
        order = np.argsort(-heard.scores, kind="stable")[:k]
        return [(self.classes[i], float(heard.scores[i]), self._passes(heard, int(i))) for i in order]

    def present(self, heard: FileTags | WindowTags) -> list[str] | None:
        """Classes at or above their thresholds; None where there are none."""
        if self.thresholds is None:
            return None
        return [name for i, name in enumerate(self.classes) if self._passes(heard, i)]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return self._about() | {
            "files": [self._file_dict(file) for file in self.files],
            "failures": [{"path": f.path, "kind": f.kind, "reason": f.reason} for f in self.failures],
        }

    def to_json(self) -> str:
        """:meth:`as_dict` as JSON text."""
        return json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    def to_line(self, file: FileTags | FileFailure) -> str:
        """One file as one line of JSON, with the run and its licence."""
        about = {"run": self.run, "licence": self.licence}
        found = self._file_dict(file) if isinstance(file, FileTags) else vars(file)
        return json.dumps(found | about, ensure_ascii=False, allow_nan=False)

    def to_text(self, k: int) -> str:
        """All files and the licence; see :meth:`file_text`."""
        return "\n".join([*(self.file_text(file, k) for file in self.files), self.licence_text()])

    def file_text(self, file: FileTags, k: int) -> str:
        """Its ``k`` highest classes with scores, a star where the threshold is passed; then a line per window."""
        clips = f"{file.n_clips} {'clip' if file.n_clips == 1 else 'clips'}"
        lines = [f"{file.path} ({file.duration_s:.1f} s, {clips})"]
        lines += [f"  {score:.3f}{' *' if present else '  '} {name}" for name, score, present in self._shown(file, k)]
        for window in file.windows:
            tags = ", ".join(f"{name} {score:.3f}{'*' if p else ''}" for name, score, p in self._shown(window, k))
            lines.append(f"  {window.start_s:9.2f} to {window.end_s:9.2f} s  {tags}")
        return "\n".join(lines)

    def licence_text(self) -> str:
        """What the tags come under."""
        return f"licence of {self.run}: {self.licence}. {demands(self.licence)}"

    def to_csv(self) -> str:
        """A line per file or, over time, per window: a column per class, the licence last; failures have no scores."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        where = ["start_s", "end_s"] if self.over_time else ["duration_s", "clips"]
        writer.writerow(["file", *where, *self.classes, "problem", "licence"])
        for file in self.files:
            for place, scores in self._rows(file):
                numbers = [f"{value:.6f}" for value in scores]
                writer.writerow([file.path, *place, *numbers, file.short, self.licence])
        for failure in self.failures:
            place = ["", ""] if self.over_time else ["", "0"]
            writer.writerow([failure.path, *place, *[""] * len(self.classes), failure.reason, self.licence])
        return out.getvalue()

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

    def _about(self) -> dict[str, Any]:
        return {
            "run": self.run,
            "licence": self.licence,
            "licence_demands": demands(self.licence),
            "licences": [{"licence": text, "covers": what} for text, what in self.licences],
        }

    def _file_dict(self, file: FileTags) -> dict[str, Any]:
        about = {"path": file.path, "duration_s": file.duration_s, "n_clips": file.n_clips, "short": file.short}
        windows = [{"start_s": w.start_s, "end_s": w.end_s} | self._scores_dict(w) for w in file.windows]
        return about | self._scores_dict(file) | ({"windows": windows} if self.over_time else {})

    def _scores_dict(self, heard: FileTags | WindowTags) -> dict[str, Any]:
        present = self.present(heard)
        scores = {"scores": dict(zip(self.classes, map(float, heard.scores), strict=True))}
        return scores if present is None else scores | {"present": present}

    def _rows(self, file: FileTags) -> list[tuple[list[str], Scores]]:
        if not self.over_time:
            return [([f"{file.duration_s:.3f}", str(file.n_clips)], file.scores)]
        return [([f"{w.start_s:.3f}", f"{w.end_s:.3f}"], w.scores) for w in file.windows]

    def _shown(self, heard: FileTags | WindowTags, k: int) -> list[tuple[str, float, bool | None]]:
        return [tag for tag in self.top(heard, k) if tag[2] or not self.only_present]

    def _passes(self, heard: FileTags | WindowTags, index: int) -> bool | None:
        return None if self.thresholds is None else bool(heard.scores[index] >= self.thresholds[index])
