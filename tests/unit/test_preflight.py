"""Each check of the preflight refuses the fault it is there for, and no other check does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from plugins import HOP, RATE_HZ, FakeTeacher, fake_card
from torch import Tensor, nn

from pipeline.audio.extractor import Extractor, Frames, Mode, mask_frames
from pipeline.cards import ExtractorCard
from pipeline.extraction.preflight import CHECKS, Report, check_extractor
from pipeline.extraction.preflight.signals import TOGETHER, clip_length_s, shortest

CARD = fake_card("fake")


def made(kind: type[FakeTeacher], card: ExtractorCard = CARD, *, mode: Mode = "fast") -> FakeTeacher:
    return kind(card, card.default_outputs, mode).eval().requires_grad_(False)


def failing(report: Report) -> set[str]:
    return {check.name for check in report.failed}


def changed(frames: dict[str, Frames], change: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Frames]:
    """Other features, rows beyond the clip zero again."""
    found = {}
    for name, (features, n_frames) in frames.items():
        valid = torch.arange(features.shape[1])[None, :] < n_frames[:, None]
        other = change(features, n_frames) if features.numel() else features
        found[name] = Frames(torch.where(valid[:, :, None], other, 0.0), n_frames)
    return found


class Changed(FakeTeacher):
    """A sound teacher whose features are changed by ``change``."""

    def change(self, features: Tensor, n_frames: Tensor) -> Tensor:
        raise NotImplementedError

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        return changed(super().extract(audio, n_valid), self.change)


class DropoutByFunction(Changed):
    """Dropout that no flag of a module shows."""

    def change(self, features: Tensor, n_frames: Tensor) -> Tensor:
        return F.dropout(features, 0.1, training=True)


class DropoutModule(Changed):
    """Dropout put in place after ``eval()``."""

    def change(self, features: Tensor, n_frames: Tensor) -> Tensor:
        if not hasattr(self, "dropout"):
            self.dropout = nn.Dropout(0.1)
        return cast(Tensor, self.dropout(features))


class IdleDropout(FakeTeacher):
    """A module in training mode that does nothing yet."""

    def train(self, mode: bool = True) -> IdleDropout:
        super().train(mode)
        self.dropout = nn.Dropout(0.0)
        return self


class BatchStatistics(Changed):
    """Batch normalisation that learns on, though no module is in training mode."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("variance", torch.ones(1))

    def change(self, features: Tensor, n_frames: Tensor) -> Tensor:
        mean, variance = cast(Tensor, self.mean), cast(Tensor, self.variance)
        return F.batch_norm(features[None, None], mean, variance, training=True)[0, 0]


class Counts(FakeTeacher):
    """A buffer that counts calls and changes nothing else."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.register_buffer("n_calls", torch.zeros((), dtype=torch.int64))

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        cast(Tensor, self.n_calls).add_(1)
        return super().extract(audio, n_valid)


class Remembers(Changed):
    """Something carried from pass to pass outside the module's buffers."""

    n_calls = 0

    def change(self, features: Tensor, n_frames: Tensor) -> Tensor:
        self.n_calls += 1
        return features * (1.0 + 0.01 * self.n_calls)


class OverTheBatch(Changed):
    """Scaled by the loudest clip of the batch."""

    def change(self, features: Tensor, n_frames: Tensor) -> Tensor:
        return features / (1.0 + features.abs().amax())


class OrderMatters(Changed):
    """Each clip carries a little of the one before it."""

    def change(self, features: Tensor, n_frames: Tensor) -> Tensor:
        return features + 1e-3 * features.roll(1, 0) * (torch.arange(len(features)) > 0)[:, None, None]


class OverThePadding(Changed):
    """A mean over time that takes the zeros behind the clip with it."""

    def change(self, features: Tensor, n_frames: Tensor) -> Tensor:
        return features - 0.5 * features.mean(1, keepdim=True)


