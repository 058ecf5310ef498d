"""Intervals that are seeded, paired, fast, and about as wide as theory says."""

from __future__ import annotations

import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from pipeline.evaluation.bootstrap import draw, interval, metric_interval, paired, paired_interval, resample, sd
from pipeline.evaluation.metrics import score


def example(n_clips: int = 300, n_classes: int = 12, strength: float = 0.3, seed: int = 0):
    generator = np.random.default_rng(seed)
    labels = (generator.random((n_clips, n_classes)) < 0.3).astype(np.int8)
    return labels, strength * labels + generator.normal(0.0, 0.3, labels.shape)


def test_counts_add_up_and_are_seeded():
    counts = draw(30, n_resamples=50, seed=4)
    assert counts.shape == (50, 30)
    assert (counts.sum(1) == 30).all()
    np.testing.assert_array_equal(counts, draw(30, n_resamples=50, seed=4))
    assert (counts != draw(30, n_resamples=50, seed=5)).any()


def test_clips_of_one_work_are_drawn_together():
    units = ["a", "a", "b", "c", "c", "c"]
    counts = draw(6, n_resamples=40, units=units)
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 3] == counts[:, 5]).all()
    assert (counts[:, 0] + counts[:, 2] + counts[:, 3] == 3).all()


def test_a_resample_is_scikit_learn_on_the_drawn_clips():
    labels, scores = example(80, 3)
    counts = draw(80, n_resamples=3)
    ours = resample(labels, scores, counts).map
    for row, value in zip(counts, ours, strict=True):
        drawn = np.repeat(np.arange(80), row.astype(int))
        reference = [average_precision_score(labels[drawn, column], scores[drawn, column]) for column in range(3)]
        assert value == pytest.approx(np.mean(reference))


def test_the_interval_holds_the_value_and_shrinks_with_more_clips():
    widths = []
    for n_clips in (200, 3200):
        labels, scores = example(n_clips, 4)
        value = score(labels, scores, ["a", "b", "c", "d"]).map
        found = interval(resample(labels, scores, draw(n_clips, n_resamples=400)).map, value)
        assert found.low < value < found.high
        widths.append(found.high - found.low)
    assert widths[0] / widths[1] == pytest.approx(4, rel=0.35)


def test_an_interval_lies_about_the_value_though_resamples_lie_above_it():
    labels, scores = example(150, 12, strength=0.2)
    labels[:, :] = labels & (np.random.default_rng(1).random(labels.shape) < 0.2)  # few positives, much shift
    value = score(labels, scores, [str(column) for column in range(12)]).map
    values = resample(labels, scores, draw(150, n_resamples=600)).map
    assert np.quantile(values, [0.025, 0.975]).mean() > value + 0.02
    found = interval(values, value)
    assert (found.low + found.high) / 2 == pytest.approx(value, abs=0.006)
    assert metric_interval(np.array([0.9, 1.0, 1.1]), 0.99).high == 1.0


def test_a_run_against_itself_differs_by_nothing():
    labels, scores = example()
    values = resample(labels, scores, draw(len(labels), n_resamples=100)).map
    found = paired_interval({1: values}, {1: values}, 0.0)
    assert (found.low, found.high) == (0, 0)


def test_pairing_is_narrower_than_two_intervals():
    labels, scores = example()
    better = scores + 0.02 * labels
    counts = draw(len(labels), n_resamples=300)
    first, second = resample(labels, better, counts).map, resample(labels, scores, counts).map
    difference = paired_interval({1: first}, {1: second}, first.mean() - second.mean())
    alone = interval(second, second.mean())
    assert difference.low > 0
    assert difference.high - difference.low < (alone.high - alone.low) / 3


def test_seeds_are_paired_by_number_not_by_order():
    found = paired({3: 0.75, 1: 0.5, 9: 0.1}, {1: 0.25, 3: 0.25, 2: 0.9})
    assert found.seeds == (1, 3)
    assert found.differences == (0.25, 0.5)
    assert found.sd == pytest.approx(np.std([0.25, 0.5], ddof=1))
    assert paired({1: 0.5}, {2: 0.5}) is None
    assert paired_interval({1: np.ones(3)}, {2: np.ones(3)}, None).low is None


def test_one_value_has_no_spread():
    assert sd([0.4]) is None
    assert interval(np.full(5, np.nan), 0.5).low is None
    assert interval(np.ones(5), None).low is None
    assert draw(0, n_resamples=3).shape == (3, 0)


def test_a_thousand_resamples_of_the_demo_take_about_a_second():
    labels, scores = example(300, 12)
    counts = draw(300)
    best = np.inf
    for _ in range(3):
        begun = time.perf_counter()
        resample(labels, scores, counts)
        best = min(best, time.perf_counter() - begun)
    assert best < 3, f"{best:.2f} s"
