"""The contract of every feature loss, and each against loops over clips in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import huber_loss

from pipeline.audio.extractor import Frames
from pipeline.distillation.losses.align import align, pair
from pipeline.distillation.losses.compose import FEATURE_LOSSES, Goal, compose
from pipeline.distillation.losses.projection import Projections
from pipeline.distillation.losses.schedule import lam_at
from pipeline.distillation.losses.settings import LOSSES, check_teachers, choose_stages, find_loss, weigh_teachers
from pipeline.distillation.losses.several import joined, standardised
from pipeline.errors import SettingError, UnknownNameError

RAGGED = [4, 4, 3, 1, 0, 4]
RELATIONAL = ("dcor", "cosine", "cka", "rkd", "rkd-distance", "rkd-angle", "pkt")
NOTICES_SHIFT = ("cosine", "pkt", "attention", "projection")
NOTICES_SCALE = ("attention",)  # of single frames; that of a clip it does not


def _pair(name: str, batch: int = 6, frames: int = 4, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    dims = (9, 9) if name == "projection" else (5, 9)
    s, t = (torch.randn(batch, frames, dim, generator=generator, dtype=dtype) for dim in dims)
    return s, t


# --- references: one clip, pair or triplet at a time -------------------------------------------------


def _by_frame(s: Tensor, t: Tensor, n_frames: list[int], least: int) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    for frame in range(s.shape[1]):
        clips = [clip for clip in range(len(s)) if n_frames[clip] > frame]
        if len(clips) >= least:
            yield [s[clip, frame] for clip in clips], [t[clip, frame] for clip in clips]


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


def _distances(x: list[Tensor]) -> list[list[Tensor]]:
    return [[torch.sqrt((a - b).square().sum() + (a is b)) * (a is not b) for b in x] for a in x]


def _dcor(s: Tensor, t: Tensor, n_frames: list[int]) -> Tensor:
    values = []
    for both in _by_frame(s, t, n_frames, 2):
        n, centred = len(both[0]), []
        for d in map(_distances, both):
            rows = [_mean(row) for row in d]
            grand = _mean(rows)
            centred.append([d[i][j] - rows[i] - rows[j] + grand for i in range(n) for j in range(n)])
        a, b = centred
        ab, aa, bb = (_mean([x * y for x, y in zip(*two, strict=True)]) for two in ((a, b), (a, a), (b, b)))
        values.append(1 - ab / torch.sqrt(aa * bb))
    return _mean(values)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / torch.sqrt((a * a).sum() * (b * b).sum())


def _cosine_difference(s: Tensor, t: Tensor, n_frames: list[int]) -> Tensor:
    values = []
    for x, y in _by_frame(s, t, n_frames, 2):
        n = range(len(x))
        values.append(_mean([(_cosine(x[i], x[j]) - _cosine(y[i], y[j])).abs() for i in n for j in n]))
    return _mean(values)


def _cka(s: Tensor, t: Tensor, n_frames: list[int]) -> Tensor:
    """By cross-covariances of channels, the other of the two equal forms."""
    values = []
    for x, y in _by_frame(s, t, n_frames, 2):
        a, b = ([row - sum(rows) / len(rows) for row in rows] for rows in (x, y))
        cross, xx, yy = (
            sum(torch.outer(u, v) for u, v in zip(*two, strict=True)).square().sum()  # type: ignore[union-attr]
            for two in ((a, b), (a, a), (b, b))
        )
        values.append(1 - cross / torch.sqrt(xx * yy))
    return _mean(values)


def _huber(a: Tensor, b: Tensor) -> Tensor:
    return huber_loss(a, b, delta=1.0)


def _rkd_distance(s: Tensor, t: Tensor, n_frames: list[int]) -> Tensor:
    values = []
    for both in _by_frame(s, t, n_frames, 2):
        pairs = [(i, j) for i in range(len(both[0])) for j in range(len(both[0])) if i != j]
        scaled = []
        for d in map(_distances, both):
            each = [d[i][j] for i, j in pairs]
            scaled.append([value / _mean(each) for value in each])
        values.append(_mean([_huber(a, b) for a, b in zip(*scaled, strict=True)]))
    return _mean(values)


def _rkd_angle(s: Tensor, t: Tensor, n_frames: list[int]) -> Tensor:
    values = []
    for x, y in _by_frame(s, t, n_frames, 3):
        n = range(len(x))
        each = [
            _huber(_cosine(x[i] - x[j], x[k] - x[j]), _cosine(y[i] - y[j], y[k] - y[j]))
            for i in n
            for j in n
            for k in n
            if len({i, j, k}) == 3
        ]
        values.append(_mean(each))
    return _mean(values)


def _rkd(s: Tensor, t: Tensor, n_frames: list[int]) -> Tensor:
    return _rkd_distance(s, t, n_frames) + 2 * _rkd_angle(s, t, n_frames)


def _pkt(s: Tensor, t: Tensor, n_frames: list[int]) -> Tensor:
    values = []
    for x, y in _by_frame(s, t, n_frames, 2):
        n = len(x)
        for i in range(n):
            others = [j for j in range(n) if j != i]
            q, p = ([(_cosine(z[i], z[j]) + 1) / 2 for j in others] for z in (x, y))
            parts = [(a / sum(p)) * torch.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True)]
            values.append(sum(parts) / n)  # type: ignore[arg-type]
    return torch.stack(values).sum() / sum(1 for _ in _by_frame(s, t, n_frames, 2))


def _attention(s: Tensor, t: Tensor, n_frames: list[int]) -> Tensor:
    values = []
    for clip, n in enumerate(n_frames):
        if n < 2:
            continue
        a, b = ([x[clip, frame].square().sum() for frame in range(n)] for x in (s, t))
        lengths = [torch.sqrt(sum(value * value for value in z)) for z in (a, b)]  # type: ignore[arg-type]
        values.append(sum((u / lengths[0] - v / lengths[1]) ** 2 for u, v in zip(a, b, strict=True)))
    return _mean(values)  # type: ignore[arg-type]


def _projection(s: Tensor, t: Tensor, n_frames: list[int]) -> Tensor:
    return _mean([1 - _cosine(s[clip, frame], t[clip, frame]) for clip, n in enumerate(n_frames) for frame in range(n)])


REFERENCES: dict[str, Callable[[Tensor, Tensor, list[int]], Tensor]] = {
    "dcor": _dcor,
    "cosine": _cosine_difference,
    "cka": _cka,
    "rkd": _rkd,
    "rkd-distance": _rkd_distance,
    "rkd-angle": _rkd_angle,
    "pkt": _pkt,
    "attention": _attention,
    "projection": _projection,
}


def test_every_feature_loss_has_a_reference_and_a_name() -> None:
    assert REFERENCES.keys() == FEATURE_LOSSES.keys() == {loss.feature for loss in LOSSES.values()} - {"none"}


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_value_and_gradient_equal_loops(name: str) -> None:
    s, t = _pair(name)
    ours, theirs = s.clone().requires_grad_(), s.clone().requires_grad_()
    value, expected = FEATURE_LOSSES[name](ours, t, torch.tensor(RAGGED)), REFERENCES[name](theirs, t, RAGGED)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_float32_with_offset_is_near_float64(name: str) -> None:
    s, t = _pair(name, batch=16)
    t = t + 30.0  # embeddings are rarely centred
    n_frames = torch.full((16,), 4)
    precise = FEATURE_LOSSES[name](s, t, n_frames)
    assert float(FEATURE_LOSSES[name](s.float(), t.float(), n_frames)) == pytest.approx(float(precise), rel=2e-3)


# --- the contract ------------------------------------------------------------------------------------


def _cases(name: str) -> Iterator[tuple[str, Tensor, Tensor, Tensor]]:
    s, t = _pair(name, dtype=torch.float32)
    full, ragged = torch.full((6,), 4), torch.tensor(RAGGED)
    yield "random", s, t, ragged
    yield "large", s * 1e4, t, full
    yield "tiny", s * 1e-4, t, full
    yield "zeros", s * 0, t, full
    yield "zero teacher", s, t * 0, full
    yield "equal clips", s[:1].expand(6, -1, -1) * 1e3, t, full
    yield "constant", torch.full_like(s, 7.0), torch.full_like(t, -3.0), full
    yield "two alike", torch.cat([s[:1], s[:1], s[2:]]), torch.cat([t[:1], t[:1], t[2:]]), full
    yield "one clip", s, t, torch.tensor([4, 0, 0, 0, 0, 0])
    yield "two clips", s, t, torch.tensor([4, 4, 0, 0, 0, 0])
    yield "no clip", s, t, torch.zeros(6, dtype=torch.int64)


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_values_and_gradients_are_finite(name: str) -> None:
    for case, s, t, n_frames in _cases(name):
        x = s.clone().requires_grad_()
        value = FEATURE_LOSSES[name](x, t, n_frames)
        value.backward()
        assert value.isfinite(), case
        assert -1e-5 <= float(value.detach()) <= 10, case
        assert x.grad is not None, case
        assert x.grad.isfinite().all(), case
        if case != "tiny":
            assert x.grad.abs().max() < 1e3, case


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_padding_is_not_distilled(name: str) -> None:
    s, t = _pair(name)
    n_frames = torch.tensor(RAGGED)
    beyond = (torch.arange(4)[None, :] >= n_frames[:, None])[:, :, None]
    x = s.masked_fill(beyond, 1e3).requires_grad_()
    value = FEATURE_LOSSES[name](x, t.masked_fill(beyond, -7.0), n_frames)
    value.backward()
    torch.testing.assert_close(value, FEATURE_LOSSES[name](s, t, n_frames), rtol=1e-12, atol=0)
    assert x.grad is not None
    assert not x.grad[beyond.expand_as(s)].any()
    assert x.grad[~beyond.expand_as(s)].any()


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_an_absent_clip_changes_nothing(name: str) -> None:
    s, t = _pair(name)
    kept = [0, 1, 2, 3, 5]
    with_it = FEATURE_LOSSES[name](s, t, torch.tensor(RAGGED))  # clip 4 has no frame
    without = FEATURE_LOSSES[name](s[kept], t[kept], torch.tensor([RAGGED[clip] for clip in kept]))
    torch.testing.assert_close(with_it, without, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", FEATURE_LOSSES)
def test_the_same_geometry_costs_nothing(name: str) -> None:
    s, t = _pair(name)
    n_frames = torch.tensor(RAGGED)
    assert float(FEATURE_LOSSES[name](s, s.clone(), n_frames)) == pytest.approx(0, abs=2e-7)
    assert float(FEATURE_LOSSES[name](s, t, n_frames)) > 0.01


@pytest.mark.parametrize("name", sorted(FEATURE_LOSSES.keys() - {"projection"}))
def test_rotation_scale_and_shift(name: str) -> None:
    s, t = _pair(name)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    loss, n_frames = FEATURE_LOSSES[name], torch.tensor(RAGGED)
    before = float(loss(s, t, n_frames))
    assert float(loss(2.5 * s @ rotation, t, n_frames)) == pytest.approx(before, rel=1e-6)
    moved = float(loss(s + 3.0, t, n_frames))
    assert (moved == pytest.approx(before, rel=1e-6)) == (name not in NOTICES_SHIFT)


@pytest.mark.parametrize("name", RELATIONAL)
def test_relations_do_not_care_about_the_order_of_clips(name: str) -> None:
    s, t = _pair(name)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    n_frames = torch.tensor(RAGGED)
    before, after = (
        FEATURE_LOSSES[name](a, b, n) for a, b, n in ((s, t, n_frames), (s[order], t[order], n_frames[order]))
    )
    torch.testing.assert_close(before, after, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("ours", "theirs"), [(62, 10), (20, 1), (20, 13), (15, 31), (7, 3)])
@pytest.mark.parametrize("name", RELATIONAL)
def test_coarse_frames_worked_out_once_are_as_good_as_repeated_ones(name: str, ours: int, theirs: int) -> None:
    torch.manual_seed(0)
    n = torch.tensor([[ours, theirs]] * 3 + [[ours // 2, theirs], [ours, -(-theirs // 2)], [ours, 0]])
    s, t = (Frames(torch.randn(6, k, 8, dtype=torch.float64), n[:, i]) for i, k in enumerate((ours, theirs)))
    values, gradients = [], []
    for meet in (align, pair):
        x = s.features.clone().requires_grad_()
        values.append(FEATURE_LOSSES[name](*meet(Frames(x, s.n_frames), t, "repeat")))
        values[-1].backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*values, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-10)


# --- time ----------------------------------------------------------------------------------------------


def test_interpolation_equals_a_loop_and_never_sees_padding() -> None:
    torch.manual_seed(0)
    teacher = Frames(torch.randn(3, 5, 2, dtype=torch.float64), torch.tensor([5, 3, 0]))
    teacher.features[1, 3:] = 1e6
    student = Frames(torch.randn(3, 12, 4), torch.tensor([12, 12, 12]))
    aligned = align(student, teacher, "interpolate")
    assert torch.equal(aligned.student, student.features)
    assert aligned.n_frames.tolist() == [12, 7, 0]  # the centre of frame 7 lies at 3.125 frames of the teacher
    for clip, n in enumerate([5, 3]):
        for frame in range(int(aligned.n_frames[clip])):
            place = min(max((frame + 0.5) * 5 / 12 - 0.5, 0.0), n - 1.0)
            left = math.floor(place)
            right = min(left + 1, n - 1)
            values = teacher.features[clip]
            expected = values[left] + (place - left) * (values[right] - values[left])
            torch.testing.assert_close(aligned.teacher[clip, frame], expected, rtol=1e-6, atol=1e-6)


def test_interpolation_follows_torch_on_whole_clips_and_works_either_way() -> None:
    x, y = Frames(torch.randn(2, 7, 3), torch.tensor([7, 7])), Frames(torch.randn(2, 31, 4), torch.tensor([31, 31]))
    expected = torch.nn.functional.interpolate(x.features.transpose(1, 2), size=31, mode="linear").transpose(1, 2)
    torch.testing.assert_close(align(x, y, "interpolate").student, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(align(y, x, "interpolate").teacher, expected, rtol=1e-5, atol=1e-5)
    one = Frames(torch.randn(2, 1, 3), torch.tensor([1, 0]))
    aligned = align(y, one, "interpolate")
    assert torch.equal(aligned.teacher[0], one.features[0].expand(31, 3))
    assert aligned.n_frames.tolist() == [31, 0]


# --- stages, teachers, schedule ---------------------------------------------------------------------------


def _goal(*teachers: Frames, n_labelled: int = 6) -> Goal:
    labelled = torch.arange(6) < n_labelled
    return Goal(
        targets=torch.zeros(6, 3),
        known=labelled[:, None].expand(6, 3),
        labelled=labelled,
        scores=torch.randn(6, 3, generator=torch.Generator().manual_seed(5)),
        scored=torch.tensor([True] * 5 + [False]),
        teachers=teachers,
    )


def _frames(n: int, channels: int, seed: int, scale: float = 1.0) -> Frames:
    features = scale * torch.randn(6, n, channels, generator=torch.Generator().manual_seed(seed))
    return Frames(features, torch.full((6,), n))


STAGES = tuple(_frames(n, 4, n) for n in (20, 10, 5))
LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(9))


def _feature(goal: Goal, name: str = "dcor", **changes: float | str) -> float:
    return float(compose(find_loss(name, **changes), goal, LOGITS, STAGES, "multi-label")["feature"])


@pytest.mark.parametrize("feature", ["dcor", "cka", "rkd"])
def test_a_weighted_mix_of_stages(feature: str) -> None:
    goal = _goal(_frames(5, 8, 1))
    single = [_feature(goal, feature, stage=stage) for stage in ("1", "2", "3")]
    mixed = _feature(goal, feature, stage="2,3,5")
    assert mixed == pytest.approx(0.2 * single[0] + 0.3 * single[1] + 0.5 * single[2], rel=1e-5)
    assert choose_stages("0, 1, 1", 3) == [(1, 0.5), (2, 0.5)]
    assert _feature(goal, feature, feature_scale=3.0) == pytest.approx(3 * single[2], rel=1e-6)


def test_teachers_are_shifted_where_asked() -> None:
    there = _frames(5, 8, 1)
    away = Frames(there.features + 2.24, there.n_frames)
    for clips in ("all", "labelled"):
        plain = _feature(_goal(there, n_labelled=4), "cosine", clips=clips)
        assert _feature(_goal(away, n_labelled=4), "cosine", clips=clips) != pytest.approx(plain, rel=0.01)
        shifted = _feature(_goal(away, n_labelled=4), "cosine", clips=clips, teacher_shift=2.24)
        assert shifted == pytest.approx(plain, rel=1e-5)
    assert _feature(_goal(away), teacher_shift=2.24) == pytest.approx(_feature(_goal(away)), rel=1e-4)  # distances


def test_teachers_are_weighed() -> None:
    a, b = _frames(5, 8, 1), _frames(1, 30, 2)
    alone = [_feature(_goal(teacher)) for teacher in (a, b)]
    assert _feature(_goal(a, b), teacher_weights="3,1") == pytest.approx(0.75 * alone[0] + 0.25 * alone[1], rel=1e-5)
    assert weigh_teachers(find_loss("dcor"), 3) == (1 / 3,) * 3


def test_joint_geometry_is_that_of_standardised_teachers_side_by_side() -> None:
    a, b = _frames(5, 8, 1), _frames(5, 30, 2, scale=100.0)
    parts = []
    for x in (a.features, b.features):
        centred = x - x.mean((0, 1))
        parts.append(centred / centred.square().sum(2).mean().sqrt())
    expected = FEATURE_LOSSES["dcor"](STAGES[2].features, torch.cat(parts, 2), torch.full((6,), 5))
    assert _feature(_goal(a, b), teachers="joint") == pytest.approx(float(expected), rel=1e-5)
    louder = Frames(b.features * 50 + 7, b.n_frames)
    assert _feature(_goal(a, louder), teachers="joint") == pytest.approx(float(expected), rel=1e-4)


def test_joint_teachers_count_where_all_are_there() -> None:
    a = Frames(torch.randn(6, 5, 8), torch.tensor([5, 5, 5, 0, 5, 3]))
    b = Frames(torch.randn(6, 1, 3), torch.tensor([1, 0, 1, 1, 1, 1]))
    assert joined([a, b], "repeat").n_frames.tolist() == [5, 0, 5, 0, 5, 3]
    assert joined([a, b], "mean").n_frames.tolist() == [1, 0, 1, 0, 1, 1]
    padded = a.features.masked_fill((torch.arange(5)[None, :] >= a.n_frames[:, None])[:, :, None], 1e4)
    before, after = standardised(a), standardised(Frames(padded, a.n_frames))
    torch.testing.assert_close(before.features, after.features)


def test_hidden_clips_are_hidden_by_option_from_every_loss() -> None:
    teacher = _frames(5, 8, 1)
    for name in sorted(FEATURE_LOSSES.keys() - {"projection"}):
        goal = _goal(teacher, n_labelled=4)
        cut = FEATURE_LOSSES[name](STAGES[2].features[:4], teacher.features[:4], torch.full((4,), 5))
        assert _feature(goal, name, clips="labelled") == pytest.approx(float(cut), rel=1e-5), name
        assert _feature(goal, name) != pytest.approx(float(cut), rel=1e-3), name


def test_any_feature_loss_beside_distillation() -> None:
    goal = _goal(_frames(5, 8, 1))
    terms = compose(find_loss("kd", feature="cka"), goal, LOGITS, STAGES, "multi-label")
    kd = compose(find_loss("kd"), goal, LOGITS, STAGES, "multi-label")["kd"]
    assert float(terms["reg"]) == pytest.approx(0.3 * float(kd) + 0.7 * _feature(goal, "cka"), rel=1e-5)


@pytest.mark.parametrize("task", ["multi-label", "single-label"])
def test_hard_targets_are_the_decisions_of_scored_clips(task: str) -> None:
    goal = _goal(_frames(5, 8, 1))
    assert goal.scores is not None
    found = float(compose(find_loss("kd-hard"), goal, LOGITS, STAGES, task)["kd"])
    each = []
    for clip in range(5):
        if task == "single-label":
            best = int(goal.scores[clip].argmax())
            each.append(-math.log(float(LOGITS[clip].exp()[best] / LOGITS[clip].exp().sum())))
            continue
        for k in range(3):
            p = 1 / (1 + math.exp(-float(LOGITS[clip, k])))
            each.append(-math.log(p if goal.scores[clip, k] > 0 else 1 - p))
    assert found == pytest.approx(sum(each) / len(each), rel=1e-5)


def test_lam_follows_its_schedule() -> None:
    goal = _goal(_frames(5, 8, 1))
    loss = find_loss("dcor", lam=0.8, lam_schedule="cosine")
    assert [round(lam_at(loss, step, 10), 3) for step in (0, 5, 10)] == [0.8, 0.4, 0.0]
    warm = find_loss("dcor", lam=0.8, lam_schedule="warmup", lam_warmup=0.5)
    assert [round(lam_at(warm, step, 10), 3) for step in (0, 1, 4, 9)] == [0.16, 0.32, 0.8, 0.8]
    assert lam_at(find_loss("dcor", lam_schedule="warmup", lam_warmup=0.0), 0, 10) == 0.5
    terms = compose(loss, goal, LOGITS, STAGES, "multi-label", lam=0.25)
    assert float(terms["total"]) == pytest.approx(float(0.75 * terms["labels"] + 0.25 * terms["reg"]), rel=1e-6)


def test_maps_are_one_for_each_stage_and_teacher() -> None:
    a, b = _frames(5, 8, 1), _frames(1, 30, 2)
    torch.manual_seed(0)
    maps = Projections({0: 4, 2: 4}, [8, 30])
    loss = find_loss("projection", stage="1,0,1")
    value = compose(loss, _goal(a, b), LOGITS, STAGES, "multi-label", maps=maps)["feature"]
    value.backward()
    assert len(maps.maps) == 4
    assert all(p.grad is not None and p.grad.any() for p in maps.parameters())


def test_what_makes_no_sense_is_refused() -> None:
    for change, words in (
        ({"stage": "0.5;0.5"}, "no stage named"),
        ({"stage": "0.5,x"}, r"stage is '0\.5,x', but weights are numbers"),
        ({"stage": "0,0"}, "not all 0"),
        ({"feature": "cca"}, "no feature named 'cca'.*'cka'"),
        ({"teacher_weights": "1,1", "teachers": "joint"}, "joint geometry has no weights"),
        ({"feature": "attention", "align": "mean"}, "averages away"),
        ({"lam_schedule": "linear"}, "no lam_schedule named"),
    ):
        with pytest.raises((SettingError, UnknownNameError), match=words):
            find_loss("dcor", **change)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="feature = cka has no effect: give a lam"):
        find_loss("labels", feature="cka")
    with pytest.raises(SettingError, match="stage is 4, but the student has 3 stages"):
        choose_stages("4", 3)
    with pytest.raises(SettingError, match=r"gives 2 weights .* has 3 stages"):
        choose_stages("1,1", 3)
    with pytest.raises(SettingError, match=r"gives 2 weights .* 1 teacher"):
        check_teachers(find_loss("dcor", teacher_weights="1,2"), {"a/clip": 1})
    with pytest.raises(SettingError, match="a/clip has one vector per clip"):
        check_teachers(find_loss("attention"), {"a/clip": 1, "b/frames": 9})
