from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from badfiles import music
from scipy.signal import freqz

from pipeline import registry
from pipeline.audio.views import ViewSettings, biquad, make_view, view_card, view_seed
from pipeline.errors import SettingError

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
    assert view_seed(b"a", 1) == view_seed(b"a", 1)
    assert len({view_seed(b"a", 1), view_seed(b"a", 2), view_seed(b"b", 1)}) == 3


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
    section = biquad(RATE_HZ, shape, 1_000.0, gain_db)  # type: ignore[arg-type]
    _, response = freqz(section[:3], section[3:], worN=[10, 1_000, 7_900], fs=RATE_HZ)
    np.testing.assert_allclose(20 * np.log10(np.abs(response)), np.array([low, middle, high]) * gain_db, atol=0.1)


def test_the_card_of_a_view_says_all_that_changes_its_numbers() -> None:
    card = registry.find_front_end("mel-small")
    view = view_card(card, 2)
    assert (view.name, view.parameters["view"], view.parameters["hop"]) == ("mel-small-view2", 2, 512)
    told = {name for name in view.parameters if name.startswith("view_")}
    assert told == {"view_rule", "view_seed"} | {f"view_{field.name}" for field in fields(ViewSettings)}
    assert registry.find_extractor("mel-small:view=2") == view
    for wrong in ("0", "x", "-1", "1:hop=2", "99999"):
        with pytest.raises(SettingError, match="no number from 1 to"):
            registry.find_extractor(f"mel-small:view={wrong}")


def test_noise_lies_where_it_should() -> None:
    loud = ViewSettings(resampling=0.0, gain_db=0.0, noise_share=1.0, noise_below_db=(20.0, 20.0), level_db=(0.0, 0.0))
    clip = _clip(2 * RATE_HZ)
    noise = make_view(clip, len(clip), RATE_HZ, 0, loud)[0] - clip
    assert 20 * np.log10(np.std(clip) / np.std(noise)) == pytest.approx(20.0, abs=0.3)
