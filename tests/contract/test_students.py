"""What every registered student keeps to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline import registry
from pipeline.cards import StudentCard
from pipeline.distillation.students.contract import (
    Student,
    build_student,
    count_parameters,
    load_student,
    save_card,
    save_weights,
)
from pipeline.errors import RunError, UnknownNameError

CARDS = registry.students()
CLASSES = 5


def _narrow(card: StudentCard) -> Student:
    torch.manual_seed(0)
    width = 0.25 if card.stage_channels[0] < 64 else 0.0625
    return build_student(card.name, n_classes=CLASSES, n_mels=_mels(card), width=width)


def _mels(card: StudentCard) -> int:
    front_end = registry.front_ends().get(card.front_end)
    return front_end.outputs[0].channels if front_end else 64


def _mel(card: StudentCard, batch: int = 3, frames: int = 120) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, frames, _mels(card))


def _settle(student: Student, mel: torch.Tensor) -> Student:
    """Give batch normalisation some statistics other than its initial ones."""
    student.train()
    with torch.no_grad():
        student(mel, torch.full((len(mel),), mel.shape[1]))
    return student.eval()


@pytest.fixture(params=CARDS.values(), ids=CARDS.keys())
def card(request: pytest.FixtureRequest) -> StudentCard:
    return request.param


def test_shapes(card: StudentCard) -> None:
    output = _narrow(card).eval()(_mel(card), torch.tensor([120, 64, 1]))
    assert output.logits.shape == (3, CLASSES)
    assert len(output.stages) == len(card.stage_channels)
    for stage in output.stages:
        assert stage.features.shape[:2] == (3, int(stage.n_frames[0]))
        assert (stage.n_frames >= 1).all()
        assert stage.features.shape[2] >= 1


def test_padding_does_not_change_the_answer(card: StudentCard) -> None:
    mel = _mel(card, frames=120)
    student = _settle(_narrow(card), mel)
    alone = student(mel[:, :70], torch.tensor([70, 70, 70]))
    padded = mel.clone()
    padded[:, 70:] = 99.0
    together = student(padded, torch.tensor([70, 70, 70]))
    torch.testing.assert_close(together.logits, alone.logits, rtol=1e-4, atol=1e-5)
    for a, b in zip(together.stages, alone.stages, strict=True):
        length = int(b.n_frames[0])
        assert torch.equal(a.n_frames, b.n_frames)
        torch.testing.assert_close(a.features[:, :length], b.features[:, :length], rtol=1e-4, atol=1e-5)
        assert not a.features[:, length:].any()


def test_a_clip_does_not_see_its_neighbours(card: StudentCard) -> None:
    mel = _mel(card)
    student = _settle(_narrow(card), mel)
    n_frames = torch.tensor([120, 90, 60])
    together = student(mel, n_frames).logits
    alone = torch.cat([student(mel[k : k + 1], n_frames[k : k + 1]).logits for k in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_every_parameter_learns(card: StudentCard) -> None:
    student = _narrow(card).train()
    with torch.no_grad():
        for parameter in student.parameters():  # some start at zero, and hide what stands before them
            parameter.add_(torch.randn_like(parameter), alpha=0.01)
    output = student(_mel(card), torch.tensor([120, 120, 100]))
    (output.logits.square().sum() + output.stages[-1].features.square().sum()).backward()
    for name, parameter in student.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_an_empty_clip_is_finite(card: StudentCard) -> None:
    output = _narrow(card).eval()(torch.zeros(2, 40, _mels(card)), torch.tensor([0, 40]))
    assert torch.isfinite(output.logits).all()


def _full(card: StudentCard) -> Student:
    """Shapes without numbers: nothing is allocated."""
    with torch.device("meta"):
        return build_student(card.name, n_classes=card.n_classes, n_mels=_mels(card)).eval()


def test_the_card_tells_the_number_of_parameters(card: StudentCard) -> None:
    assert count_parameters(_full(card)) == card.n_parameters


def test_the_card_tells_the_stages(card: StudentCard) -> None:
    mel = torch.zeros(2, card.example_frames, _mels(card), device="meta")
    with torch.inference_mode():
        output = _full(card)(mel, torch.full((2,), card.example_frames, device="meta"))
    assert output.logits.shape == (2, card.n_classes)
    assert tuple(stage.features.shape[1] for stage in output.stages) == card.stage_frames
    assert tuple(stage.features.shape[2] for stage in output.stages) == card.stage_channels
    assert len(set(card.stage_names)) == len(card.stage_names) == len(output.stages)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cp-resnet", "mobile-fcn"])
def test_the_papers_students_learn_at_full_size(name: str) -> None:
    card = CARDS[name]
    torch.manual_seed(0)
    student = build_student(name, n_classes=card.n_classes, n_mels=_mels(card)).train()
    mel, n_frames = _mel(card, batch=4, frames=200), torch.tensor([200, 200, 200, 150])
    targets = (torch.rand(4, card.n_classes) < 0.3).float()
    optimiser = torch.optim.Adam(student.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(student(mel, n_frames).logits, targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert min(losses[-2:]) < 0.9 * losses[0]
    output = student.eval()(_mel(card, batch=1, frames=card.example_frames), torch.tensor([card.example_frames]))
    assert torch.isfinite(output.logits).all()


def test_valid_frames_of_a_stage_follow_the_clip_alone(card: StudentCard) -> None:
    """As many as its own features, had it been given alone, and none beyond."""
    student, n_frames = _narrow(card).eval(), [card.example_frames, card.example_frames // 2, 1, 0]
    together = student(_mel(card, batch=4, frames=card.example_frames), torch.tensor(n_frames))
    assert [stage.n_frames[0] for stage in together.stages] == list(card.stage_frames)
    for row, length in enumerate(n_frames[:3]):
        alone = student(_mel(card, batch=1, frames=length), torch.tensor([length]))
        for a, b in zip(together.stages, alone.stages, strict=True):
            assert a.n_frames[row] == b.n_frames[0] == b.features.shape[1]
    assert all(stage.n_frames[3] == 0 for stage in together.stages)


def test_padding_does_not_change_what_is_learned(card: StudentCard) -> None:
    if card.parameters.get("valid_statistics") is False:
        pytest.skip(f"{card.name} counts padding in batch statistics, and says so")
    mel, n_frames = _mel(card, frames=140), torch.tensor([130, 110, 90])
    made = []
    for length in (130, 140):
        student = _narrow(card).train()
        torch.manual_seed(2)
        output = student(mel[:, :length], n_frames)
        output.logits.square().sum().backward()
        made.append((output.logits, dict(student.named_buffers()), [p.grad for p in student.parameters()]))
    torch.testing.assert_close(made[0], made[1], rtol=1e-3, atol=1e-5)


def test_a_seed_makes_the_same_student(card: StudentCard) -> None:
    for a, b in zip(_narrow(card).parameters(), _narrow(card).parameters(), strict=True):
        assert torch.equal(a, b)


def test_saved_students_answer_the_same(card: StudentCard, tmp_path: Path) -> None:
    mel = _mel(card)
    student = _settle(_narrow(card), mel)
    save_weights(tmp_path, student)
    save_card(tmp_path, student, {"classes": ["a"] * CLASSES})
    loaded, about = load_student(tmp_path)
    n_frames = torch.tensor([120, 100, 3])
    assert torch.equal(loaded(mel, n_frames).logits, student(mel, n_frames).logits)
    assert about["classes"] == ["a"] * CLASSES
    assert not loaded.training


def test_unfinished_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"has no student\.json"):
        load_student(tmp_path)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    save_weights(tmp_path, build_student("cnn-small", n_classes=3, n_mels=64, width=0.25))
    save_card(tmp_path, build_student("cnn-small", n_classes=4, n_mels=64, width=0.25), {})
    with pytest.raises(RunError, match="does not fit the student"):
        load_student(tmp_path)


def test_unknown_students_are_named() -> None:
    with pytest.raises(UnknownNameError, match=r"no student named 'cnn_small'.*cnn-small"):
        build_student("cnn_small", n_classes=3, n_mels=64)


def test_cnn_small_is_small() -> None:
    assert CARDS["cnn-small"].n_parameters < 100_000


def test_cnn_small_is_as_it_was() -> None:
    """Runs of earlier releases load, and seeds give the weights they gave."""
    torch.manual_seed(0)
    student = build_student("cnn-small", n_classes=17, n_mels=64)
    sums = {name: float(value.double().abs().sum()) for name, value in student.state_dict().items()}
    assert sums["stem.convolve.weight"] == pytest.approx(47.914124, rel=1e-6)
    assert sums["classify.1.weight"] == pytest.approx(96.007765, rel=1e-6)
    blocks = ["stem", "stage2", "stage3.0", "stage3.1"]
    layers = [f"{block}.{part}" for block in blocks for part in ("convolve", "normalise")]
    assert list(dict.fromkeys(name.rpartition(".")[0] for name in sums)) == [
        "normalise",
        *layers,
        "head.0",
        "classify.1",
    ]
