"""Which teacher?  Stores scored for a labelled task before any student is trained.

Two scores.  The probe's: out-of-fold predictions of the ridge probe, folds by group, judged as a
student would be.  LogME: how much evidence a linear model of the features finds for the labels,
without any fold.  Both need only cached embeddings, so a store takes seconds.

Sources: You, Liu, Wang and Long, LogME: Practical Assessment of Pre-trained Models for Transfer
Learning, ICML 2021; MacKay's fixed point for the two precisions, Neural Computation 1992.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.distillation.choosing import open_teachers
from pipeline.distillation.features import Column
from pipeline.distillation.joining import join_stores
from pipeline.distillation.preparation import hide_labels, used_splits
from pipeline.distillation.probe import clip_features, fit_probe
from pipeline.distillation.trainer import find_table
from pipeline.errors import SettingError, StoreError
from pipeline.evaluation.bootstrap import Interval, draw, interval, metric_interval, resample
from pipeline.evaluation.metrics import macro, rank
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, Warned, ignore
from pipeline.manifest import TRAIN, ClipTable
from pipeline.stores import StoreReader

FOLDS = 5
_RESAMPLES = 300
_FIXED_POINT_STEPS = 50
_TOGETHER = "all together"
Reals = NDArray[np.floating[Any]]
Labels = NDArray[np.int8]


@dataclass(frozen=True)
class Ranked:
    """One store, or all of them side by side.

    Attributes:
        map, roc_auc: macro means of out-of-fold probe scores, and the 95 % interval of the mAP over
            groups of clips.
        logme: mean over classes of log evidence per clip; higher is better, the scale is its own.
        gain: mAP above the first store's on the same clips, and its interval; None for the first.
    """

    name: str
    channels: int
    n_clips: int
    map: float
    map_interval: Interval
    roc_auc: float
    logme: float
    gain: float | None
    gain_interval: Interval | None
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def rank_teachers(
    stores: Sequence[str],
    *,
    data: str,
    labelled: int | None = None,
    seed: int = 0,
    folds: int = FOLDS,
    listener: Listener = ignore,
) -> list[Ranked]:
    """Rank teacher stores for the labelled training clips of a dataset, best mAP first.

    Args:
        stores: names of stores of the dataset (``musicnn/pools``), paths or addresses.
        labelled: how many training clips may show their labels; None takes all.
        folds: how often the clips are split; groups stay whole, and files that have none.

    Raises:
        SettingError: no store named, fewer than two folds, or fewer labelled groups than folds.
        StoreError, ManifestError: a store or table that cannot be used.
    """
    if not stores or folds < 2:
        raise SettingError(f"Ranking takes at least one store and two folds, got {len(stores)} and {folds}.")
    table = find_table(data, listener)
    opened = [_open(name, table, listener) for name in stores]
    try:
        visible = hide_labels(used_splits(table, listener), labelled, seed)
        train = visible.select(visible.split == TRAIN)
        return _rank(train, opened, seed, folds, listener)
    finally:
        for store in opened:
            store.close()


def _open(name: str, table: ClipTable, listener: Listener) -> StoreReader:
    by_path = "://" in name or name.rstrip("/").endswith((".zarr", ".h5"))
    teacher, store = ((), (name,)) if by_path else ((name,), ())
    return open_teachers(teacher, store, table.name, table.clip_s, listener)[0]


def _rank(train: ClipTable, stores: Sequence[StoreReader], seed: int, folds: int, listener: Listener) -> list[Ranked]:
    names = [store.meta.name for store in stores]
    listener(TaskStarted("Ranking", len(stores) + (len(stores) > 1), "teachers"))
    begun = time.monotonic()
    parts, seconds = [], []
    for store, join in zip(stores, join_stores(train.clip_id, stores), strict=True):
        parts.append(clip_features([Column(store, join.rows)]))
        seconds.append(time.monotonic() - begun)
        begun = time.monotonic()
    there = np.isfinite(np.concatenate(parts, axis=1)).all(axis=1)
    usable = train.labelled() & there
    if lacking := int((train.labelled() & ~there).sum()):
        listener(Warned(f"{lacking:,} labelled clips are left out: not all of these stores have them."))
    groups = np.where(train.group != "", train.group, train.path)[usable].astype(str)
    if len(set(groups)) < folds:
        raise _too_few(len(set(groups)), int(usable.sum()), folds)
    if len(parts) > 1:
        parts, names, seconds = [*parts, np.concatenate(parts, axis=1)], [*names, _TOGETHER], [*seconds, 0.0]
    scored = []
    for part in parts:
        begun = time.monotonic()
        # Standardised over labelled and unlabelled clips alike, as the probe of a student is.
        out = _out_of_fold(
            part[there], train.labels[there], usable[there], groups, folds=folds, seed=seed, task=train.task
        )
        evidence = log_evidence(_standard(part[there])[usable[there]], train.labels[usable])
        scored.append((out, evidence, time.monotonic() - begun))
        listener(TaskAdvanced("Ranking", 1, names[len(scored) - 1]))
    listener(TaskFinished("Ranking"))
    return _table(names, parts, train.labels[usable], groups, scored=scored, seconds=seconds)


def _too_few(n_groups: int, n_clips: int, folds: int) -> SettingError | StoreError:
    if not n_clips:
        return StoreError("No labelled training clip is in all of these stores. Are they of this dataset?")
    return SettingError(f"{n_groups} groups of labelled clips cannot make {folds} folds. Lower --folds or label more.")


def _out_of_fold(
    features: Reals,
    labels: Labels,
    usable: NDArray[np.bool_],
    groups: NDArray[Any],
    *,
    folds: int,
    seed: int,
    task: str,
) -> Reals:
    """Probe scores of every usable clip from a probe that saw no clip of its group: [clips, classes]."""
    names = np.unique(groups)
    fold_of = dict(
        zip(np.random.default_rng([seed, 23]).permutation(names).tolist(), np.arange(len(names)), strict=True)
    )
    fold = np.array([fold_of[name] % folds for name in groups.tolist()])
    rows = np.flatnonzero(usable)
    scores = np.zeros((len(rows), labels.shape[1]), np.float32)
    for k in range(folds):
        hidden = labels.copy()
        hidden[~usable] = -1
        hidden[rows[fold == k]] = -1
        probe = fit_probe("ridge", features, hidden, task, valid=None)  # type: ignore[arg-type]
        scores[fold == k] = probe.logits(features[rows[fold == k]])
    return scores


def log_evidence(features: Reals, labels: Labels) -> float:
    """LogME: the largest log evidence of a Bayesian linear model, per clip, mean over classes.

    Shape:
        features: [clips, channels], standardised.
        labels: [clips, classes], 1 / 0 / -1; a class is judged on its known clips.
    """
    found = []
    for column in range(labels.shape[1]):
        known = labels[:, column] >= 0
        y = (labels[known, column] == 1).astype(np.float64)
        if 0 < y.sum() < len(y):
            found.append(_log_evidence(features[known], y))
    return float(np.mean(found)) if found else float("nan")


def _log_evidence(features: Reals, y: Reals) -> float:
    x = np.asarray(features, np.float64)
    n, d = x.shape
    values, vectors = np.linalg.eigh(x @ x.T if n <= d else x.T @ x)
    values = np.maximum(values, 0)
    # Squared projections of y on the left singular vectors of x; what no feature reaches is the rest.
    seen = vectors if n <= d else (x @ vectors) / np.sqrt(np.maximum(values, 1e-12))
    z2 = np.where(values > 1e-9 * values.max(), (seen.T @ y) ** 2, 0.0)
    rest = max(0.0, float(y @ y - z2.sum()))
    alpha, beta = 1.0, 1.0  # precisions of weights and noise
    for _ in range(_FIXED_POINT_STEPS):
        ratio = alpha / beta
        gamma = float((values / (values + ratio)).sum())
        weights = float((values * z2 / (values + ratio) ** 2).sum())
        error = rest + float((z2 * ratio**2 / (values + ratio) ** 2).sum())
        before, alpha, beta = ratio, gamma / max(weights, 1e-12), max(n - gamma, 1e-9) / max(error, 1e-12)
        if abs(alpha / beta - before) <= 1e-4 * before:
            break
    ratio = alpha / beta
    weights = float((values * z2 / (values + ratio) ** 2).sum())
    error = rest + float((z2 * ratio**2 / (values + ratio) ** 2).sum())
    determinant = float(np.log(alpha + beta * values).sum()) + max(0, d - len(values)) * np.log(alpha)
    evidence = (
        d * np.log(alpha) + n * np.log(beta) - determinant - beta * error - alpha * weights - n * np.log(2 * np.pi)
    )
    return float(evidence / 2 / n)


def _standard(features: Reals) -> Reals:
    """Standardised as the probe does, large values compressed; a constant channel becomes 0."""
    z = (features - features.mean(0)) / np.where(features.std(0) > 1e-6, features.std(0), np.inf)
    return np.asarray(np.sign(z) * np.log1p(np.abs(z)))


def _table(
    names: Sequence[str],
    parts: Sequence[Reals],
    labels: Labels,
    groups: NDArray[Any],
    *,
    scored: Sequence[tuple[Reals, float, float]],
    seconds: Sequence[float],
) -> list[Ranked]:
    counts = draw(len(labels), n_resamples=_RESAMPLES, units=groups.tolist())
    samples = [resample(labels, scores, counts).map for scores, _, _ in scored]
    means = [(float(macro(r.ap)[0]), float(macro(r.roc_auc)[0])) for r in (rank(labels, s) for s, _, _ in scored)]
    order = sorted(range(len(names)), key=lambda k: -means[k][0])
    best = order[0]
    return [
        Ranked(
            name=names[k],
            channels=parts[k].shape[1],
            n_clips=len(labels),
            map=means[k][0],
            map_interval=metric_interval(samples[k], means[k][0]),
            roc_auc=means[k][1],
            logme=scored[k][1],
            gain=None if k == best else means[k][0] - means[best][0],
            gain_interval=None if k == best else interval(samples[k] - samples[best], means[k][0] - means[best][0]),
            seconds=seconds[k] + scored[k][2],
        )
        for k in order
    ]
