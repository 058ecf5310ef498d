"""Ridge regression on 0 / 1 targets, its leave-one-out error in closed form, and its calibration.

Sources: the leave-one-out identity ``y - s_loo = (y - s) / (1 - h)`` of linear smoothers (Hastie,
Tibshirani and Friedman, Elements of Statistical Learning, section 7.10), and for the rows of a clip
and its views, left out together, the same with the block of the hat matrix in place of ``h``:
``(I - H)^-1 (y - s)``; one logistic curve for all classes after Platt, 1999, fitted on leave-one-out
scores as in our pilot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.floating[Any]]

STRENGTHS = tuple(float(10.0**power) for power in np.arange(-4, 3.01, 0.5))
_NEWTON_STEPS = 100
_CLIPS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Ridge:
    """A linear map from features to one score per class.

    Attributes:
        strength: penalty over the mean eigenvalue of the features' Gram matrix.
        loo: [clips, classes], scores of the training clips as they are, each from all other clips and
            their views; NaN where unknown.
        loo_error: mean squared leave-one-out error at each of the strengths that were tried.
    """

    weights: Reals
    bias: Reals
    strength: float
    loo: Reals
    loo_error: dict[float, float]

    def scores(self, features: Reals) -> Reals:
        """[clips, channels] to [clips, classes]."""
        return np.asarray(features @ self.weights + self.bias)


def fit_ridge(
    features: Reals,
    labels: NDArray[np.int8],
    strengths: tuple[float, ...] = STRENGTHS,
    *,
    views: Sequence[Reals] = (),
) -> Ridge:
    """Fit every class on the clips whose label is known, and on their views; one strength for all classes.

    Views are more rows to fit on; errors are counted, and scores given, of the clips as they are.

    Shape:
        features, and each of the views: [clips, channels]; rows of NaN where a view is absent.
        labels: [clips, classes], 1 / 0 / -1.
    """
    shares = [_Share(features, known, labels[:, columns], views) for known, columns in _groups(labels >= 0)]
    errors = {s: _weighted([share.loo_error(s) for share in shares]) for s in strengths}
    strength = min(errors, key=lambda s: errors[s])
    loo = np.full(labels.shape, np.nan)
    weights = np.zeros((features.shape[1], labels.shape[1]))
    bias = np.zeros(labels.shape[1])
    for share, (known, columns) in zip(shares, _groups(labels >= 0), strict=True):
        loo[np.ix_(known, columns)] = share.loo(strength)
        weights[:, columns], bias[columns] = share.solve(strength)
    return Ridge(weights, bias, strength, loo, errors)


def _groups(known: NDArray[np.bool_]) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Classes that are known on the same clips share one decomposition: rows and columns of each."""
    patterns: dict[bytes, list[int]] = {}
    for column in range(known.shape[1]):
        patterns.setdefault(np.packbits(known[:, column]).tobytes(), []).append(column)
    groups = [(np.flatnonzero(known[:, columns[0]]), np.array(columns, np.intp)) for columns in patterns.values()]
    return [(rows, columns) for rows, columns in groups if len(rows)]


