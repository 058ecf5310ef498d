"""From a batch and what the student made of it to the terms of the loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.audio.extractor import Frames
from pipeline.distillation.losses.align import align, pair
from pipeline.distillation.losses.attention import attention_transfer
from pipeline.distillation.losses.bce import masked_bce, masked_cross_entropy
from pipeline.distillation.losses.cka import linear_cka
from pipeline.distillation.losses.cosine import cosine_difference
from pipeline.distillation.losses.dcor import distance_correlation
from pipeline.distillation.losses.kd import hard_kd_binary, hard_kd_softmax, soft_kd_binary, soft_kd_softmax
from pipeline.distillation.losses.pkt import probabilistic_transfer
from pipeline.distillation.losses.projection import Projections, cosine_distance
from pipeline.distillation.losses.rkd import relational, relational_angle, relational_distance
from pipeline.distillation.losses.settings import LossSettings, choose_stages, weigh_teachers
from pipeline.distillation.losses.several import joined

#: ``(student [batch, frames, channels], teacher [batch, frames, channels], n_frames [batch]) -> scalar``.
#: Those of single clips want both on one time axis; to the others one may come coarser.
FEATURE_LOSSES = {
    "dcor": distance_correlation,
    "cosine": cosine_difference,
    "cka": linear_cka,
    "rkd": relational,
    "rkd-distance": relational_distance,
    "rkd-angle": relational_angle,
    "pkt": probabilistic_transfer,
    "attention": attention_transfer,
    "projection": cosine_distance,
}
_OF_SINGLE_CLIPS = ("attention", "projection")


class Goal(NamedTuple):
    """What a batch should become.

    Shape:
        targets: [batch, classes], float32 in [0, 1].
        known: [batch, classes], bool: which targets count.
        labelled: [batch], bool: clips whose labels may be seen at all.
        scores: [batch, classes], logits of the teacher's probe, or None.
        scored: [batch], bool: clips that have such scores.
        teachers: per teacher store features [batch, frames, channels]; a clip that is absent from
            a store has ``n_frames`` 0 there.
    """

    targets: Tensor
    known: Tensor
    labelled: Tensor
    scores: Tensor | None
    scored: Tensor
    teachers: tuple[Frames, ...]


def compose(
    loss: LossSettings,
    goal: Goal,
    logits: Tensor,
    stages: tuple[Frames, ...],
    task: str,
    *,
    lam: float | None = None,
    maps: Projections | None = None,
) -> dict[str, Tensor]:
    """The terms of the loss, each before its weight, and ``total``.

    Args:
        task: ``"multi-label"`` or ``"single-label"``.
        lam: instead of the loss's, where that changes with the steps.
        maps: of ``projection``, from the student's stages to the teachers.

    Returns:
        Scalars ``labels``, and where they take part ``kd``, ``feature`` and ``reg``; and ``total``.
    """
    terms = {"labels": _label_term(goal, logits, task)}
    parts: list[tuple[float, Tensor]] = []
    if loss.uses_kd:
        terms["kd"] = _kd_term(loss, goal, logits, task)
        parts.append((loss.kd_share if loss.uses_features else 1.0, terms["kd"]))
    if loss.uses_features:
        terms["feature"] = _feature_term(loss, goal, stages, maps)
        parts.append((1.0 - loss.kd_share if loss.uses_kd else 1.0, terms["feature"]))
    if parts:
        lam = loss.lam if lam is None else lam
        terms["reg"] = torch.stack([weight * term for weight, term in parts]).sum()
        terms["total"] = (1.0 - lam) * terms["labels"] + lam * terms["reg"]
    else:
        terms["total"] = terms["labels"]
    return terms


def _label_term(goal: Goal, logits: Tensor, task: str) -> Tensor:
    term = masked_cross_entropy if task == "single-label" else masked_bce
    return term(logits, goal.targets, goal.known)


def _kd_term(loss: LossSettings, goal: Goal, logits: Tensor, task: str) -> Tensor:
    if goal.scores is None:
        raise ValueError(f"the loss {loss.name!r} needs the teacher's scores in the batch")
    mask = goal.known if loss.clips == "labelled" else torch.ones_like(goal.known)
    mask = mask & goal.scored[:, None]
    if loss.kd_targets == "hard":
        decided = hard_kd_softmax if task == "single-label" else hard_kd_binary
        return (loss.kd_scale or 1.0) * decided(logits, goal.scores, mask)
    term = soft_kd_softmax if task == "single-label" else soft_kd_binary
    scale = loss.kd_scale or loss.tau**2
    return scale * term(logits, goal.scores, mask, loss.tau)


def _feature_term(loss: LossSettings, goal: Goal, stages: tuple[Frames, ...], maps: Projections | None) -> Tensor:
    measure = FEATURE_LOSSES[loss.feature]
    meet = align if loss.feature in _OF_SINGLE_CLIPS else pair
    teachers = tuple(_seen(loss, goal, teacher) for teacher in goal.teachers)
    if loss.teachers == "joint":
        teachers = (joined(teachers, loss.align),)
    weights = weigh_teachers(loss, len(teachers))
    terms = []
    for stage, share in choose_stages(loss.stage, len(stages)):
        for number, (teacher, weight) in enumerate(zip(teachers, weights, strict=True)):
            student, seen, n_frames = meet(stages[stage], teacher, loss.align)
            if maps is not None:
                student = maps(stage, number, student)
            terms.append(measure(student, seen, n_frames) * (share * weight * loss.feature_scale))
    return torch.stack(terms).sum()


def _seen(loss: LossSettings, goal: Goal, teacher: Frames) -> Frames:
    """A teacher as the loss takes it: shifted, without the clips that it may not see."""
    features = teacher.features - loss.teacher_shift if loss.teacher_shift else teacher.features
    if loss.clips == "all":
        return Frames(features, teacher.n_frames)
    return Frames(features, teacher.n_frames.masked_fill(~goal.labelled, 0))