class NanOnSilence(Changed):
    """Divided by the clip's own peak."""

    def change(self, features: Tensor, n_frames: Tensor) -> Tensor:
        return features / features.abs().amax((1, 2), keepdim=True)


class InfiniteOnDc(FakeTeacher):
    """Divided by what varies in the clip."""

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        constant = (audio.amax(1) == audio.amin(1)) & (audio.amax(1) > 0)
        return changed(
            super().extract(audio, n_valid), lambda features, _: features / (~constant)[:, None, None].float()
        )


class OneMore(FakeTeacher):
    """A count that is off by one for all but the shortest clips."""

    def count_frames(self, output: str, n_samples: int) -> int:
        return super().count_frames(output, n_samples) + (output == "frames" and n_samples > 2 * HOP)


class Falls(FakeTeacher):
    """A count that falls once, beyond the lengths that really run."""

    def count_frames(self, output: str, n_samples: int) -> int:
        return super().count_frames(output, n_samples) - 3 * (output == "frames" and n_samples > 6 * RATE_HZ)


class SomethingOfNothing(FakeTeacher):
    """A frame, filled, for a clip without samples."""

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        return {
            name: Frames(frames.features + 0.1, frames.n_frames)
            for name, frames in super().extract(audio, n_valid).items()
        }


class InPlace(FakeTeacher):
    """Works in the audio it was given."""

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        return super().extract(audio.mul_(0.5), n_valid)


class InPlaceLengths(FakeTeacher):
    """Works in the lengths it was given."""

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        made = super().extract(audio, n_valid)
        n_valid.clamp_(min=HOP)
        return made


class Learning(FakeTeacher):
    """A parameter that asks for gradients."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.scale = nn.Parameter(torch.ones(1))

    def requires_grad_(self, requires_grad: bool = True) -> Learning:
        return self


class OutOfInference(FakeTeacher):
    """A forward pass that keeps its graph."""

    def __call__(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        with torch.enable_grad():
            return self.extract(audio.requires_grad_(), n_valid)


class Double(FakeTeacher):
    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        return {
            name: Frames(frames.features.double(), frames.n_frames)
            for name, frames in super().extract(audio, n_valid).items()
        }


class Narrower(FakeTeacher):
    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        return {
            name: Frames(frames.features[:, :, :-1], frames.n_frames)
            for name, frames in super().extract(audio, n_valid).items()
        }


class OtherOrder(FakeTeacher):
    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        return dict(reversed(super().extract(audio, n_valid).items()))


class TooManyRows(FakeTeacher):
    """A row more than the store's axis has."""

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        return {
            name: Frames(F.pad(frames.features, (0, 0, 0, 1)), frames.n_frames)
            for name, frames in super().extract(audio, n_valid).items()
        }


class Dead(Changed):
    def change(self, features: Tensor, n_frames: Tensor) -> Tensor:
        return torch.zeros_like(features)


class NeedsTwo(FakeTeacher):
    """One sample is too little for it."""

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        if audio.shape[1] < 2:
            raise RuntimeError("Padding size should be less than the corresponding input dimension")
        return super().extract(audio, n_valid)


class AtMostTwoSeconds(FakeTeacher):
    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        if audio.shape[1] > 2 * RATE_HZ:
            raise IndexError("position 16001 is out of range")
        return super().extract(audio, n_valid)


class BreaksOnBatches(FakeTeacher):
    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        if len(audio) == 3:
            raise RuntimeError("three is too many")
        return super().extract(audio, n_valid)


