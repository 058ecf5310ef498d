"""Averaged weights: the same as sums written out, kept apart from the student that is trained."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as lightning
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pipeline.audio.extractor import Frames
from pipeline.distillation.averaging import averaged, exponential
from pipeline.distillation.batches import Batch
from pipeline.distillation.engine import build_trainer, quiet
from pipeline.distillation.losses.compose import Goal
from pipeline.distillation.losses.settings import find_loss
from pipeline.distillation.objective import Distiller, Recipe
from pipeline.distillation.settings import TrainSettings
from pipeline.distillation.students.contract import build_student, save_weights
from pipeline.errors import SettingError

STEPS = 8


def _module(loss: str = "labels", **changes: float) -> Distiller:
    torch.manual_seed(0)
    student = build_student("cnn-small", n_classes=3, n_mels=16, width=0.25)
    values = {"lr": 1e-2, "weight_decay": 0.0, "clip_norm": 0.0, "schedule": "constant", "seed": 0} | changes
    recipe = Recipe(steps=STEPS, specaugment=False, mixup=False, **values)  # type: ignore[arg-type]
    return Distiller(student, find_loss(loss), recipe, "multi-label", teacher_channels=[7])


class _Batches:
    def __iter__(self) -> Iterator[Batch]:
        return _batches()


def _batches() -> Iterator[Batch]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        n = torch.full((4,), 24)
        goal = Goal(
            targets=torch.randint(0, 2, (4, 3), generator=generator).float(),
            known=torch.ones(4, 3, dtype=torch.bool),
            labelled=torch.ones(4, dtype=torch.bool),
            scores=None,
            scored=torch.zeros(4, dtype=torch.bool),
            teachers=(Frames(torch.randn(4, 2, 7, generator=generator), torch.full((4,), 2)),),
        )
        yield Batch(Frames(torch.randn(4, 24, 16, generator=generator), n), goal)


class _Diary(lightning.Callback):
    """The student's and the averaged state after every step."""

    def __init__(self) -> None:
        self.student: list[dict[str, Tensor]] = []
        self.judged: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: object, module: Distiller, *_: object) -> None:  # type: ignore[override]
        for kept, network in ((self.student, module.student), (self.judged, module.judged)):
            kept.append({key: value.detach().clone() for key, value in network.state_dict().items()})


def _fit(module: Distiller, folder: Path) -> _Diary:
    diary = _Diary()
    with quiet():
        settings = TrainSettings(data="x", steps=STEPS, loss="labels")
        build_trainer(settings, ("cpu",), diary, folder).fit(module, train_dataloaders=_Batches())  # type: ignore[arg-type]
    return diary


def _sum(states: list[dict[str, Tensor]], weights: list[float]) -> dict[str, Tensor]:
    return {
        key: sum(w * state[key].double() for w, state in zip(weights, states, strict=True))  # type: ignore[misc]
        if value.is_floating_point()
        else value
        for key, value in states[-1].items()
    }


def _same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for key, value in expected.items():
        torch.testing.assert_close(found[key].double(), value.double(), rtol=1e-4, atol=1e-6, msg=key)


def test_an_exponential_average_is_the_corrected_sum(tmp_path: Path) -> None:
    diary = _fit(_module(ema=0.9), tmp_path)
    for count in (1, 2, STEPS):
        weights = [0.9 ** (count - 1 - k) for k in range(count)]
        _same(diary.judged[count - 1], _sum(diary.student[:count], [w / sum(weights) for w in weights]))
    assert any(not torch.equal(a, diary.student[-1][key]) for key, a in diary.judged[-1].items())


def test_the_last_part_is_a_plain_mean_and_nothing_before(tmp_path: Path) -> None:
    diary = _fit(_module(average_last=0.5), tmp_path)
    _same(diary.judged[3], diary.student[3])
    _same(diary.judged[4], diary.student[4])
    _same(diary.judged[-1], _sum(diary.student[4:], [0.25] * 4))


def test_averaging_does_not_change_what_is_trained(tmp_path: Path) -> None:
    plain, ema = (_fit(_module(**changes), tmp_path).student[-1] for changes in ({}, {"ema": 0.9}))
    assert all(torch.equal(value, ema[key]) for key, value in plain.items())


def test_the_checkpoint_holds_weights_average_and_maps_and_the_student_none_of_them(tmp_path: Path) -> None:
    module = _module("projection", ema=0.9)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    _fit(module, tmp_path)
    torch.save({"state_dict": module.state_dict()}, tmp_path / "last.ckpt")
    kept = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert {key.split(".")[0] for key in kept} == {"student", "averaged", "maps"}
    assert int(kept["averaged.n_averaged"]) == STEPS
    assert not torch.equal(kept["maps.maps.2-0.weight"], before["maps.maps.2-0.weight"])  # it is learnt
    save_weights(tmp_path, module.judged)
    again = build_student("cnn-small", n_classes=3, n_mels=16, width=0.25)
    state = load_file(tmp_path / "student.safetensors")
    again.load_state_dict(state)  # strict: nothing more, nothing less
    assert all(torch.equal(value, kept[f"averaged.module.{key}"]) for key, value in state.items())


def test_maps_leave_the_first_weights_of_the_student_alone() -> None:
    a, b = (_module(loss).student.state_dict() for loss in ("labels", "projection"))
    assert all(torch.equal(value, b[key]) for key, value in a.items())


def test_corrected_shares() -> None:
    assert exponential(0.999, 1) == pytest.approx(1.0)
    assert exponential(0.999, 10**6) == pytest.approx(1e-3)
    counter = averaged(torch.nn.BatchNorm1d(2), ema=0.5)
    norm = torch.nn.BatchNorm1d(2)
    for _ in range(3):
        norm(torch.randn(4, 2))
        counter.update_parameters(norm)
    assert int(counter.module.num_batches_tracked) == 3


def test_only_one_way_to_average() -> None:
    with pytest.raises(SettingError, match="give one of them"):
        TrainSettings(data="x", ema=0.9, average_last=0.1)
    with pytest.raises(SettingError, match="ema is 1"):
        TrainSettings(data="x", ema=1.0)
    config = TrainSettings(data="x").config()
    assert "ema" not in config  # runs made before there were averages keep their identity
    assert TrainSettings(data="x", ema=0.9).config()["ema"] == 0.9
