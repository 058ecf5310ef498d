"""What every extractor must do, front end or teacher, of this package or of a plugin.

The preflight of :mod:`pipeline.extraction.preflight` is run once per card, with narrow random
weights; each of its checks is then a test of its own.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from narrow import build_narrow
from torch import Tensor

from pipeline import registry
from pipeline.audio.extractor import Extractor, Frames
from pipeline.cards import ExtractorCard
from pipeline.extraction.preflight import CHECKS, Report, check_extractor
from pipeline.extraction.preflight.signals import clip_length_s, shortest

CARDS = registry.extractors()


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in sorted(CARDS)]
)
def card(request: pytest.FixtureRequest) -> ExtractorCard:
    return CARDS[request.param]


@pytest.fixture(scope="module")
def extractor(card: ExtractorCard, tmp_path_factory: pytest.TempPathFactory) -> Extractor:
    return build_narrow(card, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def report(extractor: Extractor) -> Report:
    return check_extractor(extractor, clip_s=max(2.0, clip_length_s(extractor.card)))


def clips(card: ExtractorCard, *lengths_s: float) -> tuple[Tensor, Tensor]:
    """Tones in noise of these lengths, padded with zeros to the longest: [clip, samples], [clip]."""
    n_valid = torch.tensor([max(shortest(card), round(length_s * card.rate_hz)) for length_s in lengths_s])
    time = torch.arange(int(n_valid.max())) / card.rate_hz
    noise = torch.randn(len(n_valid), len(time), generator=torch.Generator().manual_seed(1))
    tones = torch.stack([torch.sin(2 * math.pi * 220 * 1.5**index * time) for index in range(len(n_valid))])
    audio = 0.4 * tones + 0.05 * noise
    return audio * (torch.arange(len(time)) < n_valid[:, None]), n_valid


def run(extractor: Extractor, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
    made: dict[str, Frames] = extractor(audio, n_valid)
    return made


@pytest.mark.parametrize("name", CHECKS)
def test_preflight(report: Report, name: str) -> None:
    check = report.check(name)
    if check.status == "skipped":
        assert report.passed or name in ("padding", "longest")
        pytest.skip(check.sentence)
    assert check.passed, check.sentence


def test_longer_clips_have_the_frames_that_are_counted(extractor: Extractor) -> None:
    """Beside those of the preflight, which are shorter; around three seconds windows begin and end."""
    audio, n_valid = clips(extractor.card, 0.5, 2.999, 3.01, 4.5)
    for name, (_, n_frames) in run(extractor, audio, n_valid).items():
        assert n_frames.tolist() == [extractor.count_frames(name, n) for n in n_valid.tolist()]


def test_fast_agrees_with_exact(card: ExtractorCard, extractor: Extractor, tmp_path: Path) -> None:
    audio, n_valid = clips(card, 4.0, 3.3)
    exact = run(build_narrow(card, tmp_path, mode="exact"), audio, n_valid)
    for name, frames in run(extractor, audio, n_valid).items():
        wanted = exact[name].features
        assert (frames.features - wanted).norm() <= card.tolerance * wanted.norm(), name


def test_one_output_alone_is_what_it_is_among_all(card: ExtractorCard, extractor: Extractor, tmp_path: Path) -> None:
    if len(extractor.outputs) == 1:
        pytest.skip(f"{card.name} has one output")
    audio, n_valid = clips(card, 1.0)
    everything = run(extractor, audio, n_valid)
    for name in extractor.outputs:
        alone = run(build_narrow(card, tmp_path, outputs=(name,)), audio, n_valid)
        assert tuple(alone) == (name,)
        assert torch.equal(alone[name].features, everything[name].features)


def test_default_outputs_are_on_the_card(card: ExtractorCard) -> None:
    assert card.default_outputs
    assert set(card.default_outputs) <= {output.name for output in card.outputs}
