"""What a trained student says of every split but train, for ``east evaluate`` and the thresholds of its card."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from pipeline.distillation.batches import Answers
from pipeline.distillation.features import FeatureSet
from pipeline.distillation.judging import choose_thresholds, predict, probabilities
from pipeline.distillation.preparation import Split
from pipeline.distillation.runfolder import RunFolder
from pipeline.distillation.students.contract import Student
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted
from pipeline.manifest import TRAIN, VALID


def predict_splits(
    student: Student,
    splits: Mapping[str, Split],
    features: Mapping[str, FeatureSet],
    folder: RunFolder,
    *,
    device: torch.device,
    listener: Listener,
) -> list[float]:
    """Write the scores of each split into the run's folder; give the thresholds that suit ``valid``.

    Args:
        device: where the student computes; it is left there.

    Returns:
        per class the score with the highest F1; empty for classes that exclude each other.
    """
    reported = {name: split for name, split in splits.items() if name != TRAIN and len(split.table)}
    task, thresholds = f"{folder.name}: scores", list[float]()
    listener(TaskStarted(task, sum(len(split.table) for split in reported.values()), "clips"))
    student.to(device)
    for name, split in reported.items():
        kind = split.table.task

        def tell(n_clips: int, split_name: str = name) -> None:
            listener(TaskAdvanced(task, n_clips, split_name))

        logits = predict(student, features[name], Answers(split.table.labels), device, each=tell)
        scores = probabilities(logits, kind)
        folder.write_predictions(name, split.table, scores)
        if name == VALID and kind == "multi-label":
            thresholds = choose_thresholds(scores, split.table.labels)
    listener(TaskFinished(task))
    return thresholds
