"""Use case: recipes that are the rows of one table: what is done, what is missing, and what came out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from pipeline.errors import SettingError, UnknownNameError
from pipeline.evaluation.bootstrap import N_RESAMPLES
from pipeline.evaluation.comparison import compare
from pipeline.evaluation.evaluate import Unit
from pipeline.evaluation.judge import find_table
from pipeline.evaluation.results import Comparison
from pipeline.evaluation.runs import Run
from pipeline.events import Listener, Warned, ignore
from pipeline.experiments.grid import run_cells
from pipeline.experiments.outcome import Outcome
from pipeline.experiments.present import below_home, complete_runs, find_run
from pipeline.experiments.recipe import Cell, cells_of, expand, load_recipe


@dataclass(frozen=True)
class RowState:
    """A row of the table: the seeds that are runs already, and those that are not."""

    title: str
    kind: str
    done: tuple[int, ...]
    missing: tuple[int, ...]


@dataclass(frozen=True)
class Filled:
    """A table as far as it is filled.

    Attributes:
        name: of the table: its first recipe or folder.
        rows: in the order of the recipes.
        comparison: of the rows that have runs; None where there are none.
        outcome: of the runs that were asked for; None where none were.
    """

    name: str
    data: str
    rows: tuple[RowState, ...]
    comparison: Comparison | None
    outcome: Outcome | None

    @property
    def n_missing(self) -> int:
        """Runs that are still to be made."""
        return sum(len(row.missing) for row in self.rows)

    def state(self) -> list[list[str]]:
        """Cells of a table for people: row, kind, seeds done, seeds missing."""
        return [[row.title, row.kind, _listed(row.done), _listed(row.missing)] for row in self.rows]

    def text(self) -> str:
        """What is done, in a sentence; and what happened to what was run."""
        n_done = sum(len(row.done) for row in self.rows)
        said = f"{n_done} of {n_done + self.n_missing} runs are done, {self.n_missing} are missing."
        return said if self.n_missing == 0 or self.outcome else f"{said} Make them with: --run"

    def require(self) -> None:
        """Refuse to end well where a run that was asked for failed.

        Raises:
            TrainingError: naming each, with the end of its output.
        """
        if self.outcome:
            self.outcome.require()


def fill_table(
    names: Sequence[str],
    *,
    data: str = "",
    changes: Sequence[str] = (),
    check: bool = False,
    run: bool = False,
    workers: int = 0,
    scheduler: str = "",
    baseline: str = "",
    n_resamples: int = N_RESAMPLES,
    unit: str = "clip",
    listener: Listener = ignore,
) -> Filled:
    """Look at the runs of recipes, make those that are missing if asked to, and compare.

    Args:
        names: recipes by name or path, and folders of them.
        changes: ``key=value`` for all rows; ``seeds=1,2`` changes the seeds.
        check: whether the missing runs' table and stores are opened and joined first.
        baseline: title of the row that others are measured against; by default the student on
            labels only.

    Raises:
        SettingError: recipes that are not usable, or that are no rows of one table.
        StoreError: ``check`` found runs that could not be made; each reason is told.
        PlanError: the scheduler does not answer.
    """
    if not names:
        raise SettingError("Name at least one recipe, or a folder of them.")
    cells = cells_of([below_home(load_recipe(name, data=data, changes=changes)) for name in expand(names)])
    titles = tuple(dict.fromkeys(cell.row.title for cell in cells))
    if baseline and baseline not in titles:
        raise UnknownNameError("row to be the baseline", baseline, titles)
    where, name = cells[0].settings.data, Path(names[0]).stem
    outcome = None
    if check:
        from pipeline.experiments.rehearsal import rehearse_cells

        found = _found(cells)
        rehearse_cells([cell for cell in cells if cell.label not in found], listener)
    if run:
        outcome = run_cells(f"Table {name}", cells, workers=workers, scheduler=scheduler, listener=listener)
    found = _found(cells)
    rows = tuple(_state(title, cells, found) for title in titles)
    compared = _compared(found, titles, baseline, (n_resamples, cast(Unit, unit)), listener)
    return Filled(name, where, rows, compared, outcome)


def _found(cells: Sequence[Cell]) -> dict[str, Run]:
    """Runs of the cells that have one, by label, each under its row's title."""
    there = complete_runs(cells[0].settings.data)
    found = {cell.label: (cell, run) for cell in cells if (run := find_run(cell, there))}
    return {label: replace(run, group=cell.row.title) for label, (cell, run) in found.items()}


def _state(title: str, cells: Sequence[Cell], found: dict[str, Run]) -> RowState:
    own = [cell for cell in cells if cell.row.title == title]
    done = tuple(cell.settings.seed for cell in own if cell.label in found)
    return RowState(title, own[0].row.kind, done, tuple(cell.settings.seed for cell in own if cell.label not in found))


def _compared(
    found: dict[str, Run], titles: Sequence[str], baseline: str, drawing: tuple[int, Unit], listener: Listener
) -> Comparison | None:
    runs = list(found.values())
    if not runs:
        return None
    if baseline and all(run.group != baseline for run in runs):
        listener(Warned(f"The baseline {baseline!r} has no run yet, so nothing is measured against it."))
        return None
    n_resamples, unit = drawing
    made = compare(runs, find_table(runs[0]), baseline=baseline, n_resamples=n_resamples, unit=unit, listener=listener)
    return replace(made, rows=tuple(sorted(made.rows, key=lambda row: titles.index(row.group))))


def _listed(seeds: Sequence[int]) -> str:
    return " ".join(map(str, seeds)) or "–"
