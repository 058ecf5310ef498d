"""Losses against slow, independent references: loops in NumPy, and autograd on the naive formula."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.audio.extractor import Frames
from pipeline.distillation.losses.align import align, repeat_factor
from pipeline.distillation.losses.bce import masked_bce, masked_cross_entropy
from pipeline.distillation.losses.compose import Goal, compose
from pipeline.distillation.losses.cosine import cosine_difference
from pipeline.distillation.losses.dcor import distance_correlation
from pipeline.distillation.losses.kd import soft_kd_binary, soft_kd_softmax
from pipeline.distillation.losses.projection import Projections
from pipeline.distillation.losses.settings import LOSSES, choose_stages, find_loss
from pipeline.errors import SettingError, UnknownNameError

RAGGED = [7, 7, 4, 1, 0, 6]


def _pair(batch: int, frames: int, dims: tuple[int, int], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    return tuple(torch.randn(batch, frames, dim, dtype=dtype) for dim in dims)  # type: ignore[return-value]


# --- references ------------------------------------------------------------------------------------


def _dcor_loops(s: np.ndarray, t: np.ndarray, n_frames: list[int]) -> float:
    """One minus distance correlation, written with loops over clips."""
    values = []
    for frame in range(s.shape[1]):
        clips = [b for b in range(len(s)) if n_frames[b] > frame]
        if len(clips) < 2:
            continue
        centred = []
        for x in (s, t):
            d = np.array([[math.sqrt(((x[i, frame] - x[j, frame]) ** 2).sum() + 1e-12) for j in clips] for i in clips])
            centred.append(d - d.mean(0, keepdims=True) - d.mean(1, keepdims=True) + d.mean())
        a, b = centred
        values.append(1 - (a * b).mean() / math.sqrt((a * a).mean() * (b * b).mean() + 1e-9))
    return float(np.mean(values)) if values else 0.0


def _cosine_loops(s: np.ndarray, t: np.ndarray, n_frames: list[int]) -> float:
    values = []
    for frame in range(s.shape[1]):
        clips = [b for b in range(len(s)) if n_frames[b] > frame]
        if len(clips) < 2:
            continue
        total = 0.0
        for i in clips:
            for j in clips:
                angles = []
                for x in (s, t):
                    u, v = x[i, frame], x[j, frame]
                    angles.append((u * v).sum() / math.sqrt((u * u).sum() * (v * v).sum()))
                total += abs(angles[0] - angles[1])
        values.append(total / len(clips) ** 2)
    return float(np.mean(values)) if values else 0.0


def _dcor_naive(s: Tensor, t: Tensor, n_frames: list[int]) -> Tensor:
    """Autograd on the textbook formula with its [batch, batch, channels] differences."""
    values = []
    for frame in range(s.shape[1]):
        clips = [b for b in range(len(s)) if n_frames[b] > frame]
        if len(clips) < 2:
            continue
        centred = []
        for x in (s[clips, frame], t[clips, frame]):
            d = torch.sqrt((x[:, None] - x[None]).square().sum(-1) + 1e-12)
            centred.append(d - d.mean(0, keepdim=True) - d.mean(1, keepdim=True) + d.mean())
        a, b = centred
        values.append(1 - (a * b).mean() / torch.sqrt((a * a).mean() * (b * b).mean() + 1e-9))
    return torch.stack(values).mean()


def _cosine_naive(s: Tensor, t: Tensor, n_frames: list[int]) -> Tensor:
    values = []
    for frame in range(s.shape[1]):
        clips = [b for b in range(len(s)) if n_frames[b] > frame]
        if len(clips) < 2:
            continue
        u, v = (torch.nn.functional.normalize(x[clips, frame], dim=1) for x in (s, t))
        values.append((u @ u.T - v @ v.T).abs().mean())
    return torch.stack(values).mean()


RELATIONS = [
    pytest.param(distance_correlation, _dcor_loops, _dcor_naive, id="dcor"),
    pytest.param(cosine_difference, _cosine_loops, _cosine_naive, id="cosine"),
]


# --- relations inside the batch ---------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "loops", "naive"), RELATIONS)
@pytest.mark.parametrize("n_frames", [[7] * 6, RAGGED, [1, 0, 0, 0, 0, 1]], ids=["full", "ragged", "one frame"])
def test_relations_equal_loops(loss: Callable, loops: Callable, naive: Callable, n_frames: list[int]) -> None:
    s, t = _pair(6, 7, (5, 9))
    value = loss(s, t, torch.tensor(n_frames))
    assert float(value) == pytest.approx(loops(s.numpy(), t.numpy(), n_frames), rel=1e-9)


@pytest.mark.parametrize(("loss", "loops", "naive"), RELATIONS)
def test_relations_have_the_gradient_of_the_naive_formula(loss: Callable, loops: Callable, naive: Callable) -> None:
    s, t = _pair(6, 7, (5, 9))
    ours, theirs = s.clone().requires_grad_(), s.clone().requires_grad_()
    loss(ours, t, torch.tensor(RAGGED)).backward()
    naive(theirs, t, RAGGED).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("loss", "loops", "naive"), RELATIONS)
def test_relations_in_float32_and_large_offsets(loss: Callable, loops: Callable, naive: Callable) -> None:
    s, t = _pair(16, 3, (64, 512), torch.float32)
    t = t + 30.0  # embeddings are rarely centred
    value = float(loss(s, t, torch.full((16,), 3)))
    assert value == pytest.approx(loops(s.double().numpy(), t.double().numpy(), [3] * 16), rel=1e-4)


@pytest.mark.parametrize(("loss", "loops", "naive"), RELATIONS)
def test_padding_is_not_distilled(loss: Callable, loops: Callable, naive: Callable) -> None:
    s, t = _pair(6, 7, (5, 9))
    n_frames = torch.tensor(RAGGED)
    before = loss(s, t, n_frames)
    beyond = torch.arange(7)[None, :] >= n_frames[:, None]
    s2, t2 = s.masked_fill(beyond[:, :, None], 1e3).requires_grad_(), t.masked_fill(beyond[:, :, None], -7.0)
    after = loss(s2, t2, n_frames)
    after.backward()
    assert torch.equal(before, after)
    assert s2.grad is not None
    assert not s2.grad[beyond].any()


@pytest.mark.parametrize(("loss", "loops", "naive"), RELATIONS)
@pytest.mark.parametrize("kind", ["zeros", "equal clips", "one clip"])
def test_degenerate_batches_stay_finite(loss: Callable, loops: Callable, naive: Callable, kind: str) -> None:
    s, t = _pair(4, 2, (5, 9), torch.float32)
    s = {"zeros": s * 0, "equal clips": s[:1].repeat(4, 1, 1) * 1e3, "one clip": s}[kind].requires_grad_()
    n_frames = torch.tensor([2, 0, 0, 0] if kind == "one clip" else [2, 2, 2, 2])
    value = loss(s, t, n_frames)
    value.backward()
    assert torch.isfinite(value)
    assert s.grad is not None
    assert torch.isfinite(s.grad).all()
    assert s.grad.abs().max() < 1e3


def test_same_geometry_costs_nothing_and_rotation_is_free() -> None:
    s, _ = _pair(8, 3, (6, 6))
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    n_frames = torch.full((8,), 3)
    assert float(distance_correlation(s, 2.5 * s @ rotation + 1, n_frames)) == pytest.approx(0, abs=1e-7)
    assert float(cosine_difference(s, 2.5 * s @ rotation, n_frames)) == pytest.approx(0, abs=1e-7)


class _LargestTensor(TorchDispatchMode):
    """Remembers the largest number of elements any operation returned."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, tuple | list) else (result,):
            if isinstance(item, Tensor):
                self.largest = max(self.largest, item.numel())
        return result


