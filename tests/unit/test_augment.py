"""Augmentation: what is hidden, what is mixed, and what stays known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.audio.extractor import Frames
from pipeline.distillation.augment import Masks, _weights, mixup, spec_augment
from pipeline.distillation.batches import Batch
from pipeline.distillation.losses.compose import Goal, compose
from pipeline.distillation.losses.settings import find_loss
from pipeline.evaluation.metrics import macro, rank


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


# --- sizes of masks -----------------------------------------------------------------------------------


def test_masks_have_the_sizes_asked_for() -> None:
    """The paper's: up to 48 mels and 192 frames."""
    mel = Frames(torch.rand(160, 300, 64), torch.tensor([300] * 159 + [100]))
    changed = spec_augment(mel, _generator(), Masks(mels=48, frames=192)).features != mel.features
    frames, mels = changed.all(2).sum(1), changed.all(1).sum(1)
    assert 180 <= int(frames.max()) <= 193
    assert 44 <= int(mels.max()) <= 49
    assert float(frames[:159].float().mean()) == pytest.approx(96, rel=0.15)
    assert not changed[159, 100:].any()


def test_several_masks_hide_more_than_one_and_the_usual_ones_stay() -> None:
    mel = Frames(torch.rand(500, 50, 16), torch.full((500,), 50))
    shares = [
        float((spec_augment(mel, _generator(), Masks(count=n)).features != mel.features).float().mean()) for n in (1, 3)
    ]
    assert shares[1] == pytest.approx(1 - (1 - shares[0]) ** 3, abs=0.06)
    assert torch.equal(*(spec_augment(mel, _generator(2), *given).features for given in ((), (Masks(),))))


# --- what is unknown stays unknown ----------------------------------------------------------------------


def test_a_mask_that_is_wrong_in_mixup_changes_the_loss_and_ours_does_not() -> None:
    """Whatever stands where a label, a score or a frame is not known, the loss is the same.

    With the masks of two clips joined by `or`, as is often seen, it would not be.
    """
    garbage = _batch()
    goal = garbage.goal
    unknown, unscored = ~goal.known, ~goal.scored
    assert goal.scores is not None
    garbage = garbage._replace(
        goal=goal._replace(
            targets=torch.where(unknown, 1 - goal.targets, goal.targets),
            scores=torch.where(unscored[:, None], goal.scores + 50, goal.scores),
            teachers=tuple(
                Frames(
                    torch.where((torch.arange(3)[None, :] >= t.n_frames[:, None])[:, :, None], 1e3, t.features),
                    t.n_frames,
                )
                for t in goal.teachers
            ),
        )
    )
    ours, wrong = [], []
    for batch in (_batch(), garbage):
        mixed = mixup(batch, _generator(1))
        ours.append(_total(mixed))
        order = _generator(1)
        partner = torch.cat([torch.randperm(4, generator=order), 4 + torch.randperm(4, generator=order)])
        joined = mixed.goal._replace(
            known=batch.goal.known | batch.goal.known[partner], scored=batch.goal.scored | batch.goal.scored[partner]
        )
        wrong.append(_total(mixed._replace(goal=joined)))
    assert ours[0] == ours[1]
    assert wrong[0] != pytest.approx(wrong[1], rel=1e-2)
    assert ours[0] != pytest.approx(wrong[0], rel=1e-2)


def _total(batch: Batch) -> float:
    stages = (Frames(torch.randn(8, 3, 4, generator=_generator(4)), torch.full((8,), 3)),)
    logits = torch.randn(8, 2, generator=_generator(5))
    return float(compose(find_loss("east-kd-all"), batch.goal, logits, stages, "multi-label")["total"])


@pytest.mark.parametrize("name", ["kd", "kd-hard", "kd-labelled"])
def test_distillation_skips_clips_without_scores(name: str) -> None:
    goal = _batch().goal
    logits = torch.randn(8, 2, generator=_generator(5))
    assert goal.scores is not None

    def term(scores: torch.Tensor, scored: torch.Tensor) -> float:
        changed = goal._replace(scores=scores, scored=scored)
        return float(compose(find_loss(name), changed, logits, (), "multi-label")["kd"])

    scored = goal.scored & (torch.arange(8) != 2)
    other = torch.where(scored[:, None], goal.scores, -goal.scores - 9)
    assert term(goal.scores, scored) == term(other, scored)
    everything = torch.ones(8, dtype=torch.bool)
    assert term(goal.scores, everything) != pytest.approx(term(other, everything), rel=1e-2)


def test_metrics_skip_unknown_labels() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(-1, 2, (200, 3)).astype(np.int8), rng.random((200, 3))
    other = np.where(labels < 0, scores + 1, scores)
    ours = [macro(rank(labels, values).ap)[0] for values in (scores, other)]
    assert ours[0] == ours[1]
    as_negative = np.maximum(labels, 0).astype(np.int8)
    wrong = [macro(rank(as_negative, values).ap)[0] for values in (scores, other)]
    assert abs(wrong[0] - wrong[1]) > 1e-3
    assert abs(ours[0] - wrong[0]) > 0.05
