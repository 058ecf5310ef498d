"""Recipe cells to runs: each in a process of its own, several side by side, here or on a cluster.

A cell is one ``east train`` or ``east probe``.  Cells whose run is complete, with equal settings,
clip table and stores, are skipped; killed ones go on where training stopped, so an interrupted
experiment is continued by the same command.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Sequence

from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, ignore
from pipeline.experiments.local import Command, Start, arguments, command, run_all
from pipeline.experiments.outcome import Failure, Outcome
from pipeline.experiments.present import below_home, complete_runs, is_there
from pipeline.experiments.recipe import Cell, Recipe, load_recipe, plan

__all__ = ["Failure", "Outcome", "arguments", "command", "experiment_by_name", "run_cells", "run_experiment"]


def run_experiment(
    recipe: Recipe, *, workers: int = 0, listener: Listener = ignore, make_command: Command | None = None
) -> Outcome:
    """Make all runs of a recipe that are not there yet; see :func:`run_cells`."""
    name = f"Experiment {recipe.name}"
    return run_cells(name, plan(recipe), workers=workers, listener=listener, make_command=make_command)


def run_cells(
    task: str,
    cells: Sequence[Cell],
    *,
    workers: int = 0,
    scheduler: str = "",
    listener: Listener = ignore,
    make_command: Command | None = None,
) -> Outcome:
    """Make the runs of cells of one dataset that are not there yet.

    Args:
        task: what listeners hear.
        workers: how many run side by side, each with its share of the cores; 0: one per core, at
            most 8.
        scheduler: address of a Dask scheduler whose workers make the runs instead.
        make_command: how a cell becomes a command line, for processes other than our own training.

    Raises:
        PlanError: the scheduler does not answer, or has no workers.
    """
    begun = time.monotonic()
    data = cells[0].settings.data if cells else ""
    listener(TaskStarted(task, sum(cell.steps for cell in cells), "steps"))
    there = complete_runs(data)
    skipped = [cell for cell in cells if is_there(cell, there)]
    for cell in skipped:
        listener(TaskAdvanced(task, cell.steps, f"{cell.label}: is there", found=True))
    waiting = [cell for cell in cells if cell not in skipped]
    if scheduler and waiting:
        from pipeline.experiments.remote import run_on_cluster

        made, failures = run_on_cluster(waiting, scheduler, task, listener, make_command or command)
    else:
        made, failures = _run_here(waiting, workers, make_command, task, listener)
    listener(TaskFinished(task))
    labels = tuple(cell.label for cell in skipped)
    return Outcome(data, tuple(made), labels, tuple(failures), time.monotonic() - begun)


def _run_here(
    cells: Sequence[Cell], workers: int, make_command: Command | None, task: str, listener: Listener
) -> tuple[list[str], list[Failure]]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    n_workers = max(1, min(workers or min(8, cores), len(cells)))
    return run_all(cells, n_workers, Start(make_command, max(1, cores // n_workers)), task, listener)


def experiment_by_name(
    name: str,
    *,
    data: str = "",
    losses: Sequence[str] = (),
    changes: Sequence[str] = (),
    workers: int = 0,
    dry_run: bool = False,
    listener: Listener = ignore,
) -> Outcome:
    """:func:`run_experiment` of a recipe by name or path; with ``dry_run`` only what is left to do.

    Raises:
        SettingError: the recipe or a setting is not usable.
    """
    recipe = below_home(load_recipe(name, data=data, losses=losses, changes=changes))
    if not dry_run:
        return run_experiment(recipe, workers=workers, listener=listener)
    cells, there = plan(recipe), complete_runs(recipe.data)
    left = tuple(shlex.join(["east", *command(cell)[5:]]) for cell in cells if not is_there(cell, there))
    return Outcome(recipe.data, (), tuple(cell.label for cell in cells if is_there(cell, there)), (), 0.0, left)
