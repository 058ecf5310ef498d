"""Lightning's loop around a student, quiet, and able to go on from a checkpoint."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as lightning

from pipeline.distillation.batches import Answers, Feed
from pipeline.distillation.features import FeatureSet
from pipeline.distillation.judging import Exam
from pipeline.distillation.objective import Distiller
from pipeline.distillation.runfolder import RunFolder
from pipeline.distillation.sampling import plan_batches
from pipeline.distillation.settings import TrainSettings
from pipeline.distillation.watching import Watcher, read_progress
from pipeline.events import Listener, Note, TaskAdvanced, TaskFinished, TaskStarted

#: Warnings of Lightning that say nothing about a run, with the reason each is ignored.
_IGNORED_WARNINGS = (
    (FutureWarning, ".*LeafSpec.*"),  # Lightning 2.6 calls a torch function that torch 2.13 renames
    (UserWarning, ".*does not have many workers.*"),  # batches are gathered from memory, not by workers
    (UserWarning, ".*GPU available but not used.*"),  # the device was chosen by the user
    (UserWarning, ".*`training_step`.*enable.*"),
)


@dataclass(frozen=True, eq=False)
class Lesson:
    """Training clips with what they should become, and the splits that choose the checkpoint."""

    features: FeatureSet
    answers: Answers
    exams: tuple[Exam, ...]


def fit(
    module: Distiller, lesson: Lesson, settings: TrainSettings, folder: RunFolder, *, device: str, listener: Listener
) -> None:
    """Train to the last step, from the folder's checkpoint where there is one.

    Args:
        device: ``cpu``, ``cuda:N`` or ``mps``.

    Raises:
        TrainingError: a loss that is not finite, a checkpoint that cannot be read, or validation
            labels that can choose nothing.
    """
    resumed = folder.state == "unfinished"
    first = read_progress(folder)["step"] if resumed else 0
    n_labelled = int(lesson.answers.labelled.sum())
    n_other = len(lesson.answers.labelled) - n_labelled
    plan = plan_batches(
        settings.batch, settings.labelled_share, labelled=n_labelled, unlabelled=n_other, seed=settings.seed
    )
    watcher = Watcher(
        folder,
        lesson.exams,
        every=settings.validation_steps(),
        patience=settings.patience,
        steps_per_epoch=max(1.0, len(lesson.features) / plan.size),
        listener=listener,
    )
    listener(Note(f"{folder.name}: {n_labelled:,} labelled and {n_other:,} other clips, on {device}"))
    if resumed:
        listener(Note(f"Going on from step {first:,}."))
    feed = Feed(lesson.features, lesson.answers, plan, steps=settings.steps, first_step=first)
    listener(TaskStarted(folder.name, settings.steps, "steps"))
    listener(TaskAdvanced(folder.name, first))
    with _quiet(), _interruptible():
        trainer = _trainer(settings, device, watcher, folder.path)
        trainer.fit(module, train_dataloaders=feed, ckpt_path=folder.checkpoint if resumed else None, weights_only=True)
    listener(TaskFinished(folder.name))


def _trainer(settings: TrainSettings, device: str, watcher: Watcher, root: Path) -> lightning.Trainer:
    kind, _, index = device.partition(":")
    return lightning.Trainer(
        accelerator={"cuda": "gpu"}.get(kind, kind),
        devices=[int(index)] if index else 1,
        precision=settings.precision,  # type: ignore[arg-type]
        max_steps=settings.steps,
        max_epochs=-1,
        gradient_clip_val=settings.clip_norm or None,
        callbacks=[watcher],
        default_root_dir=root,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's hints and its harmless warnings are not the user's concern."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        for category, message in _IGNORED_WARNINGS:
            warnings.filterwarnings("ignore", message, category)
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lightning answers Ctrl-C with an exit of its own and a deaf process: give both back."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, handler)
            raise KeyboardInterrupt from stop
        raise
