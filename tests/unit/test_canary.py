from __future__ import annotations

import numpy as np
import pytest

from pipeline.audio.canary import CANARY_NAMES, ENCODED, canary_s, canary_signals, decode_canary, encode_canaries
from pipeline.audio.samples import fit_clip
from pipeline.registry import find_front_end


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 32_000, 44_100])
def test_signals_are_finite_in_range_and_the_same_twice(rate_hz: int) -> None:
    signals = canary_signals(rate_hz, 3.2)
    assert signals.shape == (len(CANARY_NAMES), round(3.2 * rate_hz))
    assert signals.dtype == np.float32
    assert np.isfinite(signals).all()
    assert np.abs(signals).max() <= 1.0
    assert np.array_equal(signals, canary_signals(rate_hz, 3.2))


def test_each_signal_is_what_its_name_says() -> None:
    rows = dict(zip(CANARY_NAMES, canary_signals(16_000, 3.2), strict=True))
    assert not rows["silence"].any()
    assert np.count_nonzero(rows["clicks"]) == 26
    assert set(np.unique(rows["square"])) == {-1.0, 1.0}
    assert 20 * np.log10(np.sqrt(np.mean(rows["quiet"] ** 2))) == pytest.approx(-64.8, abs=0.5)
    assert np.argmax(np.abs(np.fft.rfft(rows["sine"]))) == round(440 * 3.2)


@pytest.mark.parametrize("rate_hz", [16_000, 32_000, 40_000])
def test_two_of_them_survive_mp3_and_ogg(rate_hz: int) -> None:
    signals = canary_signals(rate_hz, 3.2)
    for row, content in zip(ENCODED, encode_canaries(signals, rate_hz), strict=True):
        decoded, _ = fit_clip(decode_canary(content, rate_hz), signals.shape[1])
        alike = np.corrcoef(decoded, signals[row])[0, 1]
        assert alike > 0.97


def test_length_follows_the_extractor() -> None:
    assert canary_s(find_front_end("mel-small")) == 3.2