def test_a_sound_teacher_passes_every_check() -> None:
    report = check_extractor(made(FakeTeacher))
    statuses = {check.name: check.status for check in report.checks}
    assert tuple(statuses) == CHECKS
    assert statuses.pop("longest") == "skipped"
    assert set(statuses.values()) == {"passed"}
    assert report.passed
    assert report.check("batch").measured is not None
    json.dumps(report.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("kind", "checks"),
    [
        (DropoutByFunction, {"deterministic"}),
        (DropoutModule, {"deterministic", "eval_mode"}),
        (Remembers, {"deterministic"}),
        (IdleDropout, {"eval_mode"}),
        (BatchStatistics, {"batch", "padding", "state"}),
        (Counts, {"state"}),
        (OverTheBatch, {"batch"}),
        (OrderMatters, {"batch"}),
        (BreaksOnBatches, {"batch"}),
        (OverThePadding, {"padding"}),
        (NanOnSilence, {"finite"}),
        (InfiniteOnDc, {"finite"}),
        (OneMore, {"frames"}),
        (Falls, {"counting"}),
        (SomethingOfNothing, {"zero_rows"}),
        (InPlace, {"input"}),
        (InPlaceLengths, {"input"}),
        (Learning, {"gradients"}),
        (OutOfInference, {"gradients"}),
        (Double, {"shapes"}),
        (Narrower, {"shapes"}),
        (OtherOrder, {"shapes"}),
        (TooManyRows, {"shapes"}),
        (Dead, {"responds"}),
        (NeedsTwo, {"shortest"}),
    ],
)
def test_a_fault_is_refused_by_its_check(kind: type[FakeTeacher], checks: set[str]) -> None:
    report = check_extractor(made(kind))
    assert failing(report) == checks
    assert not report.passed
    json.dumps(report.as_dict(), allow_nan=False)


def test_every_check_has_a_fault_that_it_refuses() -> None:
    marks = test_a_fault_is_refused_by_its_check.pytestmark  # type: ignore[attr-defined]
    refused = {name for _, names in marks[0].args[1] for name in names}
    assert set(CHECKS) - refused == {"runs", "longest", "float16"}, "these have tests of their own"


def test_what_cannot_be_judged_is_not_blamed() -> None:
    report = check_extractor(made(DropoutByFunction))
    for name in ("batch", "padding"):
        assert report.check(name).status == "skipped"
        assert "other numbers each time" in report.check(name).sentence


class Breaks(FakeTeacher):
    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied\nand a long story")


class GivesList(FakeTeacher):
    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        return list(super().extract(audio, n_valid).values())  # type: ignore[return-value]


class FramesOnly(FakeTeacher):
    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        return {
            name: Frames(found.features[:, 0], found.n_frames)
            for name, found in super().extract(audio, n_valid).items()
        }


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Breaks, r"first batch, 8 x 1\.2 s: RuntimeError: mat1 and mat2 shapes cannot be multiplied$"),
        (GivesList, r"TypeError: extract must return a dict of Frames"),
        (FramesOnly, r"frames has features \[8, 6\] and n_frames \[8\] for 8 clips"),
    ],
)
def test_an_extractor_that_does_not_run_is_told_in_one_line(kind: type[FakeTeacher], said: str) -> None:
    report = check_extractor(made(kind))
    assert failing(report) == {"runs"}
    (only,) = report.failed
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(only.sentence)
    assert {
        check.status for check in report.checks if check.name not in ("counting", "eval_mode", "gradients", "runs")
    } == {"skipped"}


def test_a_clip_longer_than_the_card_allows_must_be_cut() -> None:
    card = replace(CARD, max_s=2.0)
    assert check_extractor(made(FakeTeacher, card)).check("longest").status == "passed"
    report = check_extractor(made(AtMostTwoSeconds, card))
    assert failing(report) == {"longest"}
    assert "IndexError: position 16001" in report.check("longest").sentence


def test_no_frame_of_the_shortest_clip_is_told() -> None:
    """The card promises a frame for one sample; the network gives one for 800."""
    report = check_extractor(made(FakeTeacher, replace(CARD, min_s=0.0)))
    assert failing(report) == {"shortest", "counting"}
    assert "raise min_s" in report.check("shortest").sentence