class _Share:
    """The classes that are known on one set of clips; the intercept is not penalised."""

    def __init__(
        self, features: Reals, rows: NDArray[np.intp], labels: NDArray[np.int8], views: Sequence[Reals]
    ) -> None:
        versions = [np.asarray(version, np.float64)[rows] for version in (features, *views)]
        self.there = np.stack([np.isfinite(version).all(axis=1) for version in versions])
        self.there[0] = True
        x = np.concatenate([version[there] for version, there in zip(versions, self.there, strict=True)])
        self.y = (labels[rows] == 1).astype(np.float64)[np.nonzero(self.there)[1]]
        self.mean_x, self.mean_y = x.mean(0), self.y.mean(0)
        self.x, self.centred = x - self.mean_x, self.y - self.mean_y
        # Gram matrix of clips where they are fewer than channels, else of channels: X X' or X' X.
        self.dual = len(x) <= x.shape[1]
        gram = self.x @ self.x.T if self.dual else self.x.T @ self.x
        values, vectors = np.linalg.eigh(gram)
        self.values = np.maximum(values, 0)
        keep = self.values > self.values.max() * 1e-12
        self.values = self.values[keep]
        # Columns of u are the left singular vectors of X.
        self.u = vectors[:, keep] if self.dual else self.x @ vectors[:, keep] / np.sqrt(self.values)
        self.scale = self.values.sum() / len(x) if len(self.values) else 1.0

    def _shrinkage(self, strength: float) -> Reals:
        return np.asarray(self.values / (self.values + strength * self.scale))

    def loo(self, strength: float) -> Reals:
        """Scores of each clip from all others, without its own views: [clips, classes]."""
        shrink = self._shrinkage(strength)
        fitted = self.mean_y + self.u @ (shrink[:, None] * (self.u.T @ self.centred))
        y, n = self.y[: self.n_clips], self.n_clips
        if len(self.there) > 1:
            return np.asarray(y - self._left_out(self.y - fitted, shrink))
        leverage = (self.u[:n] ** 2 @ shrink + 1 / len(self.y))[:, None]
        return np.asarray(y - (y - fitted) / np.maximum(1 - leverage, 1e-9))

    def _left_out(self, residual: Reals, shrink: Reals) -> Reals:
        """What is left of each clip as it is once its rows are left out together: [clips, classes]."""
        rows = (np.cumsum(self.there.reshape(-1)) - 1).reshape(self.there.shape).T  # [clips, versions]
        there, found = self.there.T, np.empty((self.n_clips, residual.shape[1]))
        for first in range(0, self.n_clips, _CLIPS_AT_ONCE):
            part = slice(first, first + _CLIPS_AT_ONCE)
            keep = there[part, :, None]
            u, left = self.u[rows[part]] * keep, residual[rows[part]] * keep
            hat = (u * shrink) @ u.transpose(0, 2, 1) + keep * keep.transpose(0, 2, 1) / len(self.y)
            found[part] = np.linalg.solve((1 + 1e-9) * np.eye(len(self.there)) - hat, left)[:, 0]
        return found

    def loo_error(self, strength: float) -> tuple[float, int]:
        """Sum of squared leave-one-out errors of the clips as they are, and their number."""
        y = self.y[: self.n_clips]
        return float(((y - self.loo(strength)) ** 2).sum()), y.size

    @property
    def n_clips(self) -> int:
        """How many clips there are; they come first among the rows."""
        return int(self.there.shape[1])

    def solve(self, strength: float) -> tuple[Reals, Reals]:
        """Weights [channels, classes] and bias [classes]."""
        inverse = 1 / (self.values + strength * self.scale)
        weights = self.x.T @ (self.u @ (inverse[:, None] * (self.u.T @ self.centred)))
        return weights, self.mean_y - self.mean_x @ weights


def _weighted(parts: list[tuple[float, int]]) -> float:
    return sum(total for total, _ in parts) / max(1, sum(n for _, n in parts))


def fit_curve(scores: Reals, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """One logistic curve ``sigmoid(a * s + b)`` by maximum likelihood, with Platt's soft targets.

    Shape:
        scores, positive: [values], all classes and clips together.

    Returns:
        ``a`` and ``b``.
    """
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    target = np.where(positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    design = np.stack([scores, np.ones_like(scores)], axis=1)
    theta = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        p = _sigmoid(design @ theta)
        gradient = design.T @ (p - target)
        curvature = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        theta = theta - step * min(1.0, 5.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-10:
            break
    return float(theta[0]), float(theta[1])


def fit_temperature(scores: Reals, classes: NDArray[np.intp]) -> float:
    """Factor ``a`` of ``softmax(a * s)`` by maximum likelihood, for classes that exclude each other.

    Shape:
        scores: [clips, classes]; classes: [clips], the true ones.
    """
    a = 1.0
    rows = np.arange(len(classes))
    for _ in range(_NEWTON_STEPS):
        z = a * scores
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        mean = (p * scores).sum(1)
        gradient = float((mean - scores[rows, classes]).sum())
        curvature = float(((p * scores**2).sum(1) - mean**2).sum()) + 1e-9
        step = max(-5.0, min(5.0, gradient / curvature))
        a = min(1e3, max(1e-3, a - step))
        if abs(step) < 1e-10:
            break
    return a


def _sigmoid(z: Reals) -> Reals:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z)))
