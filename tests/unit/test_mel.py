"""Mels against a slow reference in numpy, frame by frame, and the contract of extractors."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.audio.extractor import Extractor, build_extractor
from pipeline.audio.mel import kaldi_filters, mel_filters
from pipeline.audio.mel_cards import mel_card
from pipeline.cards import ExtractorCard
from pipeline.errors import SettingError
from pipeline.registry import find_front_end, front_ends

NAMES = ("mel-openmic", "mel-mtat", "mel-small")


def _audio(card: ExtractorCard, duration_s: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(3)
    time_s = np.arange(round(duration_s * card.rate_hz)) / card.rate_hz
    tone = 0.3 * np.sin(2 * np.pi * 330 * time_s * (1 + time_s / 4))
    return (tone + 0.02 * rng.standard_normal(len(time_s))).astype(np.float32)


def _reference(card: ExtractorCard, audio: NDArray[np.float32]) -> NDArray[np.float64]:
    """[frames, bands] in float64: one Fourier transform per frame, triangles by interpolation."""
    p = card.parameters
    n_fft, window, hop = int(p["n_fft"]), int(p["window"]), int(p["hop"])  # type: ignore[arg-type]
    x = audio.astype(np.float64)
    if p["preemphasis"]:
        x = x[1:] - 0.97 * x[:-1]
    angle = 2 * np.pi * np.arange(window) / (window if p["periodic"] else window - 1)
    taper = np.zeros(n_fft)
    taper[(n_fft - window) // 2 : (n_fft + window) // 2] = 0.5 - 0.5 * np.cos(angle)
    x = np.pad(x, n_fft // 2, mode="reflect")
    frames = [np.abs(np.fft.rfft(taper * x[at : at + n_fft])) ** 2 for at in range(0, len(x) - n_fft + 1, hop)]
    mel = np.array(frames) @ _reference_filters(card).T
    return (np.log(mel + 1e-5) + p["shift"]) / p["scale"]  # type: ignore[operator]


def _reference_filters(card: ExtractorCard) -> NDArray[np.float64]:
    """[bands, bins]"""
    p, rate = card.parameters, card.rate_hz
    n_fft, bands = int(p["n_fft"]), int(p["bands"])  # type: ignore[arg-type]
    if p["filters"] == "slaney":
        return librosa.filters.mel(  # type: ignore[no-any-return]
            sr=rate, n_fft=n_fft, n_mels=bands, fmin=p["low_hz"], fmax=p["high_hz"], dtype=np.float64
        )
    mel = 1127.0 * np.log1p(np.arange(n_fft // 2 + 1) * rate / n_fft / 700.0)
    edges = np.linspace(0.0, 1127.0 * np.log1p(float(p["high_hz"]) / 700.0), bands + 2)  # type: ignore[arg-type]
    rows = [np.interp(mel, edges[b : b + 3], [0.0, 1.0, 0.0]) for b in range(bands)]
    return np.array(rows) * (np.arange(n_fft // 2 + 1) < n_fft // 2)


def _run(extractor: Extractor, audio: NDArray[np.float32], n_valid: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return extractor(torch.from_numpy(audio), torch.tensor(n_valid))["logmel"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_slow_reference(name: str) -> None:
    card = find_front_end(name)
    audio = _audio(card, 2.0)
    features, n_frames = _run(build_extractor(card), audio[None], [len(audio)])
    expected = _reference(card, audio)
    assert int(n_frames[0]) == len(expected)
    np.testing.assert_allclose(features[0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize(("name", "duration_s", "shape"), [
    ("mel-openmic", 10.0, (1000, 128)),
    ("mel-mtat", 29.1, (1455, 96)),
    ("mel-small", 10.0, (313, 64)),
])  # fmt: skip
def test_shapes_that_the_students_expect(name: str, duration_s: float, shape: tuple[int, int]) -> None:
    card = find_front_end(name)
    audio = _audio(card, duration_s)
    extractor = build_extractor(card)
    features, _ = _run(extractor, audio[None], [len(audio)])
    assert tuple(features.shape[1:]) == shape
    assert extractor.count_frames("logmel", len(audio)) == shape[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_clip_does_not_depend_on_its_batch(name: str) -> None:
    card = find_front_end(name)
    extractor = build_extractor(card)
    audio = np.stack([_audio(card, 1.0), -_audio(card, 1.0) * 0.1, np.zeros(card.rate_hz, np.float32)])
    together, _ = _run(extractor, audio, [card.rate_hz] * 3)
    for row in range(3):
        alone, _ = _run(extractor, audio[row : row + 1], [card.rate_hz])
        assert torch.equal(alone[0], together[row])
    assert torch.isfinite(together).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_valid", [0, 1, 2, 5_000])
def test_padding_gives_no_frames(name: str, n_valid: int) -> None:
    card = find_front_end(name)
    extractor = build_extractor(card)
    audio = _audio(card, 1.0)
    audio[n_valid:] = 0
    features, n_frames = _run(extractor, audio[None], [n_valid])
    count = int(n_frames[0])
    assert count == extractor.count_frames("logmel", n_valid)
    output = card.output("logmel")
    assert count == 0 or output.offset_s + (count - 1) * output.hop_s < n_valid / card.rate_hz
    assert not features[0, count:].any()


def test_typical_music_is_about_zero_mean_and_unit_variance() -> None:
    card = find_front_end("mel-small")
    time_s = np.arange(10 * card.rate_hz) / card.rate_hz
    partials = sum(np.sin(2 * np.pi * hz * time_s) / k for k, hz in enumerate(range(220, 6_000, 220), start=1))
    audio = (0.1 * partials * (1 - time_s % 0.5) + 1e-3 * np.random.default_rng(0).standard_normal(len(time_s))).astype(
        "f"
    )
    features, _ = _run(build_extractor(card), audio[None], [len(audio)])
    assert abs(float(features.mean())) < 1.0
    assert 0.3 < float(features.std()) < 1.7


def test_kaldi_filters_leave_the_nyquist_bin_alone() -> None:
    filters = kaldi_filters(32_000, 1024, 128, 0.0, 16_000.0)
    assert filters.shape == (128, 513)
    assert not filters[:, -1].any()
    assert not filters[:, 0].any()
    np.testing.assert_allclose(filters[:, 10:500].sum(axis=0), 1.0, atol=1e-5)


def test_unknown_filters_are_refused_in_words() -> None:
    parameters = dict(find_front_end("mel-small").parameters) | {"filters": "bark"}
    with pytest.raises(SettingError, match="known are 'kaldi' and 'slaney'"):
        mel_filters(mel_card("mel-bark", "none", 16_000, parameters))


def test_weights_for_mels_are_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SettingError, match="has no weights"):
        build_extractor(find_front_end("mel-small"), weights=(tmp_path / "w",))


def test_registered() -> None:
    assert set(NAMES) <= set(front_ends())
