"""What every extractor must do, front end or teacher, of this package or of a plugin."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from narrow import build_narrow
from torch import Tensor

from pipeline import registry
from pipeline.audio.extractor import Extractor, Frames
from pipeline.cards import ExtractorCard

CARDS = registry.extractors()
Build = Callable[..., Extractor]


@pytest.fixture(scope="module", params=sorted(CARDS))
def card(request: pytest.FixtureRequest) -> ExtractorCard:
    return CARDS[request.param]


@pytest.fixture(scope="module")
def extractor(card: ExtractorCard, tmp_path_factory: pytest.TempPathFactory) -> Extractor:
    return build_narrow(card, tmp_path_factory.mktemp("weights"))


def clips(card: ExtractorCard, *lengths_s: float) -> tuple[Tensor, Tensor]:
    """Tones in noise of these lengths, padded with zeros to the longest: [clip, samples], [clip]."""
    n_valid = torch.tensor([max(shortest(card), round(length * card.rate_hz)) for length in lengths_s])
    time = torch.arange(int(n_valid.max())) / card.rate_hz
    noise = torch.randn(len(n_valid), len(time), generator=torch.Generator().manual_seed(1))
    tones = torch.stack([torch.sin(2 * math.pi * 220 * 1.5**index * time) for index in range(len(n_valid))])
    audio = 0.4 * tones + 0.05 * noise
    return audio * (torch.arange(len(time)) < n_valid[:, None]), n_valid


def shortest(card: ExtractorCard) -> int:
    return max(1, math.ceil(card.min_s * card.rate_hz - 1e-6))


def run(extractor: Extractor, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
    made: dict[str, Frames] = extractor(audio, n_valid)
    return made


def test_outputs_have_the_shapes_on_the_card(extractor: Extractor) -> None:
    audio, n_valid = clips(extractor.card, 3.3, 1.7)
    made = run(extractor, audio, n_valid)
    assert tuple(made) == extractor.outputs
    for name, (features, n_frames) in made.items():
        output = extractor.card.output(name)
        assert features.shape[::2] == (2, output.channels)
        assert features.dtype == torch.float32
        assert n_frames.dtype == torch.int64
        assert features.shape[1] >= int(n_frames.max())
        assert (features.shape[1] == 1) == (output.hop_s == 0) or features.shape[1] < 3


def test_frames_are_as_many_as_counted(extractor: Extractor) -> None:
    seconds = [0.001, 0.31, 0.5, 0.96, 1.0, 2.999, 3.01, 4.5]
    audio, n_valid = clips(extractor.card, *seconds)
    for name, (_, n_frames) in run(extractor, audio, n_valid).items():
        assert n_frames.tolist() == [extractor.count_frames(name, n) for n in n_valid.tolist()]


def test_counts_grow_with_the_clip_and_by_the_hop(extractor: Extractor) -> None:
    rate_hz = extractor.card.rate_hz
    for output in extractor.card.outputs:
        counts = [extractor.count_frames(output.name, n) for n in range(shortest(extractor.card), 12 * rate_hz, 997)]
        assert counts == sorted(counts)
        assert counts[0] >= 1
        if output.hop_s:
            long, longer = (extractor.count_frames(output.name, n * rate_hz) for n in (100, 1100))
            assert longer - long == pytest.approx(1000 / output.hop_s, abs=1)


def test_no_samples_give_no_frames(extractor: Extractor) -> None:
    audio, n_valid = clips(extractor.card, 1.0, 1.0)
    audio[1], n_valid[1] = 0, 0
    for name, (features, n_frames) in run(extractor, audio, n_valid).items():
        assert extractor.count_frames(name, 0) == 0
        assert n_frames[1] == 0
        assert not features[1].any()
        assert torch.isfinite(features).all()


def test_a_clip_does_not_depend_on_its_batch(extractor: Extractor) -> None:
    audio, n_valid = clips(extractor.card, 4.0, 3.3, 1.1, 0.05)
    together = run(extractor, audio, n_valid)
    for index in range(len(n_valid)):
        alone = run(extractor, audio[index : index + 1], n_valid[index : index + 1])
        assert_same_clip(together, index, alone)


def test_a_teacher_does_not_depend_on_the_padding(extractor: Extractor) -> None:
    """Front ends may: clips of a store have one length, and a student's mel sees it whole."""
    if extractor.card.kind != "teacher":
        pytest.skip("a front end")
    audio, n_valid = clips(extractor.card, 4.0, 3.3, 1.1, 0.05)
    together = run(extractor, audio, n_valid)
    for index in range(len(n_valid)):
        trimmed = run(extractor, audio[index : index + 1, : n_valid[index]], n_valid[index : index + 1])
        assert_same_clip(together, index, trimmed)


