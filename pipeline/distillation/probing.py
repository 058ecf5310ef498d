"""Use case: fit a teacher's probe alone, as a run beside the students'."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pipeline.distillation.choosing import open_teacher_views, open_teachers
from pipeline.distillation.describing import describe_probe
from pipeline.distillation.judging import probabilities
from pipeline.distillation.preparation import Scored, join_splits, score_clips, visible_labels
from pipeline.distillation.recipetext import recipe_text
from pipeline.distillation.runfolder import RunFolder
from pipeline.distillation.settings import ProbeSettings
from pipeline.distillation.soundness import check_material
from pipeline.distillation.trainer import find_table
from pipeline.evaluation.metrics import macro, rank
from pipeline.events import EpochDone, Listener, Note, TaskFinished, TaskStarted, ignore
from pipeline.manifest import TRAIN, ClipTable
from pipeline.stores import StoreReader


def probe(settings: ProbeSettings, listener: Listener = ignore) -> Path:
    """Fit a probe on teacher stores and return its run folder.

    Leaves ``teacher_scores.npz`` (logits of every clip the teachers know, by clip_id) and
    predictions of every split but train.

    Raises:
        SettingError, StoreError, TrainingError, RunError, ManifestError: see each one's message.
    """
    table = find_table(settings.data, listener)
    teachers = open_teachers(settings.teacher, settings.store, table.name, table.clip_s, listener)
    views: tuple[tuple[StoreReader, ...], ...] = ()
    try:
        views = open_teacher_views(teachers, settings.probe_views, table.name)
        config = settings.config() | {"teacher": [store.meta.name for store in teachers], "store": []}
        read = (*teachers, *(view for of_one in views for view in of_one))
        stores = [[store.meta.fingerprint, store.meta.content_digest or store.meta.uuid] for store in read]
        folder = RunFolder(table.name, settings.name, config, {"table": table.digest(), "stores": stores})
        if folder.state == "complete":
            listener(Note(f"{folder.path} is complete already: nothing to do."))
            return folder.path
        with folder.held() as state:
            if state != "complete":
                _run(settings, table, teachers, folder, views=views, listener=listener)
        return folder.path
    finally:
        for store in (*teachers, *(view for of_one in views for view in of_one)):
            store.close()


def rehearse(settings: ProbeSettings, listener: Listener = ignore) -> None:
    """Open and join all that a probe would read; nothing is fitted or written.

    Raises:
        SettingError, StoreError, ManifestError: as :func:`probe`.
    """
    table = find_table(settings.data, listener)
    teachers = open_teachers(settings.teacher, settings.store, table.name, table.clip_s, listener)
    views: tuple[tuple[StoreReader, ...], ...] = ()
    try:
        views = open_teacher_views(teachers, settings.probe_views, table.name)
        visible = visible_labels(table, settings, listener)
        check_material(table, visible, teachers, settings.missing, listener)
        join_splits(visible, teachers, required=len(teachers), listener=listener)
    finally:
        for store in (*teachers, *(view for of_one in views for view in of_one)):
            store.close()


def _run(
    settings: ProbeSettings,
    table: ClipTable,
    teachers: tuple[StoreReader, ...],
    folder: RunFolder,
    *,
    views: tuple[tuple[StoreReader, ...], ...],
    listener: Listener,
) -> None:
    started = time.monotonic()
    listener(TaskStarted(folder.name, None, "probes"))
    visible = visible_labels(table, settings, listener)
    check_material(table, visible, teachers, settings.missing, listener)
    scored, there = score_clips(settings.probe, visible, teachers, listener, views=views, missing=settings.missing)
    names = [store.meta.name for store in teachers]
    folder.write_recipe(recipe_text(settings, teachers=names, dataset=table.name))
    folder.write_teacher_scores(scored.clip_id, scored.logits)
    valid_map = _write_predictions(scored, there, folder)
    heard = [view for of_one in views for view in of_one]
    about = describe_probe(settings, table, teachers, there, scored, views=heard)
    best = {"step": 0, "valid_map": valid_map}
    folder.write(about | {"best": best, "train_s": round(time.monotonic() - started, 3)}, complete=True)
    listener(TaskFinished(folder.name))
    listener(EpochDone(folder.name, 0, 0, {"valid_map": valid_map}))


def _write_predictions(scored: Scored, table: ClipTable, folder: RunFolder) -> float:
    """Predictions of every split but train; returns the validation mAP."""
    found: dict[str, Any] = {}
    for name in table.splits():
        if name == TRAIN:
            continue
        part = table.select(table.split == name)
        logits = scored.of(part)
        folder.write_predictions(name, part, probabilities(logits, table.task))
        found[name] = float(macro(rank(part.labels, logits).ap)[0])
    return float(found.get("valid", float("nan")))
