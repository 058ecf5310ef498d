"""The teacher's probe: from cached embeddings to logits for every clip.

``ridge`` (default): time means of all teachers side by side, standardised over all training clips,
``sign(z) log(1 + |z|)``, ridge on 0 / 1 targets with its strength by leave-one-out error, and one
logistic curve for all classes fitted on leave-one-out scores.  No validation labels are needed.  Views of
the labelled clips may be fitted on, too; a clip is then left out with its views.

``logistic``: one L2 logistic regression per class on the standardised means, C by validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.distillation.features import Column
from pipeline.distillation.joining import ABSENT
from pipeline.distillation.ridge import fit_curve, fit_ridge, fit_temperature
from pipeline.errors import SettingError, TrainingError
from pipeline.evaluation.metrics import macro, rank

Reals = NDArray[np.floating[Any]]
Labels = NDArray[np.int8]
Task = Literal["multi-label", "single-label"]

LOGISTIC_CS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
_READ_CLIPS = 256
_STEADY = 1e-6
_LEAST_SLOPE = 2e-3  # the least that a temperature can be is 1e-3


@dataclass(frozen=True, eq=False)
class Probe:
    """Linear scores on standardised features, turned into logits by one curve.

    Shape:
        mean, scale: [channels]; weights: [channels, classes]; bias: [classes].

    Attributes:
        compress: whether ``sign(z) log(1 + |z|)`` follows standardisation.
        slope, shift: logits are ``slope * score + shift``.
        about: what was chosen and by which numbers; JSON values.
    """

    mean: Reals
    scale: Reals
    compress: bool
    weights: Reals
    bias: Reals
    slope: float
    shift: float
    about: dict[str, Any]

    def logits(self, features: Reals) -> NDArray[np.float32]:
        """[clips, channels] to [clips, classes]; rows of NaN stay NaN."""
        z = _prepare(features, self.mean, self.scale, self.compress)
        return np.asarray(self.slope * (z @ self.weights + self.bias) + self.shift, np.float32)

    @property
    def doubt(self) -> str:
        """What speaks against learning from this probe; empty where nothing is known to."""
        if self.slope > _LEAST_SLOPE:
            return ""
        return (
            f"The probe has learnt nothing from {self.about['n_clips']:,} labelled clips: on clips left out, higher "
            f"scores are no sign of the label (calibration slope {self.slope:.3g}). A student taught by it learns "
            "noise. Give more labels, or look whether store and labels are of the same clips."
        )

    @property
    def n_parameters(self) -> int:
        """Learned numbers: weights, biases and the curve's two."""
        return int(self.weights.size + self.bias.size + 2)


def clip_features(columns: Sequence[Column]) -> NDArray[np.float32]:
    """Time means over valid frames of all stores side by side: [clips, channels of all].

    Clips that are absent from any store, or have no valid frame, are rows of NaN.
    """
    return np.concatenate([_time_means(column) for column in columns], axis=1)


def _time_means(column: Column) -> NDArray[np.float32]:
    n_frames = column.n_frames().numpy()
    means = np.full((len(column.rows), column.store.shape[2]), np.nan, np.float32)
    present = np.flatnonzero((column.rows != ABSENT) & (n_frames > 0))
    present = present[np.argsort(column.rows[present], kind="stable")]
    for first in range(0, len(present), _READ_CLIPS):
        part = present[first : first + _READ_CLIPS]
        values = column.read(part).numpy().astype(np.float32)
        keep = np.arange(values.shape[1])[None, :] < n_frames[part][:, None]
        means[part] = (values * keep[:, :, None]).sum(1) / n_frames[part][:, None]
    return means


