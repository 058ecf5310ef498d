"""The students' parts against hand counts and plain references; see also ``contract/test_students.py``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.nn import functional as F

from cli import east
from pipeline.distillation.students.contract import build_student, mean_time
from pipeline.distillation.students.costs import student_costs, student_speed
from pipeline.distillation.students.cp_resnet import KERNELS
from pipeline.distillation.students.layers import MaxPool, picture
from pipeline.distillation.students.normalisation import FrameNorm, VectorNorm
from pipeline.errors import SettingError
from pipeline.evaluation.receptive import receptive_field
from pipeline.registry import find_student


def _field(layers: Sequence[tuple[int, int]]) -> int:
    """Receptive field of layers (kernel, stride) in a row: each adds kernel - 1 steps of its input."""
    field, step = 1, 1
    for kernel, stride in layers:
        field, step = field + (kernel - 1) * step, step * stride
    return field


CP_RESNET = [(5, 2)]
for _stage, _pairs in enumerate(KERNELS):
    for _block, (_first, _second) in enumerate(_pairs):
        CP_RESNET += [(_first, 1), (_second, 1)] + [(2, 2)] * (_stage == 0 and _block in (0, 1, 3))

IN_TIME = {
    "cnn-small": [(7, 4), (3, 2), (3, 2), (3, 1)],
    "cp-resnet": CP_RESNET,
    "mobile-fcn": [(3, 1), (4, 4), (3, 1), (3, 3), (3, 1), (2, 2), (3, 1), (2, 2), (3, 1), (2, 2)] + 3 * [(3, 1)],
}
IN_MELS = {
    "cnn-small": [(5, 2), (3, 2), (3, 2), (3, 2)],
    "cp-resnet": CP_RESNET,
    "mobile-fcn": [(3, 1), (2, 2), (3, 1), (2, 2), (3, 1), (2, 2), (3, 1), (3, 3), (3, 1), (4, 4)] + 3 * [(3, 1)],
}
costs_of = cache(lambda name: student_costs(find_student(name)))
TIMES = {"cnn-small": (0.032, 0.064), "cp-resnet": (0.01, 0.025), "mobile-fcn": (0.02, 0.05)}


@pytest.mark.parametrize("name", list(TIMES))
def test_receptive_fields_follow_from_kernels_and_strides(name: str) -> None:
    costs, (hop_s, window_s) = costs_of(name), TIMES[name]
    assert costs.field_s == pytest.approx((_field(IN_TIME[name]) - 1) * hop_s + window_s)
    assert costs.field_mels == min(costs.n_mels, _field(IN_MELS[name]))


def test_cp_resnet_sees_231_frames() -> None:
    assert _field(CP_RESNET) == 231


def test_the_macs_of_cp_resnet_by_hand() -> None:
    """Pictures of 500 x 64, 250 x 32, 125 x 16, then 62 x 8."""
    sizes = (
        [(500 * 64, 128), (250 * 32, 128), (125 * 16, 128), (125 * 16, 128)] + [(62 * 8, 256)] * 4 + [(62 * 8, 512)] * 4
    )
    inputs = [128] * 5 + [256] * 4 + [512] * 3
    kernels = [pair for stage in KERNELS for pair in stage]
    macs = 500 * 64 * 25 * 128 + 512 * 20
    for (places, channels), given, (first, second) in zip(sizes, inputs, kernels, strict=True):
        shortcut = given * channels if given != channels else 0
        macs += places * (first**2 * given * channels + second**2 * channels**2 + shortcut)
    assert costs_of("cp-resnet").macs_per_s * 10.0 == pytest.approx(macs, rel=1e-9)


class _Excited(nn.Module):
    """A convolution, scaled by the mean of the whole clip."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve = nn.Conv2d(1, 2, 3, padding=1)
        self.scale = nn.Identity()

    def forward(self, mel: Tensor, n_frames: Tensor) -> Tensor:
        x = self.convolve(mel[:, None])
        return self.scale(x * x.mean((2, 3), keepdim=True))  # type: ignore[no-any-return]


def test_a_network_that_looks_at_the_whole_clip_sees_all_of_it() -> None:
    field = receptive_field(_Excited(), n_frames=40, n_mels=9, map_frames=40)
    assert (field.frames, field.mels) == (40, 9)
    with pytest.raises(ValueError, match="no layer of _Excited gives a map of 7 frames"):
        receptive_field(_Excited(), n_frames=40, n_mels=9, map_frames=7)


