"""Runs side by side: rows of equal settings, spread over seeds, differences on the same clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import RunError
from pipeline.evaluation.bootstrap import (
    N_RESAMPLES,
    Resampled,
    draw,
    metric_interval,
    paired,
    paired_interval,
    resample,
    sd,
)
from pipeline.evaluation.evaluate import Unit
from pipeline.evaluation.judge import judge
from pipeline.evaluation.metrics import Reals, Scores
from pipeline.evaluation.results import Comparison, Measured, Row, SetResult, Spread
from pipeline.evaluation.runs import Run, read_predictions, reported_splits, splits_of, without_view
from pipeline.evaluation.significance import compare_metric, spread_interval
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, Warned, ignore
from pipeline.manifest import ClipTable
from pipeline.texts import some

_TASK = "Comparing"


@dataclass(frozen=True)
class _Judged:
    scores: Scores
    resampled: Resampled
    n_items: int


def compare(
    runs: Sequence[Run],
    table: ClipTable,
    *,
    baseline: str = "",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    unit: Unit = "clip",
    listener: Listener = ignore,
) -> Comparison:
    """Judge all runs on the test splits they share, and there on the clips that all of them have scores of.

    Args:
        baseline: group that all rows are measured against; by default each row is measured
            against the student that had the same labels and no teacher, and no views where there is one.

    Raises:
        RunError: no runs, runs of different data, no split or no clip in common, or an unknown baseline.
    """
    _require_comparable(runs)
    splits = reported_splits(name for name in splits_of(runs[0]) if all(name in splits_of(run) for run in runs))
    if not splits:
        raise RunError(f"The {len(runs)} runs have no split of predictions in common. Train them again.")
    groups = _grouped(runs, listener)
    baselines = _baselines(groups, baseline)
    judged: dict[str, dict[str, _Judged]] = {}
    counts: dict[str, tuple[tuple[str, ...], Reals]] = {}
    only = {split: clips for split in splits if (clips := _shared_clips(runs, split, listener)) is not None}
    listener(TaskStarted(_TASK, sum(map(len, groups.values())), "runs"))
    for run in (run for members in groups.values() for run in members):
        judged[run.name] = _judge_run(run, (table, only), splits, counts, (n_resamples, seed, unit))
        listener(TaskAdvanced(_TASK, 1, run.name))
    listener(TaskFinished(_TASK))
    rows = [_row(group, groups, baselines[group], judged) for group in groups]
    sets = tuple(counts)
    rows.sort(key=lambda row: (not row.is_baseline, -_first_map(row, sets)))
    return Comparison(runs[0].dataset, sets, tuple(rows), n_resamples, unit, table.card)


def is_labels_only(run: Run, *, views: bool = False) -> bool:
    """A student that read no store but that of its own front end, or with ``views`` those of its views, too."""
    names = [str(store.get("extractor")) for store in run.stores]
    own = run.front_end.get("name")
    return run.kind == "student" and all((without_view(name) if views else name) == own for name in names)


def _require_comparable(runs: Sequence[Run]) -> None:
    if not runs:
        raise RunError("There is no complete run to compare. Train one with: east train")
    names = [run.name for run in runs]
    for run in runs:
        if run.dataset.digest != runs[0].dataset.digest or run.dataset.classes != runs[0].dataset.classes:
            raise RunError(
                f"Runs {names[0]!r} and {run.name!r} were trained on different data ({runs[0].dataset.name} "
                f"{runs[0].dataset.digest[:12]}, {run.dataset.name} {run.dataset.digest[:12]}). Compare them apart."
            )
        if names.count(run.name) > 1:
            raise RunError(f"Run {run.name!r} is given twice.")


def _grouped(runs: Sequence[Run], listener: Listener) -> dict[str, list[Run]]:
    groups: dict[str, dict[int, Run]] = {}
    for run in runs:
        first = groups.setdefault(run.group, {}).setdefault(run.seed, run)
        if first is not run:
            listener(
                Warned(f"Runs {first.name!r} and {run.name!r} have equal settings and seed; the second is left out.")
            )
    return {group: [members[seed] for seed in sorted(members)] for group, members in groups.items()}


def _baselines(groups: Mapping[str, Sequence[Run]], chosen: str) -> dict[str, str | None]:
    if chosen and chosen not in groups:
        raise RunError(f"There is no row {chosen!r} to be the baseline. Rows: {', '.join(sorted(groups))}.")
    if chosen:
        return dict.fromkeys(groups, chosen)
    first = {group: members[0] for group, members in groups.items()}
    plain = {group: run for group, run in first.items() if is_labels_only(run)}
    heard = {group: run for group, run in first.items() if is_labels_only(run, views=True)}
    return {group: _baseline_of(group, run, plain) or _baseline_of(group, run, heard) for group, run in first.items()}


def _baseline_of(group: str, run: Run, plain: Mapping[str, Run]) -> str | None:
    """Same labels and same student where there is one, else the only one with the same labels."""
    if group in plain:
        return group
    labels = {name for name, other in plain.items() if other.n_labelled == run.n_labelled}
    near = {name for name in labels if plain[name].config.get("student") == run.config.get("student")}
    found = near or labels
    return found.pop() if len(found) == 1 else None


def _shared_clips(runs: Sequence[Run], split: str, listener: Listener) -> frozenset[str] | None:
    """Ids of the clips of a split that all runs have scores of; None where they all have the same.

    A probe has no scores of clips that its teacher could not hear.
    """
    sets = [frozenset(read_predictions(run, split).clip_id.tolist()) for run in runs]
    shared, known = frozenset.intersection(*sets), frozenset.union(*sets)
    if shared == known:
        return None
    short = [run.name for run, clips in zip(runs, sets, strict=True) if clips != known]
    text = f"{runs[0].dataset.name}, split {split}: {len(known - shared):,} of {len(known):,} clips"
    if not shared:
        raise RunError(f"{text} are without scores of some of the runs {some(short)}: there is no clip to compare on.")
    listener(Warned(f"{text} are left out of all rows, since some runs lack scores of them: {some(short)}."))
    return shared


def _judge_run(
    run: Run,
    data: tuple[ClipTable, Mapping[str, frozenset[str]]],
    splits: Sequence[str],
    counts: dict[str, tuple[tuple[str, ...], Reals]],
    settings: tuple[int, int, Unit],
) -> dict[str, _Judged]:
    """Judge a run; ``counts`` keeps the resamples of each set, drawn at its first use."""
    n_resamples, seed, unit = settings
    found = {}
    table, only = data
    for part in judge(run, table, splits, only=only):
        order = np.argsort(np.array(part.keys, dtype=object), kind="stable")
        keys = tuple(part.keys[index] for index in order)
        if part.name not in counts:
            units = [part.units[index] for index in order] if unit == "group" else None
            counts[part.name] = keys, draw(len(keys), n_resamples=n_resamples, seed=seed, units=units)
        resampled = resample(part.labels[order], part.scores[order], counts[part.name][1])
        found[part.name] = _Judged(part.score(run), resampled, len(keys))
    return found


def _row(
    group: str,
    groups: Mapping[str, Sequence[Run]],
    baseline: str | None,
    judged: Mapping[str, Mapping[str, _Judged]],
) -> Row:
    runs = groups[group]
    others = groups[baseline] if baseline is not None and baseline != group else []
    names = tuple(judged[runs[0].name])
    return Row(
        group=group,
        kind=runs[0].kind,
        runs=tuple(runs),
        baseline=baseline,
        sets={
            name: _result(
                {run.seed: judged[run.name][name] for run in runs},
                {run.seed: judged[run.name][name] for run in others},
            )
            for name in names
        },
    )


def _result(own: Mapping[int, _Judged], other: Mapping[int, _Judged]) -> SetResult:
    first = next(iter(own.values()))
    maps = _values(own, "map")
    resampled = {seed: judged.resampled.map for seed, judged in own.items()}
    spread, difference = _spread(maps), paired(maps, _values(other, "map"))
    others = {seed: judged.resampled.map for seed, judged in other.items()}
    return SetResult(
        n_items=first.n_items,
        map=spread,
        map_ci=metric_interval(np.mean(list(resampled.values()), axis=0), spread.mean if spread else None),
        roc_auc=_spread(_values(own, "roc_auc")),
        f1=_spread(_values(own, "f1")),
        accuracy=_spread(_values(own, "accuracy")),
        difference=difference,
        difference_ci=paired_interval(resampled, others, difference.mean if difference else None),
        per_class_ap=_per_class(own),
        left_out=first.scores.left_out,
        measured={name: _measured(name, own, other) for name in ("map", "roc_auc")},
    )


def _measured(name: str, own: Mapping[int, _Judged], other: Mapping[int, _Judged]) -> Measured:
    values, resampled = _values(own, name), {seed: _resampled(judged, name) for seed, judged in own.items()}
    ci, over = spread_interval(values, resampled)
    others = {seed: _resampled(judged, name) for seed, judged in other.items()}
    return Measured(_spread(values), ci, over, compare_metric(values, _values(other, name), (resampled, others)))


def _resampled(judged: _Judged, name: str) -> Reals:
    return judged.resampled.map if name == "map" else judged.resampled.roc_auc


def _values(judged: Mapping[int, _Judged], name: str) -> dict[int, float]:
    found = {seed: getattr(entry.scores, name) for seed, entry in judged.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def _spread(values: Mapping[int, float]) -> Spread | None:
    numbers = list(values.values())
    return Spread(dict(values), float(np.mean(numbers)), sd(numbers)) if numbers else None


def _per_class(judged: Mapping[int, _Judged]) -> dict[str, float | None]:
    per_seed = [[entry.ap for entry in found.scores.per_class] for found in judged.values()]
    names = [entry.name for entry in next(iter(judged.values())).scores.per_class]
    columns = zip(names, zip(*per_seed, strict=True), strict=True)
    return {name: None if None in column else float(np.mean(column)) for name, column in columns}


def _first_map(row: Row, sets: Sequence[str]) -> float:
    found = row.sets[sets[0]].map
    return found.mean if found else 0.0
