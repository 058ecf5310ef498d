"""Runs side by side on this machine, each in a process of its own with its share of the cores."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

from pipeline import layout
from pipeline.errors import RunError
from pipeline.evaluation.runs import read_json
from pipeline.events import Listener, Note, TaskAdvanced, Warned
from pipeline.experiments.children import Child, Forked, Spawned, can_fork, undisturbed
from pipeline.experiments.outcome import TAIL_LINES, Failure
from pipeline.experiments.recipe import Cell
from pipeline.interpreter import python
from pipeline.stopping import terminable

_POLL_S = 0.5
_GRACE_S = 1.0
_PATIENCE_S = 20.0
Command = Callable[[Cell], list[str]]


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


@dataclass
class _Job:
    """A cell that is running."""

    cell: Cell
    child: Child
    told: float = 0.0
    folder: Path | None = None
    begun: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Start:
    """Starts a cell in a process of its own, with its share of the cores."""

    make_command: Command | None
    n_threads: int

    def __call__(self, cell: Cell) -> _Job:
        """Start it."""
        if self.make_command is None and can_fork(cell.settings):
            return _Job(cell, Forked(cell.settings, self.n_threads))
        return _Job(cell, Spawned((self.make_command or command)(cell), self.n_threads))


def run_all(
    cells: Sequence[Cell], n_workers: int, start: Start, task: str, listener: Listener
) -> tuple[list[str], list[Failure]]:
    """Run cells ``n_workers`` at a time; give the labels that were made, and the failures."""
    waiting, made, failures = list(cells), list[str](), list[Failure]()
    with _stopping() as jobs:
        while waiting or jobs:
            while waiting and len(jobs) < n_workers:
                with undisturbed():
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
    failures.append(Failure(label, code, "\n".join(lines[-TAIL_LINES:])))
    listener(Warned(f"{label} failed with exit status {code}: {lines[-1] if lines else 'it said nothing'}"))


def _tell_progress(job: _Job, task: str, listener: Listener) -> None:
    """Advance by the steps that the run's history shows beyond those told before."""
    job.folder = job.folder or _find_folder(job)
    history = job.folder / "history.csv" if job.folder else None
    step = min(_last_step(history) if history else 0.0, float(job.cell.steps))
    if history and step > job.told:
        earlier = history.stat().st_mtime < job.begun  # steps of a run that goes on
        listener(TaskAdvanced(task, step - job.told, job.cell.label, found=earlier))
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
    with terminable():
        try:
            yield jobs
        finally:
            for job in jobs:
                if not job.child.wait(_GRACE_S):  # a terminal's Ctrl-C has reached it too
                    job.child.interrupt()
            deadline = time.monotonic() + _PATIENCE_S
            for job in jobs:
                if not job.child.wait(max(0.1, deadline - time.monotonic())):
                    job.child.kill()
                job.child.close()
