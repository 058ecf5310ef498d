"""From a batch and what the student made of it to the terms of the loss."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.audio.extractor import Frames
from pipeline.distillation.losses.align import align
from pipeline.distillation.losses.bce import masked_bce, masked_cross_entropy
from pipeline.distillation.losses.cosine import cosine_difference
from pipeline.distillation.losses.dcor import distance_correlation
from pipeline.distillation.losses.kd import soft_kd_binary, soft_kd_softmax
from pipeline.distillation.losses.settings import LossSettings

_FEATURE_LOSSES = {"dcor": distance_correlation, "cosine": cosine_difference}


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


def compose(loss: LossSettings, goal: Goal, logits: Tensor, stages: tuple[Frames, ...], task: str) -> dict[str, Tensor]:
    """The terms of the loss, each before its weight, and ``total``.

    Args:
        task: ``"multi-label"`` or ``"single-label"``.

    Returns:
        Scalars ``labels``, and where they take part ``kd``, ``feature`` and ``reg``; and ``total``.
    """
    terms = {"labels": _label_term(goal, logits, task)}
    parts: list[tuple[float, Tensor]] = []
    if loss.uses_kd:
        terms["kd"] = _kd_term(loss, goal, logits, task)
        parts.append((loss.kd_share if loss.uses_features else 1.0, terms["kd"]))
    if loss.uses_features:
        terms["feature"] = _feature_term(loss, goal, stages)
        parts.append((1.0 - loss.kd_share if loss.uses_kd else 1.0, terms["feature"]))
    if parts:
        terms["reg"] = torch.stack([weight * term for weight, term in parts]).sum()
        terms["total"] = (1.0 - loss.lam) * terms["labels"] + loss.lam * terms["reg"]
    else:
        terms["total"] = terms["labels"]
    return terms


def _label_term(goal: Goal, logits: Tensor, task: str) -> Tensor:
    term = masked_cross_entropy if task == "single-label" else masked_bce
    return term(logits, goal.targets, goal.known)


def _kd_term(loss: LossSettings, goal: Goal, logits: Tensor, task: str) -> Tensor:
    if goal.scores is None:
        raise ValueError(f"the loss {loss.name!r} needs the teacher's scores in the batch")
    term = soft_kd_softmax if task == "single-label" else soft_kd_binary
    mask = goal.known if loss.clips == "labelled" else torch.ones_like(goal.known)
    scale = loss.kd_scale or loss.tau**2
    return scale * term(logits, goal.scores, mask & goal.scored[:, None], loss.tau)


def _feature_term(loss: LossSettings, goal: Goal, stages: tuple[Frames, ...]) -> Tensor:
    measure = _FEATURE_LOSSES[loss.feature]
    terms = []
    for stage, weight in choose_stages(loss.stage, len(stages)):
        for teacher in goal.teachers:
            hidden = ~goal.labelled if loss.clips == "labelled" else torch.zeros_like(goal.labelled)
            seen = Frames(teacher.features, teacher.n_frames.masked_fill(hidden, 0))
            terms.append(measure(*align(stages[stage], seen, loss.align)) * (weight / len(goal.teachers)))
    return torch.stack(terms).sum()


def choose_stages(stage: str, n_stages: int) -> list[tuple[int, float]]:
    """Positions of the stages that take part, and their weights, which sum to 1.

    >>> choose_stages("final", 3), choose_stages("1", 3)
    ([(2, 1.0)], [(0, 1.0)])
    """
    if stage == "all":
        return [(index, 1.0 / n_stages) for index in range(n_stages)]
    return [(n_stages - 1 if stage == "final" else int(stage) - 1, 1.0)]
