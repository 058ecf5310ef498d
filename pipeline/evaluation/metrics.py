"""Macro average precision, ROC-AUC, F1 and accuracy over known labels only.

Labels are int8: 1, 0, and -1 where it is unknown.  A class without both a positive and a negative
known label has no ranking to judge: it is left out of the means, and named.

Average precision and ROC-AUC are those of scikit-learn, ties included, but take many weightings of
the clips at once, which is what the bootstrap needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[np.int8]
Reals = npt.NDArray[np.floating[Any]]

OPENMIC_THRESHOLD = 0.4
_BLOCK_VALUES = 1 << 21


class Ranking(NamedTuple):
    """Per weighting and class; NaN where a class has no positive or no negative of weight.

    Shape:
        ap: [weightings, classes].
        roc_auc: [weightings, classes].
    """

    ap: Reals
    roc_auc: Reals


@dataclass(frozen=True)
class ClassScore:
    """One class; the scores are None where it was left out."""

    name: str
    n_positive: int
    n_negative: int
    ap: float | None
    roc_auc: float | None
    f1: float | None


@dataclass(frozen=True)
class Scores:
    """A split's numbers. ``accuracy`` is None for multi-label tasks; means are None without a class to judge."""

    map: float | None
    roc_auc: float | None
    f1: float | None
    accuracy: float | None
    per_class: tuple[ClassScore, ...]
    left_out: tuple[str, ...]
    n_clips: int
    n_known: int

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {
            "per_class": [asdict(entry) for entry in self.per_class],
            "left_out": list(self.left_out),
        }


def score(
    labels: Labels,
    scores: Reals,
    classes: Sequence[str],
    *,
    single_label: bool = False,
    threshold: float = OPENMIC_THRESHOLD,
) -> Scores:
    """All numbers of one split.

    Args:
        single_label: each clip has one class; adds the accuracy of the highest score.
        threshold: a score at or above it predicts the class, for F1.

    Shape:
        labels: [clips, classes], int8.
        scores: [clips, classes], any monotone score; probabilities for F1.

    Raises:
        ValueError: shapes that do not fit, or scores that are not finite.
    """
    check(labels, scores, classes)
    ranking = rank(labels, scores)
    usable = np.isfinite(ranking.ap[0])
    f1 = f1_per_class(labels, scores, threshold)
    return Scores(
        map=_mean(ranking.ap[0], usable),
        roc_auc=_mean(ranking.roc_auc[0], usable),
        f1=_mean(f1, usable),
        accuracy=accuracy(labels, scores) if single_label else None,
        per_class=_class_scores(labels, classes, ranking, f1, usable),
        left_out=tuple(name for name, used in zip(classes, usable, strict=True) if not used),
        n_clips=len(labels),
        n_known=int((labels >= 0).sum()),
    )


