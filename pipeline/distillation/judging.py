"""What a student says of a split, and how good that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.distillation.batches import Answers, evaluation_batches
from pipeline.distillation.features import FeatureSet
from pipeline.distillation.losses.bce import masked_bce, masked_cross_entropy
from pipeline.distillation.students.contract import Student
from pipeline.errors import TrainingError
from pipeline.evaluation.metrics import accuracy, macro, rank

_BATCH = 64
_DEFAULT_THRESHOLD = 0.5


@dataclass(frozen=True, eq=False)
class Judged:
    """A student on a split.

    Shape:
        logits: [clips, classes], float32.

    Attributes:
        map: macro average precision over classes with both kinds of labels; NaN without any.
        loss: the label term alone, without any regulariser.
        accuracy: for single-label tasks, else None.
    """

    logits: NDArray[np.float32]
    map: float
    loss: float
    accuracy: float | None

    def values(self) -> dict[str, float]:
        """As columns of the history."""
        found = {"valid_map": self.map, "valid_loss": self.loss}
        return found if self.accuracy is None else found | {"valid_accuracy": self.accuracy}


@torch.no_grad()
def predict(
    student: Student,
    features: FeatureSet,
    answers: Answers,
    device: torch.device,
    each: Callable[[int], object] = int,
) -> NDArray[np.float32]:
    """Logits of all clips in order, [clips, classes]; the student's mode is put back.

    Args:
        each: told the number of clips of each batch once it is done.
    """
    training = student.training
    student.eval()
    parts: list[Tensor] = []
    for batch in evaluation_batches(features, answers, _BATCH):
        mel = batch.to(device).mel
        parts.append(student(mel.features, mel.n_frames).logits.float().cpu())
        each(len(parts[-1]))
    student.train(training)
    logits = torch.cat(parts).numpy()
    if not np.isfinite(logits).all():
        raise TrainingError(f"{int((~np.isfinite(logits)).any(1).sum())} clips get scores that are not finite.")
    return np.asarray(logits)


@dataclass(frozen=True, eq=False)
class Exam:
    """A split to judge a student on.

    Shape:
        labels: [clips, classes], 1 / 0 / -1.
    """

    name: str
    features: FeatureSet
    labels: NDArray[np.int8]


def examine(student: Student, exams: Sequence[Exam], task: str, device: torch.device) -> dict[str, float]:
    """Columns of the history: means over the splits, and each split's own mAP where there are several."""
    judged = [judge(student, exam.features, exam.labels, task, device) for exam in exams]
    found = {key: float(np.mean([one.values()[key] for one in judged])) for key in judged[0].values()}
    if len(exams) > 1:
        found |= {f"valid_map_{exam.name}": one.map for exam, one in zip(exams, judged, strict=True)}
    return found


def judge(student: Student, features: FeatureSet, labels: NDArray[np.int8], task: str, device: torch.device) -> Judged:
    """Predict a split and score it."""
    answers = Answers(labels)
    logits = predict(student, features, answers, device)
    term = masked_cross_entropy if task == "single-label" else masked_bce
    loss = float(term(torch.from_numpy(logits), answers.targets, answers.known))
    hits = accuracy(labels, logits) if task == "single-label" else None
    return Judged(logits, float(macro(rank(labels, logits).ap)[0]), loss, hits)


def probabilities(logits: NDArray[np.float32], task: str) -> NDArray[np.float32]:
    """Sigmoid, or softmax for classes that exclude each other: [clips, classes]."""
    tensor = torch.from_numpy(logits)
    return np.asarray((tensor.softmax(1) if task == "single-label" else tensor.sigmoid()).numpy())


def choose_thresholds(scores: NDArray[np.floating[Any]], labels: NDArray[np.int8]) -> list[float]:
    """Per class the score with the highest F1 on known labels; 0.5 where it cannot be told."""
    return [_best_threshold(scores[:, k], labels[:, k]) for k in range(labels.shape[1])]


def _best_threshold(scores: NDArray[np.floating[Any]], labels: NDArray[np.int8]) -> float:
    known = labels >= 0
    positive = labels[known] == 1
    if not positive.any() or positive.all():
        return _DEFAULT_THRESHOLD
    order = np.argsort(-scores[known], kind="stable")
    hits = np.cumsum(positive[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + positive.sum())
    ordered = scores[known][order].astype(np.float64)
    f1[:-1][np.diff(ordered) == 0] = -1.0  # no threshold lies between equal scores
    best = int(f1.argmax())
    below = ordered[best + 1] if best + 1 < len(ordered) else ordered[best]
    return float((ordered[best] + below) / 2)
