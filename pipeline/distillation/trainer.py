"""Use case: train one student from the stores alone, and leave a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from pipeline import registry
from pipeline.datasets.resolve import load, resolve
from pipeline.distillation.batches import Answers
from pipeline.distillation.choosing import (
    how_to_make_views,
    open_mel,
    open_teacher_views,
    open_teachers,
    open_views,
    resolve_devices,
)
from pipeline.distillation.describing import describe_run, probe_outcome
from pipeline.distillation.features import FeatureSet, memory_budget
from pipeline.distillation.finishing import predict_splits
from pipeline.distillation.fitting import Lesson, fit
from pipeline.distillation.judging import Exam
from pipeline.distillation.losses.settings import check_teachers
from pipeline.distillation.objective import Distiller, Recipe
from pipeline.distillation.preparation import (
    Scores,
    Split,
    join_splits,
    score_clips,
    training_answers,
    visible_labels,
)
from pipeline.distillation.processes import ALONE, Part, Ready, alone, train_together
from pipeline.distillation.recipetext import recipe_text
from pipeline.distillation.runfolder import RunFolder
from pipeline.distillation.scalars import check_tensorboard
from pipeline.distillation.settings import NO_TEACHER, TrainSettings
from pipeline.distillation.soundness import check_material
from pipeline.distillation.students.contract import build_student, load_student, save_card
from pipeline.errors import SettingError
from pipeline.events import Listener, Note, ignore
from pipeline.manifest import TRAIN, VALID, ClipTable
from pipeline.stores import StoreReader


@dataclass(frozen=True, eq=False)
class _Opened:
    """What a run reads, and where it writes."""

    settings: TrainSettings
    table: ClipTable
    folder: RunFolder
    mel: StoreReader
    teachers: tuple[StoreReader, ...]
    views: tuple[StoreReader, ...]
    teacher_views: tuple[tuple[StoreReader, ...], ...]

    @property
    def all_views(self) -> tuple[StoreReader, ...]:
        """Stores of views, of the mel and of the teachers."""
        return (*self.views, *(view for views in self.teacher_views for view in views))

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        for store in (self.mel, *self.teachers, *self.all_views):
            store.close()


@dataclass(frozen=True, eq=False)
class _Material:
    """Joined clips by split, what the training clips should become, and the teacher's scores."""

    splits: dict[str, Split]
    features: dict[str, FeatureSet]
    answers: Answers
    scored: Scores | None


def train(settings: TrainSettings, listener: Listener = ignore) -> Path:
    """Train a student and return its run folder.

    A run that is complete is not run again; one that was killed goes on from its last validation.

    Raises:
        SettingError, StoreError, TrainingError, RunError, ManifestError: see each one's message.
    """
    with _open(settings, listener) as opened:
        folder = opened.folder
        if folder.state == "complete":
            listener(Note(f"{folder.path} is complete already: nothing to do."))
            return folder.path
        resolve_devices(settings.device, settings.processes)
        if settings.processes == 1:
            with folder.held() as state:
                if state != "complete":
                    _run(opened, ALONE, listener)
            return folder.path
    with folder.held() as state:
        if state != "complete":
            train_together(settings, settings.processes, listener)
    return folder.path


