from __future__ import annotations

import doctest

import pytest

from pipeline.audio import mpeg, samples, streams, timing


@pytest.mark.parametrize("module", [timing, streams, samples, mpeg])
def test_examples_in_the_documentation(module: object) -> None:
    assert doctest.testmod(module, verbose=False).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 192_000])
def test_sums_of_floats_do_not_drift(rate_hz: int) -> None:
    start_s = 0.0
    for k in range(3_000):
        assert timing.n_samples(start_s, rate_hz) == (k * rate_hz + 5) // 10
        start_s += 0.1


def test_times_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="finite number of seconds"):
        timing.n_samples(float("nan"), 44_100)


@pytest.mark.parametrize("n", [1, 511, 512, 513, 160_000])
def test_valid_frames_are_those_that_start_on_a_sample(n: int) -> None:
    starts = [k for k in range(1_000) if k * 512 < n]
    assert timing.valid_frames(n, 1_000, 512) == len(starts)


def test_hops_that_do_not_nest_are_refused() -> None:
    with pytest.raises(ValueError, match="not a coarse and a fine one"):
        timing.hop_ratio(0.1, 0.96)
