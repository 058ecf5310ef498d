"""What an exported model says of itself: plain texts in its metadata, and reading them back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import __version__
from pipeline.deployment.tagger import StudentTagger
from pipeline.deployment.waveform import shortest_input
from pipeline.distillation.students.contract import CARD_NAME, WEIGHTS_NAME
from pipeline.errors import RunError
from pipeline.evaluation.runs import Run, read_json, read_run, without_view
from pipeline.files import sha256_of
from pipeline.licences import demands
from pipeline.provenance import config_hash
from pipeline.texts import one_line, shown

__all__ = ["INPUT", "OUTPUTS", "Facts", "describe_model", "read_facts"]

INPUT = "waveform"
OUTPUTS = ("scores", "logits")
_FORMAT = "1"


def describe_model(folder: Path, tagger: StudentTagger) -> dict[str, str]:
    """The metadata of an exported student: names to texts; lists and tables are JSON.

    The digest is of the weights' file, ``student.safetensors``.
    """
    about = read_json(folder / CARD_NAME)
    facts = {
        "east_format": _FORMAT,
        "name": tagger.name,
        "classes": list(tagger.classes),
        "thresholds": [] if tagger.thresholds is None else list(tagger.thresholds),
        "task": "single-label" if tagger.single_label else "multi-label",
        "rate_hz": tagger.rate_hz,
        "clip_s": tagger.clip_s,
        "min_samples": shortest_input(tagger.front_end),
        "licence": tagger.licence,
        "licence_demands": demands(tagger.licence),
        "licences": [list(pair) for pair in tagger.licences],
        "student": about["student"],
        "front_end": tagger.front_end.card.name,
        "weights_sha256": sha256_of(folder / WEIGHTS_NAME),
        "east_version": __version__,
        "provenance": _provenance(folder),
        INPUT: input_words(tagger),
        "scores": output_words(tagger.single_label),
        "logits": "[batch, classes] float32, before the " + ("softmax" if tagger.single_label else "sigmoid"),
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}


def input_words(tagger: StudentTagger) -> str:
    """What goes in, in a sentence."""
    return (
        f"[batch, samples] float32, mono, {tagger.rate_hz} Hz, from -1 to 1, finite; any length, all of it heard; "
        f"trained on clips of {tagger.clip_s:g} s; below {shortest_input(tagger.front_end)} samples silence is added"
    )


def output_words(single_label: bool) -> str:
    """What comes out, in a sentence."""
    kind = "adding up to 1 over the classes" if single_label else "each class for itself"
    return f"[batch, classes] float32, probabilities from 0 to 1, {kind}, in the order of the metadata's classes"


def _provenance(folder: Path) -> dict[str, Any]:
    """What the run's own record says; empty where the student lies alone."""
    if not (folder / "run.json").is_file():
        return {}
    run = read_run(folder, unfinished=True)
    return {
        "run": run.name,
        "group": run.group,
        "seed": run.seed,
        "config_hash": config_hash(run.config),
        "dataset": {
            "name": run.dataset.name,
            "digest": run.dataset.digest,
            "licence": run.dataset.licence,
            "citation": run.dataset.citation,
        },
        "stores": [dict(store) for store in run.stores],
        "teachers": _teachers(run),
        "trained_with": {key: run.provenance.get(key) for key in ("version", "commit")},
    }


def _teachers(run: Run) -> list[str]:
    mel = run.front_end.get("name")
    names = [(without_view(store.get("extractor")), store.get("output")) for store in run.stores]
    return list(dict.fromkeys(f"{extractor}/{output}" for extractor, output in names if extractor != mel))


@dataclass(frozen=True)
class Facts:
    """What is read back of a model's metadata; see :class:`pipeline.deployment.tagger.Tagger`."""

    name: str
    classes: tuple[str, ...]
    single_label: bool
    clip_s: float
    rate_hz: int
    min_s: float
    thresholds: tuple[float, ...] | None
    licence: str
    licences: tuple[tuple[str, str], ...]


def read_facts(path: Path, texts: Mapping[str, str]) -> Facts:
    """Metadata of anyone's making, validated.

    Raises:
        RunError: not exported by this project, of another format, or values that cannot be.
    """
    if texts.get("east_format") != _FORMAT:
        raise RunError(
            f"{path} says east_format {shown(texts.get('east_format'))}; this program reads {_FORMAT}. Only models "
            "that `east export` made say what their scores mean: export the run again."
        )
    classes, thresholds, licences = (_listed(path, texts, key) for key in ("classes", "thresholds", "licences"))
    rate_hz, clip_s, least = (_positive(path, texts, key) for key in ("rate_hz", "clip_s", "min_samples"))
    if not classes or not all(isinstance(name, str) for name in classes):
        raise RunError(f"{path}: its metadata's classes must be names, found {shown(classes)}. Export the run again.")
    if thresholds and (len(thresholds) != len(classes) or not all(isinstance(v, int | float) for v in thresholds)):
        raise RunError(f"{path}: thresholds must be {len(classes)} numbers, found {shown(thresholds)}.")
    return Facts(
        name=one_line(texts.get("name")) or path.stem,
        classes=tuple(classes),
        single_label=texts.get("task") == "single-label",
        clip_s=clip_s,
        rate_hz=int(rate_hz),
        min_s=least / rate_hz,
        thresholds=tuple(map(float, thresholds)) or None,
        licence=one_line(texts.get("licence")) or "unknown",
        licences=tuple((one_line(p[0]), one_line(p[1])) for p in licences if isinstance(p, list) and len(p) == 2),
    )


def _value(path: Path, texts: Mapping[str, str], key: str) -> Any:
    try:
        return json.loads(texts[key])
    except (KeyError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: its metadata's {key} is missing or damaged. Export the run again.") from error


def _listed(path: Path, texts: Mapping[str, str], key: str) -> list[Any]:
    value = _value(path, texts, key)
    if not isinstance(value, list):
        raise RunError(f"{path}: its metadata's {key} must be a list, found {shown(value)}. Export the run again.")
    return value


def _positive(path: Path, texts: Mapping[str, str], key: str) -> float:
    value = _value(path, texts, key)
    if not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise RunError(f"{path}: its metadata's {key} must be above 0, found {shown(value)}. Export the run again.")
    return float(value)
