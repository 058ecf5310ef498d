"""Figures of a comparison as files: what the runs' folders add to its numbers is read here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline import registry
from pipeline.evaluation.results import Comparison
from pipeline.evaluation.runs import read_history, without_view
from pipeline.files import publish_bytes
from pipeline.reporting import plots
from pipeline.reporting.budgets import budgets
from pipeline.reporting.plots import Curves, Plot

FOLDER = "figures"


def publish_figures(comparison: Comparison, folder: Path) -> list[Plot]:
    """Draw all that the runs allow into ``folder/figures``, each as SVG and PNG."""
    drawn = plots.draw_all(comparison, _curves(comparison), _sizes(comparison))
    if (gains := budgets(comparison)) is not None:
        drawn.append(gains)
    for plot in drawn:
        publish_bytes(folder / FOLDER / f"{plot.name}.svg", plot.svg.encode())
        publish_bytes(folder / FOLDER / f"{plot.name}.png", plot.png)
    return drawn


def _curves(comparison: Comparison) -> Curves:
    found = {}
    for row in comparison.rows:
        histories = [read_history(run) for run in row.runs]
        found[row.group] = [
            (history["step"], history["valid_map"]) for history in histories if {"step", "valid_map"} <= set(history)
        ]
    return found


def _sizes(comparison: Comparison) -> Mapping[str, int]:
    """Parameters that run per clip: a probe's include those of its teachers, where they are known."""
    teachers = registry.teachers()
    found = {}
    for row in comparison.rows:
        run = row.runs[0]
        names = {without_view(store.get("extractor")) for store in run.stores} - {str(run.front_end.get("name"))}
        if row.kind == "student":
            found[row.group] = run.n_parameters
        elif names and all(name in teachers and teachers[name].n_parameters for name in names):
            found[row.group] = run.n_parameters + sum(teachers[name].n_parameters for name in names)
    return found
