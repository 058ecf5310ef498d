"""The probe: closed forms against brute force, calibration, and scores keyed to their clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.distillation.features import Column
from pipeline.distillation.probe import clip_features, fit_probe
from pipeline.distillation.ridge import fit_curve, fit_ridge, fit_temperature
from pipeline.errors import SettingError, TrainingError
from pipeline.evaluation.metrics import macro, rank
from pipeline.stores import example_meta, open_store, write_store


def _brute(x: np.ndarray, y: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """Ridge with an intercept that is not penalised, by the normal equations."""
    design = np.c_[x, np.ones(len(x))]
    ridge = penalty * np.eye(design.shape[1])
    ridge[-1, -1] = 0
    theta = np.linalg.solve(design.T @ design + ridge, design.T @ y)
    return theta[:-1], float(theta[-1])


@pytest.mark.parametrize("shape", [(25, 6), (12, 40)], ids=["tall", "wide"])
def test_leave_one_out_equals_refitting(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    labels = (x[:, :3] + rng.normal(size=(shape[0], 3)) > 0).astype(np.int8)
    ridge = fit_ridge(x, labels, strengths=(0.1,))
    centred = x - x.mean(0)
    penalty = 0.1 * (centred**2).sum() / len(x)
    for column in range(3):
        weights, bias = _brute(x, labels[:, column].astype(float), penalty)
        np.testing.assert_allclose(ridge.weights[:, column], weights, atol=1e-8)
        assert ridge.bias[column] == pytest.approx(bias)
        for clip in range(shape[0]):
            others = np.arange(shape[0]) != clip
            w, b = _brute(x[others], labels[others, column].astype(float), penalty)
            assert ridge.loo[clip, column] == pytest.approx(float(x[clip] @ w + b), abs=1e-8)


def test_unknown_labels_do_not_count_per_class() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 8))
    labels = (x[:, :2] > 0).astype(np.int8)
    labels[20:, 1] = -1
    ridge = fit_ridge(x, labels, strengths=(0.1,))
    alone = fit_ridge(x[:20], labels[:20, 1:], strengths=(0.1,))
    np.testing.assert_allclose(ridge.weights[:, 1], alone.weights[:, 0])
    assert np.isnan(ridge.loo[20:, 1]).all()
    assert np.isfinite(ridge.loo[:, 0]).all()


def test_the_strength_has_the_least_leave_one_out_error() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 200))
    labels = (x[:, :1] + 0.5 * rng.normal(size=(60, 1)) > 0).astype(np.int8)
    ridge = fit_ridge(x, labels)
    assert ridge.loo_error[ridge.strength] == min(ridge.loo_error.values())
    assert len(ridge.loo_error) > 5


def test_the_curve_finds_the_odds_it_was_made_with() -> None:
    rng = np.random.default_rng(3)
    scores = rng.random(200_000)
    positive = rng.random(200_000) < 1 / (1 + np.exp(-(10 * scores - 4.2)))
    slope, shift = fit_curve(scores, positive)
    assert slope == pytest.approx(10, rel=0.03)
    assert shift == pytest.approx(-4.2, rel=0.03)


def test_the_curve_stays_finite_on_separable_scores() -> None:
    slope, shift = fit_curve(np.array([0.0, 0.1, 0.9, 1.0]), np.array([False, False, True, True]))
    assert 0 < slope < 100
    assert np.isfinite(shift)


def test_the_temperature_finds_the_odds_it_was_made_with() -> None:
    rng = np.random.default_rng(4)
    scores = rng.random((50_000, 4))
    noisy = 6 * scores + rng.gumbel(size=scores.shape)
    assert fit_temperature(scores, noisy.argmax(1)) == pytest.approx(6, rel=0.03)


def _data(n: int = 300, channels: int = 20, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    x = rng.normal(size=(n, channels)).astype(np.float32) * rng.uniform(0.1, 30, channels) + 5
    z = (x - x.mean(0)) / x.std(0)
    labels = (z[:, :classes] + 0.7 * rng.normal(size=(n, classes)) > 0.8).astype(np.int8)
    return x, labels


def _with_views(n: int = 60, channels: int = 20) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Clips, two noisy views of them of which some are absent, labels of which some are unknown."""
    x, labels = _data(n, channels)
    rng = np.random.default_rng(8)
    views = [x + 0.5 * rng.normal(size=x.shape) for _ in range(2)]
    views[0][5] = views[1][5] = views[1][9:20] = np.nan
    labels[30:40, 1] = -1
    return x, views, labels