def assert_same_clip(together: dict[str, Frames], index: int, alone: dict[str, Frames]) -> None:
    for name, (features, n_frames) in together.items():
        n = int(n_frames[index])
        wanted = features[index, :n]
        assert alone[name].n_frames.tolist() == [n]
        difference = (alone[name].features[0, :n] - wanted).abs().max()
        assert difference <= 1e-5 * max(1.0, float(wanted.abs().max())), name


def test_rows_beyond_the_clip_are_zero(extractor: Extractor) -> None:
    audio, n_valid = clips(extractor.card, 4.0, 0.7)
    for features, n_frames in run(extractor, audio, n_valid).values():
        assert not features[1, n_frames[1] :].any()
        assert features[1, : n_frames[1]].any()


@pytest.mark.parametrize("level", [0.0, 1e-7, 1.0])
def test_extreme_signals_give_finite_numbers(extractor: Extractor, level: float) -> None:
    audio = torch.full((1, extractor.card.rate_hz * 3 // 2), level)
    audio[:, ::2] *= -1
    for features, _ in run(extractor, audio, torch.tensor([audio.shape[1]])).values():
        assert torch.isfinite(features).all()


def test_the_shortest_clip_gives_a_finite_frame(extractor: Extractor) -> None:
    audio, n_valid = clips(extractor.card, 0.0)
    for features, n_frames in run(extractor, audio, n_valid).values():
        assert int(n_frames[0]) >= 1
        assert torch.isfinite(features).all()


def test_it_is_frozen_and_gives_no_gradients(extractor: Extractor) -> None:
    assert not extractor.training
    assert not any(module.training for module in extractor.modules())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    audio, n_valid = clips(extractor.card, 1.0)
    assert not any(frames.features.requires_grad for frames in run(extractor, audio, n_valid).values())


def test_it_gives_the_same_twice_and_leaves_its_input_alone(extractor: Extractor) -> None:
    audio, n_valid = clips(extractor.card, 1.5, 1.0)
    before = audio.clone()
    first, second = run(extractor, audio, n_valid), run(extractor, audio, n_valid)
    assert torch.equal(audio, before)
    for name, frames in first.items():
        assert torch.equal(frames.features, second[name].features)


def test_fast_agrees_with_exact(card: ExtractorCard, extractor: Extractor, tmp_path: Path) -> None:
    audio, n_valid = clips(card, 4.0, 3.3)
    exact = run(build_narrow(card, tmp_path, mode="exact"), audio, n_valid)
    for name, frames in run(extractor, audio, n_valid).items():
        wanted = exact[name].features
        assert (frames.features - wanted).norm() <= card.tolerance * wanted.norm(), name


def test_one_output_alone_is_what_it_is_among_all(card: ExtractorCard, extractor: Extractor, tmp_path: Path) -> None:
    audio, n_valid = clips(card, 1.0)
    everything = run(extractor, audio, n_valid)
    for output in card.outputs:
        alone = run(build_narrow(card, tmp_path, outputs=(output.name,)), audio, n_valid)
        assert tuple(alone) == (output.name,)
        assert torch.equal(alone[output.name].features, everything[output.name].features)


def test_default_outputs_are_on_the_card(card: ExtractorCard) -> None:
    assert card.default_outputs
    assert set(card.default_outputs) <= {output.name for output in card.outputs}
