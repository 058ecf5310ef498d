"""Predictions beside the labels they are judged by, for clips and for whole files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import layout
from pipeline.errors import RunError
from pipeline.evaluation.metrics import Labels, Reals, Scores, score
from pipeline.evaluation.runs import Predictions, Run, read_predictions
from pipeline.manifest import ClipTable, by_file, read_table

FILES = " by file"


@dataclass(frozen=True)
class JudgedSet:
    """Labels and scores of one split, by clip or by file.

    Shape:
        keys: [items], clip ids or paths, the same for all runs of the split.
        labels: [items, classes], int8.
        scores: [items, classes].
        units: [items], what must be drawn together when groups rather than clips are resampled; the
            clips of one file where it has no group.
    """

    name: str
    keys: tuple[str, ...]
    labels: Labels
    scores: Reals
    units: tuple[str, ...]

    def score(self, run: Run) -> Scores:
        """All numbers of this set."""
        single = run.dataset.task == "single-label"
        return score(self.labels, self.scores, run.dataset.classes, single_label=single)


def find_table(run: Run) -> ClipTable:
    """The clip table beside the run's ``runs`` folder, else that of the dataset's name.

    Raises:
        RunError: no table, or one whose clips, labels or splits differ from those of the run.
    """
    beside = run.folder.resolve().parent.parent / "clips.parquet"
    path = beside if beside.is_file() else layout.table_path(run.dataset.name)
    if not path.is_file():
        raise RunError(
            f"Run {run.name!r} needs the labels of dataset {run.dataset.name!r}, but there is no {path}. "
            f"Make the clip table again, or put the run below data/NAME/runs/."
        )
    table = read_table(path)
    require_same_table(run, table, path)
    return table


def require_same_table(run: Run, table: ClipTable, path: Path) -> None:
    """Refuse to judge a run by labels other than those it was made with.

    Raises:
        RunError: the digests differ.
    """
    if table.digest() != run.dataset.digest or table.classes != run.dataset.classes:
        raise RunError(
            f"Run {run.name!r} was trained on another version of {run.dataset.name!r}: the clip table {path} has "
            f"digest {table.digest()[:12]}, the run {run.dataset.digest[:12]}. Train the run again."
        )


def judge(
    run: Run, table: ClipTable, splits: Sequence[str], *, only: Mapping[str, Collection[str]] | None = None
) -> Iterator[JudgedSet]:
    """Each split by clip, and by file too where some file has several clips.

    Args:
        only: of some splits, the ids of the clips to judge; all of the others.

    Raises:
        RunError: predictions that are damaged, or of clips that are not in the table.
    """
    for split in splits:
        predictions = read_predictions(run, split)
        if only and split in only:
            predictions = _those(predictions, only[split])
        part = table.select(_rows(run, table, split, predictions))
        keys, units = tuple(map(str, part.clip_id)), tuple(map(str, np.where(part.group != "", part.group, part.path)))
        yield JudgedSet(split, keys, part.labels, predictions.scores, units)
        if len(set(part.path.tolist())) < len(part):
            paths, scores, labels = by_file(part, predictions.scores)
            groups = dict(zip(part.path.tolist(), units, strict=True))
            yield JudgedSet(split + FILES, tuple(paths), labels, scores, tuple(groups[path] for path in paths))


def _those(predictions: Predictions, clips: Collection[str]) -> Predictions:
    rows = [row for row, clip_id in enumerate(predictions.clip_id.tolist()) if clip_id in clips]
    return Predictions(predictions.clip_id[rows], predictions.scores[rows])


def _rows(
    run: Run, table: ClipTable, split: str, predictions: Predictions
) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    place = {clip_id: row for row, clip_id in enumerate(table.clip_id)}
    unknown = [clip_id for clip_id in predictions.clip_id if clip_id not in place]
    if unknown:
        raise RunError(
            f"Run {run.name!r}, split {split!r}: {len(unknown)} of {len(predictions.clip_id)} clips are not in the "
            f"clip table, the first is {unknown[0]!r}. The predictions belong to other data; train the run again."
        )
    return np.array([place[clip_id] for clip_id in predictions.clip_id], dtype=np.intp)
