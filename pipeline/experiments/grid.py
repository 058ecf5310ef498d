"""Recipe cells to runs: each in a process of its own, several side by side.

A cell is one ``east train`` or ``east probe``.  Cells whose run is complete, with equal settings,
clip table and stores, are skipped; killed ones go on where training stopped, so an interrupted
experiment is continued by the same command.
"""

from __future__ import annotations

import csv
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline import layout
from pipeline.errors import RunError, TrainingError
from pipeline.evaluation.runs import read_json
from pipeline.events import Listener, Note, TaskAdvanced, TaskFinished, TaskStarted, Warned, ignore
from pipeline.experiments.children import Child, Forked, Spawned, can_fork
from pipeline.experiments.present import complete_runs, is_there
from pipeline.experiments.recipe import Cell, Recipe, load_recipe, plan
from pipeline.interpreter import python

_POLL_S = 0.5
_TAIL_LINES = 15
_GRACE_S = 1.0
_PATIENCE_S = 20.0
Command = Callable[[Cell], list[str]]


@dataclass(frozen=True)
class Failure:
    """A cell that gave no run: its exit code and the end of what it printed."""

    label: str
    exit_code: int
    tail: str


@dataclass(frozen=True)
class Outcome:
    """What became of an experiment: labels of cells."""

    data: str
    made: tuple[str, ...]
    skipped: tuple[str, ...]
    failures: tuple[Failure, ...]
    seconds: float
    left: tuple[str, ...] = ()

    def text(self) -> str:
        """For people: commands that are left, or what was done, with the next step."""
        if self.left:
            return "\n".join(self.left)
        parts = f"{len(self.made)} runs made in {self.seconds:,.0f} s, {len(self.skipped)} were complete"
        more = f", {len(self.failures)} failed" if self.failures else ""
        return f"{parts}{more}. Look at them with: east report --data {self.data}"

    def require(self) -> None:
        """Refuse to end well where a cell failed.

        Raises:
            TrainingError: naming each, with the end of its output.
        """
        if self.failures:
            parts = [f"{f.label} (exit status {f.exit_code}):\n{_indented(f.tail)}" for f in self.failures]
            raise TrainingError(f"{len(self.failures)} runs failed.\n" + "\n".join(parts))


@dataclass
class _Job:
    """A cell that is running."""

    cell: Cell
    child: Child
    told: float = 0.0
    folder: Path | None = None
    begun: float = field(default_factory=time.time)


@dataclass(frozen=True)
class _Start:
    """Starts a cell in a process of its own, with its share of the cores."""

    make_command: Command | None
    n_threads: int

    def __call__(self, cell: Cell) -> _Job:
        if self.make_command is None and can_fork(cell.settings):
            return _Job(cell, Forked(cell.settings, self.n_threads))
        return _Job(cell, Spawned((self.make_command or command)(cell), self.n_threads))