def test_a_wrong_hop_on_the_card_is_told() -> None:
    outputs = (replace(CARD.outputs[0], hop_s=0.2), CARD.outputs[1])
    report = check_extractor(made(FakeTeacher, replace(CARD, outputs=outputs)))
    assert failing(report) == {"counting"}
    assert "10000 frames in 1000 s where hop_s on the card says 5000" in report.check("counting").sentence


@pytest.mark.parametrize(("factor", "said"), [(3e5, "values up to"), (1e-5, "loses")])
def test_what_float16_cannot_hold_is_a_warning_that_names_float32(factor: float, said: str) -> None:
    report = check_extractor(made(FakeTeacher, fake_card("fake-big", factor=factor)))
    assert report.passed
    (warning,) = report.warned
    assert warning.name == "float16"
    assert said in warning.sentence
    assert "--dtype float32" in warning.sentence


class ALittleOfTheBatch(Changed):
    amount = 1e-3

    def change(self, features: Tensor, n_frames: Tensor) -> Tensor:
        return features * (1.0 + self.amount * (len(features) > 1))


class MoreOfTheBatch(ALittleOfTheBatch):
    amount = 0.1


def test_sixteen_bits_have_a_limit_of_their_own() -> None:
    assert failing(check_extractor(made(ALittleOfTheBatch))) == {"batch"}
    assert not failing(check_extractor(made(ALittleOfTheBatch, mode="half")))
    assert failing(check_extractor(made(MoreOfTheBatch, mode="half"))) == {"batch"}


class TinyModel(nn.Module):
    """Laid out as models of the Hugging Face hub are: a configuration, an encoder, dropout in it."""

    def __init__(self, *, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(2, 8)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(8, 2, 16, dropout, batch_first=True), 1, enable_nested_tensor=False
        )

    def forward(self, values: Tensor, padding: Tensor) -> Tensor:
        return cast(Tensor, self.encoder(self.embed(values), src_key_padding_mask=padding))


class Adapter(Extractor):
    """Level and peak of every 100 ms through a random transformer."""

    def __init__(self, *, dropout: float) -> None:
        super().__init__()
        outputs = (replace(CARD.outputs[0], channels=8),)
        self.card, self.outputs, self.mode = replace(CARD, outputs=outputs), ("frames",), "fast"
        self.levels = made(FakeTeacher)
        torch.manual_seed(0)
        self.model = TinyModel(dropout=dropout)

    def count_frames(self, output: str, n_samples: int) -> int:
        return self.levels.count_frames(output, n_samples)

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        if audio.shape[1] < HOP:
            return {"frames": Frames(torch.zeros(len(audio), 0, 8), torch.zeros(len(audio), dtype=torch.int64))}
        frames = self.levels.extract(audio, n_valid)["frames"]
        at = torch.arange(frames.features.shape[1])[None, :]
        values = self.model(frames.features[:, :, :2], at >= frames.n_frames.clamp(min=1)[:, None])
        return {"frames": mask_frames(values, frames.n_frames)}


def test_a_hub_model_passes_in_eval_mode_alone() -> None:
    adapter = Adapter(dropout=0.1).eval().requires_grad_(False)
    assert not failing(check_extractor(adapter))
    adapter.model.train()
    report = check_extractor(adapter)
    assert failing(report) == {"deterministic", "eval_mode"}
    assert "model, model.embed, model.encoder and" in report.check("eval_mode").sentence


def test_lengths_come_from_the_card() -> None:
    assert clip_length_s(CARD) == 1.2
    long = replace(CARD, outputs=(replace(CARD.outputs[0], window_s=3.0, hop_s=1.5),))
    assert clip_length_s(long) == pytest.approx(4.575)
    assert clip_length_s(replace(CARD, outputs=(replace(CARD.outputs[0], window_s=30.0),))) == 5.0
    assert clip_length_s(replace(CARD, min_s=7.0)) == 7.0
    assert shortest(CARD) == HOP
    assert [part for _, _, part in TOGETHER].count(0.0) == 1