def train_part(settings: TrainSettings, part: Part, listener: Listener, ready: Ready) -> None:
    """What one of several processes does: all of it, or the steps alone.

    Args:
        ready: called by the first process when the others may come, with whether it goes on from a
            checkpoint.
    """
    with _open(settings, listener) as opened:
        if part.resumed is not None:
            opened.folder.state = "unfinished" if part.resumed else "new"
        if not settings.threads:
            torch.set_num_threads(max(1, torch.get_num_threads() // part.of))
        _run(opened, part, listener, ready)


def rehearse(settings: TrainSettings, listener: Listener = ignore) -> None:
    """Open and join all that a run would read, and build its student; nothing is trained or written.

    Raises:
        SettingError, StoreError, TrainingError, RunError, ManifestError: as :func:`train`.
    """
    with _open(settings, listener) as opened:
        resolve_devices(settings.device, settings.processes)
        visible = visible_labels(opened.table, settings, listener)
        stores = (opened.mel, *opened.teachers)
        check_material(opened.table, visible, (*stores, *opened.views), settings.missing, listener)
        _require_splits(settings, join_splits(visible, stores, required=1, views=opened.views, listener=listener))
        _module(opened)


def find_table(data: str, listener: Listener) -> ClipTable:
    """The clip table: nothing is built for training, but a folder of audio may be named by its path."""
    table, _ = resolve(data, listener=listener) if Path(data).is_dir() else load(data)
    return table


def _open(settings: TrainSettings, listener: Listener) -> _Opened:
    if settings.tensorboard:
        check_tensorboard()
    table = find_table(settings.data, listener)
    loss = settings.loss_settings()
    none = settings.teacher == (NO_TEACHER,)
    if none and loss.needs_teacher:
        raise SettingError(f"The loss {loss.name!r} needs a teacher. Name one with --teacher, or use --loss labels.")
    teachers: tuple[StoreReader, ...] = ()
    if loss.needs_teacher:
        teachers = open_teachers(settings.teacher, settings.store, table.name, table.clip_s, listener)
        check_teachers(loss, {store.meta.name: store.shape[1] for store in teachers})
    mel = open_mel(registry.find_student(settings.student), table.name, settings.mel, table.clip_s, listener)
    make = how_to_make_views(table.name, NO_TEACHER, settings.student, settings.views)
    views = open_views(mel, settings.views, make)
    heard = open_teacher_views(teachers, settings.probe_views, table.name) if loss.uses_kd else ()
    config = settings.config() | {"teacher": [store.meta.name for store in teachers], "store": []}
    stores = (mel, *teachers, *views, *(store for stores in heard for store in stores))
    facts = {
        "table": table.digest(),
        "stores": [[s.meta.fingerprint, s.meta.content_digest or s.meta.uuid] for s in stores],
    }
    folder = RunFolder(table.name, settings.name, config, facts)
    return _Opened(settings, table, folder, mel, teachers, views, heard)


def _run(opened: _Opened, part: Part, listener: Listener, ready: Ready = alone) -> None:
    settings, folder = opened.settings, opened.folder
    if settings.threads:
        torch.set_num_threads(settings.threads)
    material = _gather(opened, part, listener)
    answers, exams = material.answers, _exams(settings, material)
    about = describe_run(settings, opened.table, opened.mel, opened.teachers, answers, views=opened.all_views)
    order = _order(folder, part, material.features[TRAIN])
    about["shuffled_blocks"] = order
    if part.writes:
        folder.write(about, complete=False)
        names = [store.meta.name for store in opened.teachers]
        folder.write_recipe(recipe_text(settings, teachers=names, dataset=opened.table.name))
        if material.scored is not None:
            folder.write_teacher_scores(material.scored.clip_id, material.scored.logits)
    module = _module(opened)
    lesson = Lesson(material.features[TRAIN], answers, exams, order)
    fit(module, lesson, settings, folder, part, listener=listener, ready=ready)
    if part.writes:
        device = resolve_devices(settings.device, part.of)[part.rank]
        _finish(opened, module, material, about, device=device, listener=listener)


def _order(folder: RunFolder, part: Part, features: FeatureSet) -> int:
    """How clips are shuffled: as the memory allows where the run begins, and then so in all its processes and parts."""
    usual = features.shuffled_blocks
    return usual if part.writes and folder.state == "new" else folder.kept("shuffled_blocks", usual)


def _gather(opened: _Opened, part: Part, listener: Listener) -> _Material:
    """Hide labels, fit the probe, join the stores; only what the loss needs is read.

    Of several processes the first one fits the probe, and the others read its scores.
    """
    settings, loss = opened.settings, opened.settings.loss_settings()
    visible = visible_labels(opened.table, settings, listener)
    check_material(opened.table, visible, (opened.mel, *opened.teachers, *opened.views), settings.missing, listener)
    scored: Scores | None = None
    if loss.uses_kd and part.writes:
        views = opened.teacher_views
        scored = score_clips(settings.probe, visible, opened.teachers, listener, views=views, missing=settings.missing)[
            0
        ]
    elif loss.uses_kd:
        scored = Scores(*opened.folder.read_teacher_scores())
    stores = (opened.mel, *opened.teachers) if loss.uses_features else (opened.mel,)
    splits = join_splits(visible, stores, required=1, views=opened.views, listener=listener)
    splits[TRAIN], answers = training_answers(splits[TRAIN], "all" if loss.uses_unlabelled else "labelled", scored)
    for name in splits.keys() - {TRAIN}:
        splits[name] = Split(splits[name].table, (splits[name].columns[0].without_views(),))
    return _Material(splits, _share_memory(splits, memory_budget(settings.memory_gb) // part.of), answers, scored)


def _exams(settings: TrainSettings, material: _Material) -> tuple[Exam, ...]:
    """The splits that choose the checkpoint.

    Raises:
        SettingError: one that is not there.
    """
    _require_splits(settings, material.splits)
    return tuple(Exam(n, material.features[n], material.splits[n].table.labels) for n in settings.validate_on)


def _require_splits(settings: TrainSettings, splits: Mapping[str, Split]) -> None:
    for name in settings.validate_on:
        if name not in splits or not len(splits[name].table):
            there = ", ".join(key for key in splits if key.startswith(VALID))
            raise SettingError(f"--validate-on {name}: the clip table has no clips in that split, only in {there}.")


def _share_memory(splits: dict[str, Split], budget_bytes: int) -> dict[str, FeatureSet]:
    """Training clips are the first to be held in memory, the others while there is room.

    Where the training clips do not fit, their windows leave a third to the others.
    """
    features: dict[str, FeatureSet] = {}
    for name in sorted(splits, key=(TRAIN, VALID).__contains__, reverse=True):
        features[name] = splits[name].features(budget_bytes)
        if name == TRAIN and not features[name].resident:
            features[name] = splits[name].features(budget_bytes - budget_bytes // 3)
            budget_bytes //= 3
        budget_bytes -= features[name].n_bytes if features[name].resident else 0
    return features


def _module(opened: _Opened) -> Distiller:
    settings = opened.settings
    torch.manual_seed(settings.seed)
    student = build_student(settings.student, n_classes=len(opened.table.classes), n_mels=opened.mel.meta.channels)
    recipe = Recipe(**{field.name: getattr(settings, field.name) for field in fields(Recipe)})
    channels = [store.meta.channels for store in opened.teachers]
    return Distiller(student, settings.loss_settings(), recipe, opened.table.task, teacher_channels=channels)


def _finish(
    opened: _Opened, module: Distiller, material: _Material, about: dict[str, Any], *, device: str, listener: Listener
) -> None:
    """Predictions of the best weights on every split but train, and the student's card."""
    folder, table = opened.folder, opened.table
    card: dict[str, Any] = {
        "n_classes": len(table.classes),
        "classes": list(table.classes),
        "task": table.task,
        "clip_s": table.clip_s,
        "front_end": dict(opened.mel.meta.card),
        "licence": about["licence"],
        "licences": about["licences"],
        "thresholds": [],
    }
    save_card(folder.path, module.student, card)
    student, _ = load_student(folder.path)
    scored = (student, material.splits, material.features, folder)
    card["thresholds"] = predict_splits(*scored, device=torch.device(device), listener=listener)
    save_card(folder.path, module.student, card)
    best = {"step": int(module.best["step"]), "valid_map": module.best["valid_map"]}
    outcome = {"best": best, "train_s": round(module.spent_s, 3), "probe": probe_outcome(material.scored)}
    folder.write(about | outcome, complete=True)
    folder.checkpoint.unlink(missing_ok=True)
