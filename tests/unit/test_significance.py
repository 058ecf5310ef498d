"""Intervals and tests against known answers, and what happens where n is too small."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.significance import (
    bootstrap_test,
    compare_metric,
    holm,
    spread_interval,
    student_interval,
    t_test,
)


def test_the_t_test_and_its_interval_are_those_of_scipy():
    first, second = np.random.default_rng(3).normal(0.5, 0.02, (2, 5))
    expected = stats.ttest_rel(first, second)
    assert t_test(list(first - second)) == pytest.approx(expected.pvalue)
    low, high = expected.confidence_interval(0.95)
    found = student_interval(list(first - second))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_p_is_uniform_where_there_is_no_difference():
    drawn = np.random.default_rng(0).normal(size=(2000, 4))
    p = np.array([t_test(list(row)) for row in drawn])
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_the_bootstrap_is_two_sided_and_never_surer_than_its_resamples():
    shifted = np.linspace(-0.1, 0.9, 1000)
    assert bootstrap_test(shifted, 0.4) == pytest.approx(0.2, abs=0.01)
    assert bootstrap_test(-shifted, -0.4) == pytest.approx(bootstrap_test(shifted, 0.4))
    assert bootstrap_test(shifted, 0.0) > 0.9  # shifted to what the clips themselves showed
    assert bootstrap_test(np.full(999, 0.3), 0.3) == pytest.approx(0.002)
    assert bootstrap_test(np.zeros(10), 0.0) is None
    assert bootstrap_test(np.full(10, np.nan), 0.1) is None


def test_seeds_are_tested_where_there_are_several_and_clips_where_there_is_one():
    noise = np.random.default_rng(1).normal(0, 0.01, (4, 200))
    own, other = {1: 0.6, 2: 0.62, 3: 0.61}, {1: 0.5, 2: 0.53, 3: 0.52}
    resampled = {seed: 0.6 + noise[seed] for seed in own}, {seed: 0.5 + noise[seed] for seed in other}
    several = compare_metric(own, other, resampled)
    assert (several.over, several.note) == ("seeds", "")
    assert several.p == pytest.approx(stats.ttest_rel(list(own.values()), list(other.values())).pvalue)
    two = compare_metric({1: 0.6, 2: 0.62}, other, resampled)
    assert two.note == "2 seeds: too few to tell"
    one = compare_metric({1: 0.6}, other, resampled)
    assert (one.over, one.note) == ("clips", "one seed: says nothing of other seeds")
    assert one.ci.low == pytest.approx(0.1)  # what all clips share cancels
    assert one.p < 0.02
    assert compare_metric({7: 0.6}, other, resampled) is None


def test_equal_differences_are_no_certainty():
    assert t_test([0.1, 0.1, 0.1]) is None
    assert t_test([0.1]) is None


def test_intervals_of_a_row_say_what_they_are_over():
    values = np.linspace(0.4, 0.6, 101)
    ci, over = spread_interval({1: 0.5}, {1: values})
    assert over == "clips"
    assert (ci.low, ci.high) == pytest.approx((0.405, 0.595))
    assert spread_interval({1: 0.5, 2: 0.6}, {1: values, 2: values})[1] == "seeds"


def test_holm_is_monotone_and_skips_what_is_no_test():
    assert holm({"a": 0.04, "b": 0.01, "c": 0.03, "d": None}) == {"a": 0.06, "b": 0.03, "c": 0.06, "d": None}