def test_cp_resnet_is_a_plain_network_where_nothing_is_padded() -> None:
    """Against torch's functions in a row, mels by frames, as the paper's code lays pictures out."""
    torch.manual_seed(0)
    student = build_student("cp-resnet", n_classes=3, n_mels=32, width=1 / 16)
    mel, n_frames = torch.randn(2, 90, 32), torch.tensor([90, 90])
    for parameter in student.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.1)
    student.train()(mel, n_frames)
    state = student.eval().state_dict()

    def convolve(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.convolve.weight"].transpose(2, 3)
        x = F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2)
        norm = [state[f"{name}.normalise.{key}"] for key in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *norm)  # type: ignore[arg-type]

    x = F.relu(convolve(mel.transpose(1, 2)[:, None], "stem", 2))
    for stage in (1, 2, 3):
        for layer in range(7 if stage == 1 else 4):
            name = f"stage{stage}.{layer}"
            if stage == 1 and layer in (1, 3, 6):
                x = F.max_pool2d(x, 2)
                continue
            y = convolve(F.relu(convolve(x, f"{name}.first")), f"{name}.second")
            x = F.relu(y + (convolve(x, f"{name}.shortcut") if f"{name}.shortcut.convolve.weight" in state else x))
    wanted = F.linear(x.mean((2, 3)), state["classify.weight"], state["classify.bias"])
    made = student(mel, n_frames)
    torch.testing.assert_close(made.logits, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(made.stages[-1].features, x.mean(2).transpose(1, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["picture", "vectors"])
def test_statistics_are_those_of_valid_frames(kind: str) -> None:
    torch.manual_seed(0)
    n_frames = torch.tensor([7, 4, 0])
    if kind == "picture":
        ours, plain, x = FrameNorm(5), nn.BatchNorm2d(5), torch.randn(3, 5, 7, 2)
        rows = torch.cat([x[0], x[1][:, :4]], dim=1)[None]
        taken = lambda y: torch.cat([y[0], y[1][:, :4]], dim=1)[None]  # noqa: E731
    else:
        ours, plain, x = VectorNorm(5), nn.BatchNorm1d(5), torch.randn(3, 7, 5)
        rows = torch.cat([x[0], x[1][:4]])
        taken = lambda y: torch.cat([y[0], y[1][:4]])  # noqa: E731
    torch.testing.assert_close(taken(ours.train()(x, n_frames)), plain.train()(rows))
    torch.testing.assert_close(ours.state_dict(), plain.state_dict())
    torch.testing.assert_close(taken(ours.eval()(x, n_frames)), plain.eval()(rows))


def test_a_short_clip_is_followed_by_zeros_and_an_empty_one_stays_empty() -> None:
    mel = torch.ones(3, 4, 2)
    x, n_frames = picture(mel, torch.tensor([4, 2, 0]), shortest=6)
    assert x.shape == (3, 1, 6, 2)
    assert n_frames.tolist() == [6, 6, 0]
    assert x.sum((1, 2, 3)).tolist() == [8.0, 4.0, 0.0]


def test_a_window_that_reaches_beyond_the_clip_is_dropped() -> None:
    x = torch.arange(1.0, 8.0)[None, None, :, None].expand(2, 1, 7, 1)
    made, n_frames = MaxPool(2, 1)(x, torch.tensor([7, 5]))
    assert n_frames.tolist() == [3, 2]
    assert made[:, 0, :, 0].tolist() == [[2, 4, 6], [2, 4, 0]]


def test_the_mean_over_time_counts_valid_frames() -> None:
    x = torch.tensor([[[1.0], [3.0], [9.0]], [[1.0], [3.0], [9.0]], [[1.0], [3.0], [9.0]]])
    assert mean_time(x, torch.tensor([3, 2, 0])).flatten().tolist() == pytest.approx([13 / 3, 2.0, 0.0])


def test_too_few_mels_are_refused_in_words() -> None:
    with pytest.raises(SettingError, match="mobile-fcn pools mels by 32 or more, but was given 16"):
        build_student("mobile-fcn", n_classes=3, n_mels=16)


def test_speed_is_measured_without_changing_the_threads() -> None:
    threads = torch.get_num_threads()
    speed = student_speed(find_student("cnn-tiny"))
    assert 0 < speed.student < speed.real_time_factor < 10
    assert torch.get_num_threads() == threads


@pytest.mark.slow
def test_the_list_tells_how_fast_students_are() -> None:
    result = CliRunner().invoke(east, ["students", "--measure", "--json"], catch_exceptions=False)
    rows = {row["name"]: row for row in json.loads(result.output)}
    assert rows["cnn-small"]["parameters"] == 79_844
    assert rows["cp-resnet"]["real_time_factor"] > 5 * rows["cnn-small"]["real_time_factor"]
    table = CliRunner().invoke(east, ["students", "--measure"], catch_exceptions=False).output
    assert "real-time factor" in table
    assert "33/64" in table
