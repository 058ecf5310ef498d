"""Augmentation: what is hidden, what is mixed, and what stays known."""

from __future__ import annotations

import pytest
import torch

from pipeline.audio.extractor import Frames
from pipeline.distillation.augment import _weights, mixup, spec_augment
from pipeline.distillation.batches import Batch
from pipeline.distillation.losses.compose import Goal


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _mel(batch: int = 8, frames: int = 50, mels: int = 16) -> Frames:
    features = torch.rand(batch, frames, mels, generator=_generator(9)) + 1
    n_frames = torch.tensor([frames] * (batch - 1) + [20])
    features[-1, 20:] = 0
    return Frames(features, n_frames)


def test_spec_augment_hides_one_run_and_one_band_behind_the_mean() -> None:
    mel = _mel()
    seen = spec_augment(mel, _generator())
    for clip in range(8):
        valid = mel.features[clip, : mel.n_frames[clip]]
        changed = seen.features[clip, : mel.n_frames[clip]] != valid
        hidden_frames, hidden_mels = changed.all(1).nonzero()[:, 0], changed.all(0).nonzero()[:, 0]
        for run, longest in ((hidden_frames, 0.2 * len(valid)), (hidden_mels, 0.25 * 16)):
            assert len(run) <= longest + 1
            assert not len(run) or run[-1] - run[0] + 1 == len(run)
        if changed.any():
            values = seen.features[clip, : mel.n_frames[clip]][changed]
            torch.testing.assert_close(values, valid.mean().expand_as(values))


def test_spec_augment_leaves_padding_alone_and_follows_its_generator() -> None:
    mel = _mel()
    a, b = (spec_augment(mel, _generator(3)).features for _ in range(2))
    assert torch.equal(a, b)
    assert not a[-1, 20:].any()
    assert not torch.equal(a, spec_augment(mel, _generator(4)).features)


def test_spec_augment_hides_about_what_it_should() -> None:
    mel = Frames(torch.rand(2000, 50, 16), torch.full((2000,), 50))
    changed = spec_augment(mel, _generator()).features != mel.features
    assert float(changed.all(2).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert float(changed.all(1).float().mean()) == pytest.approx(0.125, abs=0.03)


def _batch() -> Batch:
    n = 8
    known = torch.ones(n, 2, dtype=torch.bool)
    known[1, 0] = False
    known[4:] = False
    values = torch.arange(n, dtype=torch.float32)
    goal = Goal(
        targets=torch.stack([values % 2, (values // 2) % 2], 1) * known,
        known=known,
        labelled=known.any(1),
        scores=torch.stack([values, -values], 1),
        scored=torch.tensor([True] * 7 + [False]),
        teachers=(Frames(values[:, None, None].expand(n, 3, 5).clone(), torch.tensor([3, 3, 2, 3, 3, 3, 0, 3])),),
    )
    return Batch(Frames(values[:, None, None].expand(n, 6, 4).clone(), torch.full((n,), 6)), goal)


@pytest.mark.parametrize("seed", range(6))
def test_mixup_mixes_everything_with_one_weight(seed: int) -> None:
    before, after = _batch(), mixup(_batch(), _generator(seed))
    mixed = after.mel.features[:, 0, 0]
    torch.testing.assert_close(after.goal.scores[:, 0], mixed)  # type: ignore[index]
    torch.testing.assert_close(after.goal.scores[:, 1], -mixed)  # type: ignore[index]
    valid = after.goal.teachers[0].n_frames > 0
    torch.testing.assert_close(after.goal.teachers[0].features[valid, 0, 0], mixed[valid])
    assert (mixed[:4] <= 3).all()  # labelled clips meet labelled ones only
    assert (mixed[4:] >= 4).all()
    assert not torch.equal(mixed, before.mel.features[:, 0, 0])


@pytest.mark.parametrize("seed", range(6))
def test_a_mixed_label_is_known_only_where_both_are(seed: int) -> None:
    generator = _generator(seed)
    after = mixup(_batch(), generator)
    order = _generator(seed)
    partner = torch.cat([torch.randperm(4, generator=order), 4 + torch.randperm(4, generator=order)])
    before = _batch().goal
    assert torch.equal(after.goal.known, before.known & before.known[partner])
    assert torch.equal(after.goal.scored, before.scored & before.scored[partner])
    n_frames = before.teachers[0].n_frames
    assert torch.equal(after.goal.teachers[0].n_frames, torch.minimum(n_frames, n_frames[partner]))
    both = after.goal.known
    low, high = (f(before.targets, before.targets[partner])[both] for f in (torch.minimum, torch.maximum))
    assert ((after.goal.targets[both] >= low) & (after.goal.targets[both] <= high)).all()


def test_the_own_weight_is_at_least_a_half_and_mostly_near_one() -> None:
    weights = _weights(20_000, 0.3, _generator())
    assert float(weights.min()) >= 0.5
    assert float(weights.max()) <= 1.0
    # E|w - 1/2| of Beta(0.3, 0.3) is 0.3638 (numerical integration of its density)
    assert float(weights.mean()) == pytest.approx(0.5 + _mean_distance(0.3), abs=0.01)


def _mean_distance(beta: float) -> float:
    """E|w - 1/2| of Beta(beta, beta), by the midpoint rule in u = w^beta, which tames the ends."""
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000 * 0.5**beta
    w = u ** (1 / beta)
    density = (1 - w) ** (beta - 1)  # w^(beta - 1) dw = du / beta
    return float((density * (0.5 - w)).sum() / density.sum())
