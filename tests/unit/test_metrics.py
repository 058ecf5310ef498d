"""scikit-learn is the reference; ours takes unknown labels and many weightings."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, roc_auc_score

from pipeline.evaluation.metrics import accuracy, f1_per_class, macro, rank, score

CLASSES = ("piano", "violin", "flute", "drums")


def example(n_clips: int = 200, seed: int = 0, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = generator.choice([-1, 0, 1], p=[0.3, 0.5, 0.2], size=(n_clips, len(CLASSES))).astype(np.int8)
    scores = np.clip(0.3 * labels + generator.normal(0.4, 0.3, labels.shape), 0, 1).astype(np.float32)
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_equals_scikit_learn_on_known_labels(seed, ties):
    labels, scores = example(seed=seed, ties=ties)
    ranking = rank(labels, scores)
    for column in range(len(CLASSES)):
        known = labels[:, column] >= 0
        truth, guess = labels[known, column], scores[known, column]
        assert ranking.ap[0, column] == pytest.approx(average_precision_score(truth, guess), abs=1e-12)
        assert ranking.roc_auc[0, column] == pytest.approx(roc_auc_score(truth, guess), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_weights_are_those_of_scikit_learn(ties):
    labels, scores = example(ties=ties)
    weights = np.random.default_rng(1).poisson(1.0, size=(7, len(labels))).astype(float)
    ranking = rank(labels, scores, weights)
    for row in range(7):
        known = labels[:, 2] >= 0
        arguments = (labels[known, 2], scores[known, 2])
        by_weight = {"sample_weight": weights[row, known]}
        assert ranking.ap[row, 2] == pytest.approx(average_precision_score(*arguments, **by_weight), abs=1e-12)
        assert ranking.roc_auc[row, 2] == pytest.approx(roc_auc_score(*arguments, **by_weight), abs=1e-12)


def test_an_integer_weight_is_a_repeated_clip():
    labels, scores = example(60, ties=True)
    counts = np.random.default_rng(2).integers(0, 4, len(labels))
    repeated = np.repeat(np.arange(len(labels)), counts)
    weighted, plain = rank(labels, scores, counts[None].astype(float)), rank(labels[repeated], scores[repeated])
    np.testing.assert_allclose(weighted.ap, plain.ap, rtol=1e-12)
    np.testing.assert_allclose(weighted.roc_auc, plain.roc_auc, rtol=1e-12)


def test_known_values_by_hand():
    labels = np.array([[1], [0], [1], [0]], dtype=np.int8)
    scores = np.array([[0.9], [0.8], [0.7], [0.1]])
    ranking = rank(labels, scores)
    assert ranking.ap[0, 0] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert ranking.roc_auc[0, 0] == pytest.approx(3 / 4)


def test_all_tied_gives_the_base_rate_and_a_coin():
    labels = np.array([[1], [0], [0], [0]], dtype=np.int8)
    ranking = rank(labels, np.full((4, 1), 0.5))
    assert ranking.ap[0, 0] == pytest.approx(0.25)
    assert ranking.roc_auc[0, 0] == pytest.approx(0.5)


def test_a_class_without_both_kinds_is_left_out_and_named():
    labels, scores = example()
    labels[:, 1] = np.where(labels[:, 1] == 1, -1, labels[:, 1])
    labels[:, 3] = -1
    result = score(labels, scores, CLASSES)
    assert result.left_out == ("violin", "drums")
    kept = [entry.ap for entry in result.per_class if entry.ap is not None]
    assert len(kept) == 2
    assert result.map == pytest.approx(np.mean(kept))
    assert result.per_class[3].n_positive == result.per_class[3].n_negative == 0


def test_nothing_known_gives_no_numbers_rather_than_zero():
    labels = np.full((5, 4), -1, dtype=np.int8)
    result = score(labels, np.zeros((5, 4)), CLASSES)
    assert (result.map, result.roc_auc, result.f1, result.n_known) == (None, None, None, 0)


@pytest.mark.parametrize("threshold", [0.4, 0.5])
def test_f1_is_the_mean_of_both_sides(threshold):
    labels, scores = example()
    ours = f1_per_class(labels, scores, threshold)
    for column in range(len(CLASSES)):
        known = labels[:, column] >= 0
        guess = scores[known, column] >= threshold
        assert ours[column] == pytest.approx(f1_score(labels[known, column], guess, average="macro"))


def test_accuracy_counts_clips_with_one_class():
    generator = np.random.default_rng(0)
    truth = generator.integers(0, 4, 50)
    labels = np.eye(4, dtype=np.int8)[truth]
    scores = generator.random((50, 4))
    assert accuracy(labels, scores) == pytest.approx(accuracy_score(truth, scores.argmax(1)))
    assert score(labels, scores, CLASSES, single_label=True).accuracy == accuracy(labels, scores)
    assert accuracy(np.full((3, 4), -1, dtype=np.int8), scores[:3]) is None


def test_macro_leaves_out_what_is_missing():
    values = np.array([[0.2, np.nan, 0.4], [np.nan, np.nan, np.nan]])
    np.testing.assert_allclose(macro(values), [0.3, np.nan])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels, scores: (labels[:-1], scores), "labels are"),
        (lambda labels, scores: (labels * 3, scores), "must be 1, 0 or -1"),
        (lambda labels, scores: (labels, scores * np.nan), "are not finite"),
    ],
)
def test_what_cannot_be_scored_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        score(*change(*example()), CLASSES)
