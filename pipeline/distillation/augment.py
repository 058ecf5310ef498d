"""Augmentation of a batch: masked bands of the student's mel, and clips mixed in pairs.

Sources: SpecAugment, Park et al., Interspeech 2019; mixup, Zhang et al., ICLR 2018, as used by Ding
and Lerch, ISMIR 2023, but with masks that keep an unknown label unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.audio.extractor import Frames, mask_frames
from pipeline.distillation.batches import Batch

MIXUP_BETA = 0.3
TIME_SHARE = 0.2
MEL_SHARE = 0.25


@dataclass(frozen=True)
class Masks:
    """Sizes of the hidden bands; each width is uniform from 0 to its limit.

    Attributes:
        mels: most mels of a band; 0 takes a quarter of them.
        frames: most frames of a run; 0 takes a fifth of the clip's valid frames.
        count: how many bands, and how many runs; they may overlap.
    """

    mels: int = 0
    frames: int = 0
    count: int = 1


def spec_augment(mel: Frames, generator: torch.Generator, masks: Masks | None = None) -> Frames:
    """Hide runs of frames and bands of mels of each clip behind the clip's mean.

    A run is no longer than the clip's valid frames; padding is left as it is.

    Shape:
        mel: features [batch, frames, mels].
    """
    masks = masks or Masks()
    batch, frames, mels = mel.features.shape
    device = mel.features.device
    longest = _limit(masks.frames, TIME_SHARE, mel.n_frames.to(torch.float32))
    widest = _limit(masks.mels, MEL_SHARE, torch.full((batch,), float(mels), device=device))
    in_time, in_mel = torch.ones(batch, frames, device=device), torch.ones(batch, mels, device=device)
    for _ in range(masks.count):
        in_time *= _kept(frames, mel.n_frames.to(torch.float32), longest, generator)
        in_mel *= _kept(mels, torch.full_like(widest, mels), widest, generator)
    keep = in_time[:, :, None] * in_mel[:, None, :]
    if not bool((mel.n_frames == frames).all()):
        valid = torch.arange(frames, device=device)[None, :] < mel.n_frames[:, None]
        keep = torch.where(valid[:, :, None], keep, 1.0)
    mean = mel.features.sum((1, 2)) / (mel.n_frames * mels).clamp(min=1)
    return Frames(torch.lerp(mean[:, None, None].expand_as(mel.features), mel.features, keep), mel.n_frames)


def _limit(most: int, share: float, valid: Tensor) -> Tensor:
    """The widest mask of each clip, [batch]: a number that is given, or a share of what is valid."""
    return valid.clamp(max=most) if most else share * valid


def _kept(length: int, valid: Tensor, limit: Tensor, generator: torch.Generator) -> Tensor:
    """0 along one random run within the valid part of each clip, 1 elsewhere: [batch, length]."""
    draw = torch.rand(2, len(valid), generator=generator).to(valid.device)
    width = draw[0] * limit
    start = draw[1] * (valid - width)
    index = torch.arange(length, device=valid.device)[None, :]
    inside = (index >= start[:, None].floor()) & (index < (start + width)[:, None].floor())
    return (~inside).to(torch.float32)


def mixup(batch: Batch, generator: torch.Generator, *, beta: float = MIXUP_BETA) -> Batch:
    """Mix each clip with another of its kind: labelled with labelled, unlabelled with unlabelled.

    The clip's own weight is at least 0.5, drawn from Beta(beta, beta).  Mels, teacher frames,
    targets and teacher scores are all mixed with it.  A label is known only where both clips know
    it; frames count only where both have them; scores only where both are scored.
    """
    goal = batch.goal
    partner = _partners(goal.labelled, generator)
    weight = _weights(len(partner), beta, generator).to(batch.mel.features.device)
    scores = None if goal.scores is None else _mixed(goal.scores, partner, weight)
    return Batch(
        _mixed_frames(batch.mel, partner, weight),
        goal._replace(
            targets=_mixed(goal.targets, partner, weight),
            known=goal.known & goal.known[partner],
            labelled=goal.labelled & goal.labelled[partner],
            scores=scores,
            scored=goal.scored & goal.scored[partner],
            teachers=tuple(_mixed_frames(teacher, partner, weight) for teacher in goal.teachers),
        ),
    )


def _partners(labelled: Tensor, generator: torch.Generator) -> Tensor:
    """A permutation of the batch that keeps labelled and unlabelled clips apart: [batch]."""
    partner = torch.arange(len(labelled))
    for group in (labelled.cpu(), ~labelled.cpu()):
        members = group.nonzero()[:, 0]
        partner[members] = members[torch.randperm(len(members), generator=generator)]
    return partner.to(labelled.device)


def _weights(n: int, beta: float, generator: torch.Generator) -> Tensor:
    """[n] draws from Beta(beta, beta), the larger side of each.

    Johnk's method: x / (x + y) with x = u^(1/beta), y = v^(1/beta), accepted where x + y <= 1; here
    in logarithms, where small beta does not underflow.
    """
    found = torch.empty(0)
    while len(found) < n:
        logs = torch.rand(2, 4 * n + 16, generator=generator).clamp(min=1e-30).log() / beta
        fine = torch.logaddexp(logs[0], logs[1]) <= 0
        found = torch.cat([found, torch.sigmoid(logs[0] - logs[1])[fine]])
    return torch.maximum(found[:n], 1 - found[:n])


def _mixed(values: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    share = weight.reshape(-1, *(1,) * (values.dim() - 1))
    return values * share + values[partner] * (1 - share)


def _mixed_frames(frames: Frames, partner: Tensor, weight: Tensor) -> Frames:
    n_frames = torch.minimum(frames.n_frames, frames.n_frames[partner])
    mixed = _mixed(frames.features, partner, weight)
    return Frames(mixed, n_frames) if bool((n_frames == mixed.shape[1]).all()) else mask_frames(mixed, n_frames)
