"""Lightning's loop around a student, quiet, and able to go on from a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.distillation.batches import Answers, Feed
from pipeline.distillation.choosing import resolve_devices
from pipeline.distillation.engine import build_trainer, deterministic, interruptible, keep_freed_memory, quiet
from pipeline.distillation.features import FeatureSet
from pipeline.distillation.judging import Exam
from pipeline.distillation.objective import Distiller
from pipeline.distillation.placing import place
from pipeline.distillation.processes import Part, Ready
from pipeline.distillation.runfolder import RunFolder
from pipeline.distillation.sampling import plan_batches
from pipeline.distillation.scalars import Scalars
from pipeline.distillation.settings import TrainSettings
from pipeline.distillation.together import part_ways
from pipeline.distillation.watching import Watcher, read_progress
from pipeline.events import Listener, Note, TaskAdvanced, TaskFinished, TaskStarted


@dataclass(frozen=True, eq=False)
class Lesson:
    """Training clips with what they should become and their order, and the splits that choose the checkpoint.

    Attributes:
        shuffled_blocks: see :class:`Feed`.
    """

    features: FeatureSet
    answers: Answers
    exams: tuple[Exam, ...]
    shuffled_blocks: int


def fit(
    module: Distiller,
    lesson: Lesson,
    settings: TrainSettings,
    folder: RunFolder,
    part: Part,
    *,
    listener: Listener,
    ready: Ready,
) -> None:
    """Train to the last step, from the folder's checkpoint where there is one.

    Args:
        part: which process of the run this is.
        ready: called by the first process when the others may come.

    Raises:
        TrainingError: a loss that is not finite, a checkpoint that cannot be read, or validation
            labels that can choose nothing.
    """
    devices = resolve_devices(settings.device, part.of)
    resumed = folder.state == "unfinished"
    progress: dict[str, Any] = read_progress(folder) if resumed else {"step": 0, "history": []}
    first = progress["step"]
    if settings.tensorboard and part.writes:
        listener = Scalars(folder.path, progress["history"], listener)
    feed = _feed(lesson, settings, first, part)
    watcher = Watcher(
        folder,
        lesson.exams,
        every=settings.validation_steps(),
        patience=settings.patience,
        stop_on=settings.stop_on,
        steps_per_epoch=max(1.0, len(lesson.features) / feed.plan.size),
        listener=listener,
    )
    n, n_labelled = len(lesson.features), int(lesson.answers.labelled.sum())
    where = _where(settings, devices)
    listener(Note(f"{folder.name}: {n_labelled:,} labelled and {n - n_labelled:,} other clips, {where}"))
    if resumed:
        listener(Note(f"Going on from step {first:,}."))
    if watcher.is_stale(progress["history"]):  # it was stopped before it could say that it is done
        module.on_load_checkpoint({"east": progress})
        return
    if part.writes:
        ready(resumed)
    batches = place(feed, settings.data_on, torch.device(devices[part.rank]), listener)
    listener(TaskStarted(folder.name, settings.steps, "steps"))
    listener(TaskAdvanced(folder.name, first, found=True))
    keep_freed_memory()
    with quiet(), interruptible(), deterministic(settings.deterministic):
        trainer = build_trainer(settings, devices, watcher, folder.path, part)
        trainer.fit(
            module, train_dataloaders=batches, ckpt_path=folder.checkpoint if resumed else None, weights_only=True
        )
        part_ways()
    listener(TaskFinished(folder.name))


def _feed(lesson: Lesson, settings: TrainSettings, first: int, part: Part) -> Feed:
    """The batches from step ``first`` on."""
    n_labelled = int(lesson.answers.labelled.sum())
    n_other = len(lesson.answers.labelled) - n_labelled
    share, seed = settings.labelled_share, settings.seed
    return Feed(
        lesson.features,
        lesson.answers,
        plan_batches(settings.batch, share, labelled=n_labelled, unlabelled=n_other, seed=seed),
        steps=settings.steps,
        first_step=first,
        part=part,
        shuffled_blocks=lesson.shuffled_blocks,
    )


def _where(settings: TrainSettings, devices: Sequence[str]) -> str:
    """``on cpu``, ``on cuda:0, cuda:1 in 2 processes of 16 clips in bf16-mixed``."""
    places = ", ".join(dict.fromkeys(devices))
    processes = f" in {len(devices)} processes of {settings.batch // len(devices)} clips" if len(devices) > 1 else ""
    precision = "" if settings.precision == "32-true" else f" in {settings.precision}"
    return f"on {places}{processes}{precision}"
