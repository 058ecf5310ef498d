"""One run's numbers: ``metrics.json`` beside its predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

from pipeline.evaluation.bootstrap import LEVEL, N_RESAMPLES, Interval, draw, metric_interval, resample
from pipeline.evaluation.judge import JudgedSet, find_table, judge
from pipeline.evaluation.metrics import OPENMIC_THRESHOLD
from pipeline.evaluation.runs import Run, find_run, read_run, splits_of
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, Warned, ignore
from pipeline.files import publish_json
from pipeline.texts import some

Unit = Literal["clip", "group"]
_TASK = "Evaluating"


def evaluate(
    folders: Sequence[Path],
    *,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    unit: Unit = "clip",
    listener: Listener = ignore,
) -> dict[str, dict[str, Any]]:
    """Score every split of each run, with bootstrap intervals, and write ``metrics.json`` into each.

    Args:
        unit: what is drawn: clips, or groups (songs, works), which is wider where clips of one
            group resemble each other.

    Returns:
        Per run name what its ``metrics.json`` holds.

    Raises:
        RunError: a run that is absent, unfinished or damaged, or whose labels have changed.
    """
    runs = [read_run(folder) for folder in folders]
    found, told = {}, set[str]()
    listener(TaskStarted(_TASK, len(runs), "runs"))
    for run in runs:
        metrics = metrics_of(run, n_resamples=n_resamples, seed=seed, unit=unit)
        _tell_left_out(run, metrics["splits"], told, listener)
        publish_json(run.folder / "metrics.json", metrics)
        found[run.name] = metrics
        listener(TaskAdvanced(_TASK, 1, run.name))
    listener(TaskFinished(_TASK))
    return found


def evaluate_by_name(
    names: Sequence[str], *, n_resamples: int = N_RESAMPLES, unit: str = "clip", listener: Listener = ignore
) -> tuple[list[str], list[list[str]]]:
    """As :func:`evaluate`, runs given as folders or names; a table of text: headings and rows."""
    folders = [find_run(name) for name in names]
    found = evaluate(folders, n_resamples=n_resamples, unit=cast(Unit, unit), listener=listener)
    rows = [
        [run, name, *_cells(values)] for run, metrics in found.items() for name, values in metrics["splits"].items()
    ]
    return ["run", "split", "clips", "mAP", "95 %", "ROC-AUC", "95 %", "F1", "accuracy"], rows


def metrics_of(run: Run, *, n_resamples: int = N_RESAMPLES, seed: int = 0, unit: Unit = "clip") -> dict[str, Any]:
    """What ``metrics.json`` holds: settings of the bootstrap, and per split the numbers."""
    table = find_table(run)
    sets = {found.name: _numbers(run, found, n_resamples, seed, unit) for found in judge(run, table, splits_of(run))}
    return {
        "format": 1,
        "run": run.name,
        "group": run.group,
        "seed": run.seed,
        "dataset_digest": run.dataset.digest,
        "f1_threshold": OPENMIC_THRESHOLD,
        "bootstrap": {"n_resamples": n_resamples, "seed": seed, "unit": unit, "level": LEVEL},
        "splits": sets,
    }


def _tell_left_out(run: Run, splits: dict[str, Any], told: set[str], listener: Listener) -> None:
    """Say which classes a split cannot judge, once for all runs on the same data."""
    for name, values in splits.items():
        if values["left_out"]:
            text = (
                f"{run.dataset.name}, split {name}: {len(values['left_out'])} of {len(run.dataset.classes)} classes "
                f"({some(values['left_out'])}) are left out of the means: no positive or no negative known label."
            )
            if text not in told:
                listener(Warned(text))
            told.add(text)


def _numbers(run: Run, found: JudgedSet, n_resamples: int, seed: int, unit: Unit) -> dict[str, Any]:
    units = found.units if unit == "group" else None
    counts = draw(len(found.keys), n_resamples=n_resamples, seed=seed, units=units)
    resampled = resample(found.labels, found.scores, counts)
    scores = found.score(run)
    return scores.as_dict() | {
        "map_ci": _ends(metric_interval(resampled.map, scores.map)),
        "roc_auc_ci": _ends(metric_interval(resampled.roc_auc, scores.roc_auc)),
    }


def _ends(found: Interval) -> list[float | None]:
    return [found.low, found.high]


def _cells(values: dict[str, Any]) -> list[str]:
    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.3f}"

    cells = [str(values["n_clips"])]
    for name in ("map", "roc_auc"):
        low, high = values[f"{name}_ci"]
        cells += [number(values[name]), f"{number(low)} to {number(high)}"]
    return [*cells, number(values["f1"]), number(values["accuracy"])]