def test_distance_correlation_never_makes_the_four_dimensional_tensor() -> None:
    batch, frames, dim = 16, 5, 256
    s, t = _pair(batch, frames, (dim, dim), torch.float32)
    s.requires_grad_()
    with _LargestTensor() as seen:
        distance_correlation(s, t, torch.full((batch,), frames)).backward()
    assert seen.largest <= batch * frames * dim  # the features; the naive formula makes 16 times that
    with _LargestTensor() as naive:
        (s[:, None] - s[None]).square()
    assert naive.largest == batch * batch * frames * dim


# --- labels and scores ---------------------------------------------------------------------------


def test_masked_bce_equals_a_loop() -> None:
    torch.manual_seed(0)
    z, y = torch.randn(5, 4), torch.randint(0, 2, (5, 4)).float()
    known = torch.rand(5, 4) > 0.4
    each = [
        -(y[i, j] * math.log(1 / (1 + math.exp(-z[i, j]))) + (1 - y[i, j]) * math.log(1 / (1 + math.exp(z[i, j]))))
        for i in range(5)
        for j in range(4)
        if known[i, j]
    ]
    assert float(masked_bce(z, y, known)) == pytest.approx(float(np.mean(each)), rel=1e-5)


@pytest.mark.parametrize("term", [masked_bce, masked_cross_entropy])
def test_nothing_known_is_zero_with_a_gradient(term: Callable) -> None:
    z = torch.randn(3, 4, requires_grad=True)
    value = term(z, torch.full((3, 4), torch.nan), torch.zeros(3, 4, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert z.grad is not None
    assert not z.grad.any()


def test_masked_cross_entropy_skips_unknown_rows() -> None:
    torch.manual_seed(0)
    z = torch.randn(4, 3)
    y = torch.nn.functional.one_hot(torch.tensor([0, 2, 1, 1]), 3).float()
    known = torch.tensor([True, True, False, True])[:, None].expand(4, 3)
    expected = torch.nn.functional.cross_entropy(z[[0, 1, 3]], torch.tensor([0, 2, 1]))
    assert float(masked_cross_entropy(z, y, known)) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("tau", [1.0, 2.0])
def test_binary_kd_equals_a_loop(tau: float) -> None:
    torch.manual_seed(0)
    s, t = torch.randn(5, 4), 3 * torch.randn(5, 4)
    mask = torch.rand(5, 4) > 0.3
    each = []
    for i, j in mask.nonzero().tolist():
        p, q = (1 / (1 + math.exp(-float(x[i, j]) / tau)) for x in (t, s))
        each.append(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    assert float(soft_kd_binary(s, t, mask, tau)) == pytest.approx(float(np.mean(each)), rel=1e-4)


def test_kd_gradient_pulls_towards_the_teacher_and_extreme_scores_stay_finite() -> None:
    s = torch.tensor([[0.3, -200.0, 200.0]], requires_grad=True)
    t = torch.tensor([[1.1, 200.0, -200.0]])
    value = soft_kd_binary(s, t, torch.ones(1, 3, dtype=torch.bool), 1.0)
    value.backward()
    assert torch.isfinite(value)
    assert s.grad is not None
    torch.testing.assert_close(s.grad, (s.detach().sigmoid() - t.sigmoid()) / 3)


def test_softmax_kd_is_the_kl_of_distributions() -> None:
    torch.manual_seed(0)
    s, t = torch.randn(4, 5), torch.randn(4, 5)
    mask = torch.tensor([True, False, True, True])[:, None].expand(4, 5)
    p, q = (torch.softmax(x / 2, 1)[[0, 2, 3]] for x in (t, s))
    expected = (p * (p / q).log()).sum(1).mean()
    assert float(soft_kd_softmax(s, t, mask, 2.0)) == pytest.approx(float(expected), rel=1e-5)


# --- time ---------------------------------------------------------------------------------------


def test_repeat_follows_the_paper() -> None:
    assert repeat_factor(62, 10) == repeat_factor(62, 11) == 6
    student = Frames(torch.randn(2, 62, 4), torch.tensor([62, 30]))
    teacher = Frames(torch.arange(22.0).reshape(2, 11, 1), torch.tensor([11, 5]))
    s, t, n_frames = align(student, teacher, "repeat")
    assert s.shape == (2, 62, 4)
    assert t.shape == (2, 62, 1)
    assert t[0, :, 0].tolist() == [k // 6 for k in range(62)]
    assert n_frames.tolist() == [62, 30]


def test_repeat_works_either_way_and_cuts() -> None:
    student = Frames(torch.randn(2, 15, 4), torch.tensor([15, 3]))
    teacher = Frames(torch.randn(2, 31, 7), torch.tensor([31, 31]))
    s, t, n_frames = align(student, teacher, "repeat")
    assert s.shape[1] == t.shape[1] == 30
    assert torch.equal(s[:, 0], s[:, 1])
    assert n_frames.tolist() == [30, 6]


def test_one_vector_meets_every_frame() -> None:
    student = Frames(torch.randn(3, 20, 4), torch.tensor([20, 7, 0]))
    teacher = Frames(torch.randn(3, 1, 7), torch.tensor([1, 1, 1]))
    _, t, n_frames = align(student, teacher, "repeat")
    assert t.shape[1] == 20
    assert n_frames.tolist() == [20, 7, 0]


def test_mean_sees_valid_frames_only() -> None:
    student = Frames(torch.randn(2, 6, 4), torch.tensor([6, 2]))
    teacher = Frames(torch.randn(2, 3, 5), torch.tensor([3, 0]))
    s, _, n_frames = align(student, teacher, "mean")
    torch.testing.assert_close(s[1, 0], student.features[1, :2].mean(0))
    assert n_frames.tolist() == [1, 0]


# --- composition -----------------------------------------------------------------------------------


def _goal(n_labelled: int = 4, batch: int = 6, frames: int = 5) -> Goal:
    torch.manual_seed(1)
    labelled = torch.arange(batch) < n_labelled
    known = (torch.rand(batch, 3) > 0.3) & labelled[:, None]
    return Goal(
        targets=torch.randint(0, 2, (batch, 3)).float(),
        known=known,
        labelled=labelled,
        scores=torch.randn(batch, 3),
        scored=torch.ones(batch, dtype=torch.bool),
        teachers=(Frames(torch.randn(batch, frames, 8), torch.full((batch,), frames)),),
    )


def _output(batch: int = 6) -> tuple[Tensor, tuple[Frames, ...]]:
    torch.manual_seed(2)
    lengths = (20, 10, 5)
    stages = tuple(Frames(torch.randn(batch, n, 4), torch.full((batch,), n)) for n in lengths)
    return torch.randn(batch, 3), stages


def test_kd_is_the_recipe_of_the_pilot() -> None:
    goal, (logits, stages) = _goal(), _output()
    terms = compose(find_loss("kd"), goal, logits, stages, "multi-label")
    bce = masked_bce(logits[:4], goal.targets[:4], goal.known[:4])
    kl = soft_kd_binary(logits, goal.scores, torch.ones(6, 3, dtype=torch.bool), 1.0)  # type: ignore[arg-type]
    assert float(terms["total"]) == pytest.approx(float(0.1 * bce + 0.9 * 4 * kl), rel=1e-6)


def test_east_kd_is_point_three_and_point_seven() -> None:
    goal, (logits, stages) = _goal(), _output()
    terms = compose(find_loss("east-kd"), goal, logits, stages, "multi-label")
    kd = 4 * soft_kd_binary(logits, goal.scores, goal.known, 2.0)  # type: ignore[arg-type]
    dcor = distance_correlation(
        stages[2].features[:4], goal.teachers[0].features[:4], torch.full((4,), 5)
    )  # unlabelled clips do not take part
    expected = 0.5 * terms["labels"] + 0.5 * (0.3 * kd + 0.7 * dcor)
    assert float(terms["total"]) == pytest.approx(float(expected), rel=1e-5)


def test_stage_weights_sum_to_one() -> None:
    assert choose_stages("all", 3) == [(0, 1 / 3), (1, 1 / 3), (2, 1 / 3)]
    goal, (logits, stages) = _goal(n_labelled=6), _output()
    every = compose(find_loss("east-all"), goal, logits, stages, "multi-label")["feature"]
    single = [
        float(compose(find_loss("east-final", stage=stage), goal, logits, stages, "multi-label")["feature"])
        for stage in ("1", "2", "3")
    ]
    assert float(every) == pytest.approx(float(np.mean(single)), rel=1e-5)


def test_several_teachers_weigh_the_same() -> None:
    goal, (logits, stages) = _goal(n_labelled=6), _output()
    other = Frames(torch.randn(6, 1, 30), torch.ones(6, dtype=torch.int64))
    both = goal._replace(teachers=(*goal.teachers, other))
    values = [
        float(compose(find_loss("dcor"), g, logits, stages, "multi-label")["feature"])
        for g in (both, goal, goal._replace(teachers=(other,)))
    ]
    assert values[0] == pytest.approx((values[1] + values[2]) / 2, rel=1e-5)


@pytest.mark.parametrize("task", ["multi-label", "single-label"])
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_finite_and_reaches_the_student(name: str, task: str) -> None:
    goal, (logits, stages) = _goal(), _output()
    if task == "single-label":
        targets = torch.nn.functional.one_hot(torch.arange(6) % 3, 3).float()
        goal = goal._replace(targets=targets, known=goal.labelled[:, None].expand(6, 3))
    logits.requires_grad_()
    stages[2].features.requires_grad_()
    maps = Projections({2: 4}, [8]) if name == "projection" else None
    terms = compose(find_loss(name), goal, logits, stages, task, maps=maps)
    terms["total"].backward()
    assert all(torch.isfinite(term) for term in terms.values())
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
    if find_loss(name).uses_features:
        assert stages[2].features.grad is not None
        assert stages[2].features.grad.abs().sum() > 0


def test_labels_alone_ask_for_no_teacher() -> None:
    assert not find_loss("labels").needs_teacher
    assert not find_loss("labels").uses_unlabelled
    assert not find_loss("kd", lam=0.0).needs_teacher


def test_bad_values_are_named() -> None:
    with pytest.raises(UnknownNameError, match=r"no loss named 'east_kd'.*'east-kd'"):
        find_loss("east_kd")
    with pytest.raises(SettingError, match=r"lam is 1\.5, but must lie between 0\.0 and 1\.0"):
        find_loss("kd", lam=1.5)
    with pytest.raises(UnknownNameError, match="no stage named 'last'"):
        find_loss("dcor", stage="last")