def run_experiment(
    recipe: Recipe, *, workers: int = 0, listener: Listener = ignore, make_command: Command | None = None
) -> Outcome:
    """Make all runs of a recipe that are not there yet.

    Args:
        workers: how many run side by side, each with its share of the cores; 0: one per core, at
            most 8.
        make_command: how a cell becomes a command line, for processes other than our own training.

    Raises:
        SettingError: a cell's settings are not usable; nothing was started.
    """
    cells, begun = plan(recipe), time.monotonic()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    task = f"Experiment {recipe.name}"
    listener(TaskStarted(task, sum(cell.steps for cell in cells), "steps"))
    there = complete_runs(recipe.data)
    skipped = [cell for cell in cells if is_there(cell, there)]
    for cell in skipped:
        listener(TaskAdvanced(task, cell.steps, f"{cell.label}: is there"))
    waiting = [cell for cell in cells if cell not in skipped]
    n_workers = max(1, min(workers or min(8, cores), len(waiting)))
    made, failures = _run_all(waiting, n_workers, _Start(make_command, max(1, cores // n_workers)), task, listener)
    listener(TaskFinished(task))
    labels = tuple(cell.label for cell in skipped)
    return Outcome(recipe.data, tuple(made), labels, tuple(failures), time.monotonic() - begun)


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
    recipe = load_recipe(name, data=data, losses=losses, changes=changes)
    if not dry_run:
        return run_experiment(recipe, workers=workers, listener=listener)
    cells, there = plan(recipe), complete_runs(recipe.data)
    left = tuple(shlex.join(["east", *command(cell)[5:]]) for cell in cells if not is_there(cell, there))
    return Outcome(recipe.data, (), tuple(cell.label for cell in cells if is_there(cell, there)), (), 0.0, left)


def command(cell: Cell) -> list[str]:
    """The command line that makes a cell's run."""
    verb = "train" if cell.row.kind == "student" else "probe"
    return python("-m", "cli", "-q", verb, *arguments(cell))


def arguments(cell: Cell) -> list[str]:
    """Options of ``east train`` or ``east probe``; those at their default are left out."""
    found = []
    for spec in fields(cell.settings):
        value = getattr(cell.settings, spec.name)
        option = "--" + spec.name.replace("_", "-")
        if value is None or value == spec.default:
            continue
        if isinstance(value, bool):
            found.append(option if value else option.replace("--", "--no-", 1))
        else:
            found += [option, ",".join(value) if isinstance(value, tuple) else str(value)]
    return found


def _run_all(
    cells: Sequence[Cell], n_workers: int, start: _Start, task: str, listener: Listener
) -> tuple[list[str], list[Failure]]:
    waiting, made, failures = list(cells), list[str](), list[Failure]()
    with _stopping() as jobs:
        while waiting or jobs:
            while waiting and len(jobs) < n_workers:
                jobs.append(start(waiting.pop(0)))
            time.sleep(_POLL_S)
            for job in [job for job in jobs if job.child.exit_code() is not None]:
                jobs.remove(job)
                _finish(job, made, failures, task, listener)
            for job in jobs:
                _tell_progress(job, task, listener)
            if waiting and not made and len(failures) >= min(2, len(cells)):
                listener(Warned(f"The first runs all failed, so the other {len(waiting)} are not started."))
                waiting.clear()
    return made, failures


def _finish(job: _Job, made: list[str], failures: list[Failure], task: str, listener: Listener) -> None:
    label, code, lines = job.cell.label, job.child.exit_code() or 0, job.child.output()
    job.child.close()
    listener(TaskAdvanced(task, max(0.0, job.cell.steps - job.told), label))
    if code == 0:
        made.append(label)
        listener(Note(f"{label}: done in {time.time() - job.begun:,.0f} s"))
        return
    failures.append(Failure(label, code, "\n".join(lines[-_TAIL_LINES:])))
    listener(Warned(f"{label} failed with exit status {code}: {lines[-1] if lines else 'it said nothing'}"))


def _tell_progress(job: _Job, task: str, listener: Listener) -> None:
    """Advance by the steps that the run's history shows beyond those told before."""
    job.folder = job.folder or _find_folder(job)
    step = min(_last_step(job.folder / "history.csv") if job.folder else 0.0, float(job.cell.steps))
    if step > job.told:
        listener(TaskAdvanced(task, step - job.told, job.cell.label))
        job.told = step


def _find_folder(job: _Job) -> Path | None:
    """The folder that a running cell writes: its row and seed, touched since it began."""
    for path in layout.runs_dir(job.cell.settings.data).glob("*/run.json"):
        try:
            if path.stat().st_mtime < job.begun - 1:
                continue
            facts = read_json(path)
        except (OSError, RunError):
            continue
        if (facts.get("group"), facts.get("seed")) == (job.cell.row.title, job.cell.settings.seed):
            return path.parent
    return None


def _last_step(path: Path) -> float:
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            steps = [float(row["step"]) for row in csv.DictReader(handle)]
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
    return max(steps, default=0.0)


@contextmanager
def _stopping() -> Iterator[list[_Job]]:
    """Jobs that are ended with the block, by SIGTERM too: asked to stop, then killed."""
    jobs: list[_Job] = []
    before = _on_sigterm(_interrupt)
    try:
        yield jobs
    finally:
        _on_sigterm(before)
        for job in jobs:
            if not job.child.wait(_GRACE_S):  # a terminal's Ctrl-C has reached it too
                job.child.interrupt()
        deadline = time.monotonic() + _PATIENCE_S
        for job in jobs:
            if not job.child.wait(max(0.1, deadline - time.monotonic())):
                job.child.kill()
            job.child.close()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _on_sigterm(handler: Any) -> Any:
    """Set what SIGTERM does and give what it did; only the main thread may."""
    if threading.current_thread() is not threading.main_thread():
        return None
    return signal.signal(signal.SIGTERM, handler)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