def rank(labels: Labels, scores: Reals, weights: Reals | None = None) -> Ranking:
    """Average precision and ROC-AUC of every class under every weighting of the clips.

    Shape:
        labels, scores: [clips, classes].
        weights: [weightings, clips], not negative; all ones when None.
    """
    if weights is None:
        weights = np.ones((1, len(labels)))
    ap = np.full((len(weights), labels.shape[1]), np.nan)
    roc_auc = ap.copy()
    step = max(1, _BLOCK_VALUES // max(1, len(labels)))
    for column in range(labels.shape[1]):
        known = np.flatnonzero(labels[:, column] >= 0)
        order = known[np.argsort(-scores[known, column], kind="stable")]
        positive = labels[order, column] == 1
        ends = _group_ends(scores[order, column])
        for first in range(0, len(weights), step):
            rows = slice(first, first + step)
            ap[rows, column], roc_auc[rows, column] = _rank_class(positive, ends, weights[rows][:, order])
    return Ranking(ap, roc_auc)


def f1_per_class(labels: Labels, scores: Reals, threshold: float = OPENMIC_THRESHOLD) -> Reals:
    """Mean of the positive-class and the negative-class F1, known labels only: [classes].

    Source: the OpenMIC-2018 baseline, which reports the macro mean of both at threshold 0.4.  An
    F1 without any positive or prediction counts as 0.
    """
    guess = scores >= threshold
    positive, negative = labels == 1, labels == 0
    hit, false = (guess & positive).sum(0), (guess & negative).sum(0)
    missed, rejected = (~guess & positive).sum(0), (~guess & negative).sum(0)
    wrong = false + missed
    f1_positive = 2 * hit / np.maximum(1, 2 * hit + wrong)
    f1_negative = 2 * rejected / np.maximum(1, 2 * rejected + wrong)
    return np.asarray((f1_positive + f1_negative) / 2)


def accuracy(labels: Labels, scores: Reals) -> float | None:
    """Share of the clips with exactly one positive label whose highest score is that class; None without any."""
    rows = (labels == 1).sum(1) == 1
    if not rows.any():
        return None
    return float((scores[rows].argmax(1) == (labels[rows] == 1).argmax(1)).mean())


def check(labels: Labels, scores: Reals, classes: Sequence[str]) -> None:
    """Refuse what cannot be scored.

    Raises:
        ValueError: shapes that do not fit, labels other than 1, 0 and -1, or scores that are not finite.
    """
    if labels.shape != scores.shape or labels.ndim != 2 or labels.shape[1] != len(classes):
        raise ValueError(f"labels are {labels.shape} and scores {scores.shape}, with {len(classes)} class names")
    if not np.isin(labels, (-1, 0, 1)).all():
        raise ValueError(f"labels must be 1, 0 or -1 (unknown), found {sorted(set(np.unique(labels)) - {-1, 0, 1})}")
    if not np.isfinite(scores).all():
        raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite")


def macro(values: Reals) -> Reals:
    """Mean over the classes that have a value: [weightings, classes] to [weightings], NaN where none has."""
    found = np.isfinite(values)
    total = np.where(found, values, 0).sum(1)
    return np.asarray(np.where(found.any(1), total / np.maximum(1, found.sum(1)), np.nan))


def _group_ends(ordered: Reals) -> npt.NDArray[np.intp]:
    """Where runs of equal scores end: tied clips share one threshold."""
    if not len(ordered):
        return np.zeros(0, dtype=np.intp)
    return np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)


def _rank_class(positive: npt.NDArray[np.bool_], ends: npt.NDArray[np.intp], weights: Reals) -> tuple[Reals, Reals]:
    """One class, clips in descending order of score: weights [weightings, clips] to two [weightings].

    AP = sum over thresholds of (gain in recall) x precision.
    AUC = P(positive above negative) + half of P(tied).
    """
    missing = np.full(len(weights), np.nan)
    if not positive.any() or positive.all():
        return missing, missing
    true = np.cumsum(weights * positive, axis=1)[:, ends]
    false = np.cumsum(weights * ~positive, axis=1)[:, ends]
    n_positive, n_negative = true[:, -1], false[:, -1]
    gain = np.diff(true, axis=1, prepend=0)
    precision = true / np.maximum(true + false, np.finfo(float).tiny)
    above = true - gain / 2
    wins = (np.diff(false, axis=1, prepend=0) * above).sum(1)
    usable = (n_positive > 0) & (n_negative > 0)
    divisor = np.where(usable, n_positive, 1)
    ap = np.where(usable, (gain * precision).sum(1) / divisor, np.nan)
    roc_auc = np.where(usable, wins / (divisor * np.where(usable, n_negative, 1)), np.nan)
    return ap, roc_auc


def _mean(values: Reals, usable: npt.NDArray[np.bool_]) -> float | None:
    return float(values[usable].mean()) if usable.any() else None


def _class_scores(
    labels: Labels, classes: Sequence[str], ranking: Ranking, f1: Reals, usable: npt.NDArray[np.bool_]
) -> tuple[ClassScore, ...]:
    def number(values: Reals, index: int) -> float | None:
        return float(values[index]) if usable[index] else None

    return tuple(
        ClassScore(
            name=name,
            n_positive=int((labels[:, index] == 1).sum()),
            n_negative=int((labels[:, index] == 0).sum()),
            ap=number(ranking.ap[0], index),
            roc_auc=number(ranking.roc_auc[0], index),
            f1=number(f1, index),
        )
        for index, name in enumerate(classes)
    )
