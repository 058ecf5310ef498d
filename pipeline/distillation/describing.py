"""What ``run.json`` says of a run: its data, its stores, its licence, its row in tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.distillation.batches import Answers
from pipeline.distillation.preparation import Scored, Scores
from pipeline.distillation.runfolder import describe_dataset, describe_store
from pipeline.distillation.settings import ProbeSettings, TrainSettings
from pipeline.distillation.students.contract import build_student, count_parameters
from pipeline.licences import strictest
from pipeline.manifest import TRAIN, ClipTable
from pipeline.provenance import describe
from pipeline.stores import StoreReader
from pipeline.stores.licensing import covered_licences

#: What names a row by itself, or does not tell rows apart.
_IN_EVERY_ROW = frozenset(
    {"data", "student", "teacher", "store", "mel", "loss", "loss_settings", "labelled", "seed", "validate_every",
     "validate_on"}
)  # fmt: skip


def describe_run(
    settings: TrainSettings,
    table: ClipTable,
    mel: StoreReader,
    teachers: Sequence[StoreReader],
    answers: Answers,
    *,
    views: Sequence[StoreReader] = (),
) -> dict[str, Any]:
    """What ``run.json`` says of a student before it is trained.

    Args:
        views: stores of views, of the mel and of the teachers.
    """
    n_labelled = int(answers.labelled.sum())
    student = build_student(settings.student, n_classes=len(table.classes), n_mels=mel.meta.channels)
    return _common(table, (mel, *teachers, *views), settings.seed) | {
        "kind": "student",
        "group": settings.group or _group(settings, teachers, n_labelled),
        "front_end": dict(mel.meta.card),
        "n_parameters": count_parameters(student),
        "processes": settings.processes,
        "n_labelled": n_labelled,
        "n_unlabelled": len(answers.labelled) - n_labelled,
    }


def describe_probe(
    settings: ProbeSettings,
    table: ClipTable,
    teachers: Sequence[StoreReader],
    used: ClipTable,
    scored: Scored,
    *,
    views: Sequence[StoreReader] = (),
) -> dict[str, Any]:
    """What ``run.json`` says of a probe.

    Args:
        used: the clips that the teachers know, with the labels the probe could see.
        views: stores of the teachers' views.
    """
    train = used.select(used.split == TRAIN)
    n_labelled = int(train.labelled().sum())
    names = "+".join(store.meta.name for store in teachers)
    labels = f"{n_labelled} labels" if settings.labelled else "all labels"
    more = f" probe_views {settings.probe_views}" if settings.probe_views else ""
    return _common(table, (*teachers, *views), settings.seed) | {
        "kind": "probe",
        "group": settings.group or f"probe {settings.probe} {names} {labels}{more}",
        "front_end": {},
        "n_parameters": scored.probe.n_parameters,
        "n_labelled": n_labelled,
        "n_unlabelled": len(train) - n_labelled,
        "probe": scored.probe.about,
    }


def _common(table: ClipTable, stores: Sequence[StoreReader], seed: int) -> dict[str, Any]:
    described = [describe_store(store) for store in stores]
    dataset = describe_dataset(table)
    licences = carried_licences(stores, dataset)
    return {
        "seed": seed,
        "dataset": dataset,
        "stores": described,
        "provenance": describe(),
        "train_s": 0.0,
        "best": {},
        "licence": strictest(licences),
        "licences": [list(pair) for pair in licences],
    }


def carried_licences(stores: Sequence[StoreReader], dataset: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a student comes under, each once: weights, code and audio of its stores and of those they were made from.

    Args:
        dataset: of the clip table; its licence stands for audio of which a store records none.
    """
    audio = str(dataset["licence"])
    found = [pair for store in stores for pair in covered_licences(store.meta, audio=audio)]
    if audio:
        found.append((audio, f"data of {dataset['name']}"))
    return list(dict.fromkeys(found))


def _group(settings: TrainSettings, teachers: Sequence[StoreReader], n_labelled: int) -> str:
    """The row of a table that a run belongs to: its settings without the seed."""
    usual = TrainSettings(data=settings.data)
    names = "+".join(store.meta.name for store in teachers)
    labels = f"{n_labelled} labels" if settings.labelled else "all labels"
    changed = [
        f"{name} {getattr(settings, name)}"
        for name in settings.config()
        if name not in _IN_EVERY_ROW and getattr(settings, name) != getattr(usual, name)
    ]
    return " ".join(part for part in (settings.student, settings.loss, names, labels, *changed) if part)


def probe_outcome(scored: Scores | None) -> dict[str, Any]:
    """What the probe chose, where one was fitted."""
    return dict(scored.probe.about) if isinstance(scored, Scored) else {}
