"""Runs as tasks of an existing Dask cluster, whose workers see the same data folder.

A task starts ``east train`` or ``east probe`` in a process of its own on the worker's machine: what
kills a run does not kill the worker, and a GPU worker hands on the GPU that it sees.  Tasks are
named by their settings, so that one that outlived its driver is joined and not started twice.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

from distributed import Client, as_completed, get_worker

from pipeline import layout
from pipeline.cluster import WorkerLayout, n_cores, running
from pipeline.errors import PlanError
from pipeline.events import Listener, Note, TaskAdvanced, Warned
from pipeline.experiments.children import Spawned
from pipeline.experiments.local import Command
from pipeline.experiments.outcome import TAIL_LINES, Failure
from pipeline.experiments.recipe import Cell
from pipeline.provenance import config_hash

_PATIENCE_S = 1.0
_STOP_S = 20.0


def run_on_cluster(
    cells: Sequence[Cell], scheduler: str, task: str, listener: Listener, make_command: Command
) -> tuple[list[str], list[Failure]]:
    """Make runs on the workers of a scheduler; give the labels that were made, and the failures.

    Interrupted, it takes back the tasks that wait; those that run go on to the run's end or stop
    with their worker, and the same command joins them or finds their runs.

    Raises:
        PlanError: the scheduler does not answer, or has no workers.
    """
    with running(WorkerLayout(0, 1), scheduler=scheduler, worker_bytes=0, preload="") as client:
        slots = _slots(client)
        listener(Note(f"{len(cells)} runs on the Dask cluster at {scheduler}, {sum(slots.values())} side by side."))
        home = str(layout.home().resolve())
        waiting = {_submit(client, cell, (make_command(cell), home, slots)): cell for cell in cells}
        made, failures = list[str](), list[Failure]()
        for future in as_completed(waiting):
            cell = waiting[future]
            failed = _failure(future, cell)
            listener(TaskAdvanced(task, cell.steps, cell.label))
            if failed is None:
                made.append(cell.label)
                listener(Note(f"{cell.label}: done"))
            else:
                failures.append(failed)
                listener(Warned(f"{cell.label} failed: {(failed.tail.splitlines() or ['it said nothing'])[-1]}"))
    return made, failures


def _slots(client: Client) -> dict[str, int]:
    """How many tasks each machine's workers take at once."""
    counts: Counter[str] = Counter()
    for worker in client.scheduler_info(n_workers=-1)["workers"].values():
        counts[str(worker["host"])] += int(worker["nthreads"])
    if not counts:
        raise PlanError("The Dask scheduler has no workers. Start some: dask worker ADDRESS --nthreads 1")
    return dict(counts)


def _submit(client: Client, cell: Cell, given: tuple[list[str], str, dict[str, int]]) -> Any:
    line, home, slots = given
    name = f"east-run-{config_hash({'home': home, **cell.identity})[:16]}"
    return client.submit(make_run, line, home, slots, key=name, retries=0, pure=False)


def _failure(future: Any, cell: Cell) -> Failure | None:
    error = future.exception()
    if error is not None:
        return Failure(cell.label, 1, f"{type(error).__name__}: {error}")
    code, lines = future.result()
    return Failure(cell.label, int(code), "\n".join(lines)) if code else None


def make_run(line: Sequence[str], home: str, slots: dict[str, int]) -> tuple[int, list[str]]:
    """Body of a task: one run in a process of its own; its exit status and the end of its output.

    Args:
        line: the command, of which the interpreter is this worker's own.
        home: the data folder of the driver, unless the worker has one of its own.
        slots: how many runs share the cores of each machine.
    """
    os.environ.setdefault(layout.HOME_VARIABLE, home)
    host = _host_of(get_worker())
    child = Spawned([sys.executable, *line[1:]], max(1, n_cores() // slots.get(host, 1)))
    try:
        while not child.wait(_PATIENCE_S):
            continue
        return child.exit_code() or 0, child.output()[-TAIL_LINES:]
    finally:
        if child.exit_code() is None:
            os.kill(child.pid, signal.SIGINT)
            if not child.wait(_STOP_S):
                child.kill()
        child.close()


def _host_of(worker: Any) -> str:
    return str(worker.address).partition("://")[2].rpartition(":")[0]
