"""From runs to ``data/NAME/report/``: numbers, table, figures and, if asked for, the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from pipeline import layout, registry
from pipeline.audio.extractor import build_extractor
from pipeline.audio.timing import n_samples
from pipeline.distillation.students.contract import load_student
from pipeline.errors import EastError, RunError
from pipeline.evaluation.bootstrap import N_RESAMPLES
from pipeline.evaluation.comparison import compare
from pipeline.evaluation.complexity import measure
from pipeline.evaluation.evaluate import Unit
from pipeline.evaluation.judge import find_table
from pipeline.evaluation.results import Comparison, Row
from pipeline.evaluation.runs import Run, find_run, list_runs, read_run
from pipeline.events import Listener, Note, Warned, ignore
from pipeline.files import publish_bytes, publish_json
from pipeline.provenance import describe
from pipeline.reporting import page, tables, words
from pipeline.reporting.figures import publish_figures
from pipeline.reporting.recall import command_of


@dataclass(frozen=True)
class Report:
    """What was compared, and the files that were written."""

    comparison: Comparison
    folder: Path
    page: Path | None

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Headings and rows of text."""
        return list(tables.COLUMNS), tables.text_rows(self.comparison)

    def headline(self) -> str:
        """The main numbers in a sentence, and one more per test set."""
        return "\n".join([words.headline(self.comparison), *words.details(self.comparison)])


def report(
    *,
    folders: Sequence[Path] = (),
    data: str = "",
    out: Path | None = None,
    with_page: bool = True,
    baseline: str = "",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    unit: Unit = "clip",
    listener: Listener = ignore,
) -> Report:
    """Compare runs and write ``comparison.json``, ``comparison.csv``, ``figures/`` and ``index.html``.

    Args:
        folders: the runs; or
        data: the dataset whose complete runs are all taken, those of an older clip table left out
            with a warning.
        out: folder of the results, ``data/NAME/report`` by default.

    Raises:
        RunError: no complete runs, or runs that cannot be compared.
    """
    compared = compare_runs(
        folders=folders, data=data, baseline=baseline, n_resamples=n_resamples, seed=seed, unit=unit, listener=listener
    )
    folder = out or layout.report_dir(data or compared.dataset.name)
    publish_json(folder / "comparison.json", compared.as_dict())
    publish_bytes(folder / "comparison.csv", tables.to_csv(compared).encode())
    drawn = publish_figures(compared, folder)
    if not with_page:
        return Report(compared, folder, None)
    html = page.render(compared, drawn, commands=_commands(compared, data), made=describe())
    publish_bytes(folder / "index.html", html.encode())
    return Report(compared, folder, folder / "index.html")


def report_by_name(
    names: Sequence[str],
    *,
    data: str = "",
    out: Path | None = None,
    with_page: bool = True,
    baseline: str = "",
    n_resamples: int = N_RESAMPLES,
    unit: str = "clip",
    listener: Listener = ignore,
) -> Report:
    """As :func:`report`, runs given as folders or names."""
    return report(
        folders=[find_run(name) for name in names],
        data=data,
        out=out,
        with_page=with_page,
        baseline=baseline,
        n_resamples=n_resamples,
        unit=cast(Unit, unit),
        listener=listener,
    )


def compare_runs(
    *,
    folders: Sequence[Path] = (),
    data: str = "",
    baseline: str = "",
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    unit: Unit = "clip",
    listener: Listener = ignore,
) -> Comparison:
    """The comparison alone, with the cost of each student; nothing is written. See :func:`report`."""
    runs = [read_run(folder) for folder in folders] if folders else _runs_of(data, listener)
    table = find_table(runs[0])
    compared = compare(runs, table, baseline=baseline, n_resamples=n_resamples, seed=seed, unit=unit, listener=listener)
    return replace(compared, rows=tuple(_with_macs(row, listener) for row in compared.rows))


def _runs_of(data: str, listener: Listener) -> list[Run]:
    folder = layout.runs_dir(data)
    runs, problems = list_runs(folder)
    for problem in problems:
        listener(Warned(f"Left out: {problem}"))
    if not runs:
        raise RunError(f"There is no complete run in {folder}. Train one with: east train --data {data}")
    digests = [run.dataset.digest for run in sorted(runs, key=lambda run: str(run.provenance.get("time", "")))]
    newest = digests[-1]
    for run in runs:
        if run.dataset.digest != newest:
            listener(Warned(f"Left out: run {run.name!r} was trained on an older clip table of {data!r}."))
    return [run for run in runs if run.dataset.digest == newest]


def _with_macs(row: Row, listener: Listener) -> Row:
    """Count the multiply-accumulates of a row's student for one clip; probes have none of their own."""
    run = row.runs[0]
    if row.kind != "student":
        return row
    try:
        student, _ = load_student(run.folder)
        front_end = build_extractor(registry.find_front_end(str(run.front_end.get("name"))))
        output = front_end.outputs[0]
        n_frames = front_end.count_frames(output, n_samples(run.dataset.clip_s, front_end.card.rate_hz))
        mel = torch.zeros(1, n_frames, front_end.card.output(output).channels)
        found = measure(student, mel, torch.tensor([n_frames]))
    except EastError as error:
        listener(Note(f"MACs of {row.group!r} are not counted: {error}"))
        return row
    return replace(row, macs=found.macs)


def _commands(comparison: Comparison, data: str) -> list[str]:
    lines = []
    for row in comparison.rows:
        others = ", ".join(str(seed) for seed in row.seeds[1:])
        lines.append(command_of(row.runs[0]) + (f"  # and --seed {others}" if others else ""))
    return [*lines, f"east report --data {data or comparison.dataset.name}"]