def fit_probe(
    kind: str,
    features: Reals,
    labels: Labels,
    task: Task,
    *,
    valid: tuple[Reals, Labels] | None,
    views: Sequence[Reals] = (),
) -> Probe:
    """Fit a probe.

    Args:
        kind: ``ridge`` or ``logistic``.
        valid: features and labels of the validation clips; only ``logistic`` reads them.
        views: features of views of the training clips, in the same order, NaN where there are none;
            only ``ridge`` is fitted on them, beside the clips.

    Shape:
        features: [training clips, channels], rows of NaN where the teacher has nothing.
        labels: [training clips, classes], -1 where unknown or hidden.

    Raises:
        TrainingError: no training clip has both features and labels, or no class has both kinds.
    """
    there = np.isfinite(features).all(axis=1)
    mean, scale = features[there].mean(0), features[there].std(0)
    scale = np.where(scale > _STEADY * (1 + np.abs(mean)), scale, np.inf)  # a constant channel says nothing
    usable = there & (labels >= 0).any(axis=1)
    _require_both_kinds(labels[usable])
    if kind == "logistic":
        return _fit_logistic(features[usable], labels[usable], mean, scale, valid)
    heard = [_prepare(view[usable], mean, scale, True) for view in views]
    return _fit_ridge(_prepare(features[usable], mean, scale, True), labels[usable], mean, scale, task, views=heard)


def _require_both_kinds(labels: Labels) -> None:
    both = (labels == 1).any(axis=0) & (labels == 0).any(axis=0) if len(labels) else np.zeros(0, bool)
    if not both.any():
        raise TrainingError(
            f"The probe has {len(labels)} labelled clips with teacher features, and no class has both a positive and "
            "a negative among them. Are the store and the clip table of the same dataset?"
        )


def _fit_ridge(x: Reals, labels: Labels, mean: Reals, scale: Reals, task: Task, *, views: Sequence[Reals]) -> Probe:
    ridge = fit_ridge(x, labels, views=views)
    known = labels >= 0
    if task == "single-label":
        rows = known.all(axis=1) & (labels == 1).any(axis=1)
        slope, shift = fit_temperature(ridge.loo[rows], (labels[rows] == 1).argmax(1)), 0.0
    else:
        slope, shift = fit_curve(ridge.loo[known], labels[known] == 1)
    about = {
        "kind": "ridge",
        "strength": ridge.strength,
        "loo_error": ridge.loo_error[ridge.strength],
        "slope": slope,
        "shift": shift,
        "n_clips": len(labels),
    }
    if views:
        about["n_views"] = int(sum(np.isfinite(view).all(axis=1).sum() for view in views))
    return Probe(mean, scale, True, ridge.weights, ridge.bias, slope, shift, about)


def _fit_logistic(
    features: Reals, labels: Labels, mean: Reals, scale: Reals, valid: tuple[Reals, Labels] | None
) -> Probe:
    if valid is None or not (valid[1] == 1).any():
        raise SettingError("The logistic probe chooses C on validation labels, and there are none: use --probe ridge.")
    x = _prepare(features, mean, scale, False)
    there = np.isfinite(valid[0]).all(axis=1)
    x_valid, y_valid = _prepare(valid[0][there], mean, scale, False), valid[1][there]
    tried: dict[float, tuple[float, Reals, Reals]] = {}
    for c in LOGISTIC_CS:
        weights, bias = _logistic_classes(x, labels, c)
        tried[c] = (float(macro(rank(y_valid, x_valid @ weights + bias).ap)[0]), weights, bias)
    best = max(tried, key=lambda c: tried[c][0])
    score, weights, bias = tried[best]
    about = {"kind": "logistic", "C": best, "valid_map": score, "n_clips": len(labels)}
    return Probe(mean, scale, False, weights, bias, 1.0, 0.0, about)


def _logistic_classes(x: Reals, labels: Labels, c: float) -> tuple[Reals, Reals]:
    """One regression per class on its known labels; a class of one kind gets its log odds."""
    from sklearn.linear_model import LogisticRegression

    weights, bias = np.zeros((x.shape[1], labels.shape[1])), np.zeros(labels.shape[1])
    for column in range(labels.shape[1]):
        rows = labels[:, column] >= 0
        y = labels[rows, column]
        if len(np.unique(y)) < 2:
            bias[column] = np.log((y.sum() + 0.5) / (len(y) - y.sum() + 0.5))
            continue
        model = LogisticRegression(C=c, max_iter=1000).fit(x[rows], y)
        weights[:, column], bias[column] = model.coef_[0], model.intercept_[0]
    return weights, bias


def _prepare(features: Reals, mean: Reals, scale: Reals, compress: bool) -> Reals:
    z = (np.asarray(features, np.float64) - mean) / scale
    return np.asarray(np.sign(z) * np.log1p(np.abs(z)) if compress else z)