@pytest.mark.parametrize(("n", "channels"), [(60, 20), (12, 40)], ids=["primal", "dual"])
def test_a_clip_is_left_out_with_its_views(n: int, channels: int) -> None:
    x, views, labels = _with_views(n, channels)
    ridge = fit_ridge(x, labels, strengths=(0.1,), views=views)
    column = labels[:, 1] >= 0
    rows = [(version, clip) for version, array in enumerate((x, *views)) for clip in np.flatnonzero(column)
            if np.isfinite(array[clip]).all()]  # fmt: skip
    data = np.stack([(x, *views)[version][clip] for version, clip in rows])
    y = np.array([float(labels[clip, 1] == 1) for _, clip in rows])
    whole = data - data.mean(0)
    penalty = 0.1 * (np.linalg.eigvalsh(whole @ whole.T).clip(0).sum() / len(data))
    for clip in (0, 5, 9, 11):
        keep = np.array([other != clip for _, other in rows])
        mean, centred = data[keep].mean(0), data[keep] - data[keep].mean(0)
        weights = np.linalg.solve(
            centred.T @ centred + penalty * np.eye(channels), centred.T @ (y[keep] - y[keep].mean())
        )
        assert ridge.loo[clip, 1] == pytest.approx((x[clip] - mean) @ weights + y[keep].mean(), abs=1e-6)
    assert ridge.loo.shape == labels.shape
    assert (np.isnan(ridge.loo) == (labels < 0)).all()


def test_views_that_are_all_absent_change_nothing() -> None:
    x, views, labels = _with_views()
    plain, absent = fit_ridge(x, labels), fit_ridge(x, labels, views=[np.full_like(x, np.nan)])
    assert absent.strength == plain.strength
    np.testing.assert_allclose(absent.weights, plain.weights, atol=1e-12)
    np.testing.assert_allclose(absent.loo, plain.loo, atol=1e-6)
    assert abs(fit_ridge(x, labels, views=views).weights - plain.weights).max() > 1e-4


def test_a_probe_hears_views_of_its_labelled_clips() -> None:
    x, views, labels = _with_views()
    labels[50:] = -1
    probe = fit_probe("ridge", x, labels, "multi-label", valid=None, views=views)
    assert (probe.about["n_clips"], probe.about["n_views"]) == (50, 49 + 49 - 11)
    changed = [np.where(labels[:, :1] >= 0, view, 99.0) for view in views]
    again = fit_probe("ridge", x, labels, "multi-label", valid=None, views=changed)
    assert np.array_equal(probe.weights, again.weights)


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_probes_rank_and_are_calibrated(kind: str) -> None:
    x, labels = _data()
    hidden = labels.copy()
    hidden[150:] = -1
    probe = fit_probe(kind, x, hidden, "multi-label", valid=(x[150:220], labels[150:220]))
    logits = probe.logits(x[220:])
    assert logits.dtype == np.float32
    assert float(macro(rank(labels[220:], logits).ap)[0]) > 0.6
    assert float((1 / (1 + np.exp(-logits))).mean()) == pytest.approx(float(labels[220:].mean()), abs=0.08)
    assert probe.n_parameters == 20 * 4 + 4 + 2


def test_constant_channels_and_absent_clips_do_no_harm() -> None:
    x, labels = _data()
    x[:, 3] = 7.25
    x[10] = np.nan
    probe = fit_probe("ridge", x, labels, "multi-label", valid=None)
    logits = probe.logits(x)
    assert np.isnan(logits[10]).all()
    assert np.isfinite(np.delete(logits, 10, 0)).all()


def test_single_label_scores_are_a_softmax() -> None:
    rng = np.random.default_rng(6)
    truth = rng.integers(0, 3, 200)
    x = (np.eye(3)[truth] * 2 + rng.normal(size=(200, 3))).astype(np.float32)
    probe = fit_probe("ridge", x, np.eye(3, dtype=np.int8)[truth], "single-label", valid=None)
    assert (probe.logits(x).argmax(1) == truth).mean() > 0.8
    assert probe.shift == 0
    assert probe.slope > 1


@pytest.mark.parametrize("task", ["multi-label", "single-label"])
def test_a_probe_that_learnt_nothing_says_so(task: str) -> None:
    rng = np.random.default_rng(7)
    labels = np.eye(2, dtype=np.int8)[np.arange(40) % 2]
    noise = rng.normal(size=(40, 30))
    assert "learnt nothing from 40 labelled clips" in fit_probe("ridge", noise, labels, task, valid=None).doubt
    telling = noise + 3 * labels[:, :1]
    assert fit_probe("ridge", telling, labels, task, valid=None).doubt == ""


def test_probes_that_cannot_be_fitted_say_why() -> None:
    x, labels = _data()
    with pytest.raises(TrainingError, match="no class has both a positive and a negative"):
        fit_probe("ridge", x, np.full_like(labels, -1), "multi-label", valid=None)
    with pytest.raises(SettingError, match="use --probe ridge"):
        fit_probe("logistic", x, labels, "multi-label", valid=None)


def test_time_means_see_valid_frames_only(tmp_path: Path) -> None:
    features = np.random.default_rng(7).normal(size=(3, 4, 2)).astype(np.float32)
    n_frames = np.array([4, 2, 0])
    for k, n in enumerate(n_frames):
        features[k, n:] = 0
    path = tmp_path / "a.zarr"
    meta = example_meta(frames=4, channels=2)
    write_store(path, meta=meta, clip_id=["a", "b", "c"], features=features, n_frames=n_frames)
    with open_store(path) as store:
        means = clip_features([Column(store, np.array([1, 0, 2, -1])), Column(store, np.array([0, 1, 2, 0]))])
    np.testing.assert_allclose(means[0], np.r_[features[1, :2].mean(0), features[0].mean(0)], rtol=1e-6)
    assert np.isnan(means[2]).all()
    assert np.isnan(means[3, :2]).all()
