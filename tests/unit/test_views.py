from __future__ import annotations

import numpy as np
import pytest
from badfiles import music

from pipeline.audio.views import ViewSettings, equalizer, make_view, view_seed

RATE_HZ = 16_000


def _clip(n_valid: int) -> np.ndarray:
    samples = np.zeros(2 * RATE_HZ, np.float32)
    samples[:n_valid] = music(RATE_HZ, 2.0)[:n_valid, 0]
    return samples


def test_a_view_follows_from_its_seed_alone() -> None:
    clip = _clip(2 * RATE_HZ)
    first, again, other = (make_view(clip, len(clip), RATE_HZ, seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)
    assert view_seed("a/b.wav", 0) == view_seed("a/b.wav", 0)
    assert len({view_seed("a", 0), view_seed("a", 1), view_seed("b", 0)}) == 3


@pytest.mark.parametrize("n_valid", [0, 1, RATE_HZ, 2 * RATE_HZ])
def test_a_view_is_as_long_as_its_clip_and_stays_in_range(n_valid: int) -> None:
    clip = _clip(n_valid)
    for seed in range(8):
        view, n_real = make_view(clip, n_valid, RATE_HZ, seed)
        assert view.shape == clip.shape
        assert view.dtype == np.float32
        assert np.isfinite(view).all()
        assert np.abs(view).max(initial=0.0) <= 1.0 + 1e-6
        assert abs(n_real - n_valid) <= 0.031 * n_valid + 1
        assert not view[n_real:].any()


def test_a_view_that_may_do_nothing_does_nothing() -> None:
    still = ViewSettings(resampling=0.0, gain_db=0.0, noise_share=0.0, level_db=(0.0, 0.0))
    clip = _clip(2 * RATE_HZ)
    view, n_real = make_view(clip, len(clip), RATE_HZ, 0, still)
    np.testing.assert_allclose(view, clip, atol=1e-5)
    assert n_real == len(clip)


@pytest.mark.parametrize("gain_db", [9.0, -9.0])
@pytest.mark.parametrize(
    ("shape", "low", "middle", "high"), [("low", 1, 0.5, 0), ("peak", 0, 1, 0), ("high", 0, 0.5, 1)]
)
def test_filters_do_what_their_names_say(shape: str, low: float, middle: float, high: float, gain_db: float) -> None:
    level = 20 * np.log10(np.abs(equalizer(RATE_HZ, RATE_HZ, shape, 1_000.0, gain_db)))  # type: ignore[arg-type]
    np.testing.assert_allclose(level[[10, 1_000, 7_900]], np.array([low, middle, high]) * gain_db, atol=0.1)


def test_noise_lies_where_it_should() -> None:
    loud = ViewSettings(resampling=0.0, gain_db=0.0, noise_share=1.0, noise_below_db=(20.0, 20.0), level_db=(0.0, 0.0))
    clip = _clip(2 * RATE_HZ)
    noise = make_view(clip, len(clip), RATE_HZ, 0, loud)[0] - clip
    assert 20 * np.log10(np.std(clip) / np.std(noise)) == pytest.approx(20.0, abs=0.3)
