"""Looking before running: whether each run could read what it needs, before any of them is started."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.distillation import probing, trainer
from pipeline.distillation.settings import ProbeSettings
from pipeline.errors import EastError, StoreError
from pipeline.events import Event, Listener, TaskAdvanced, TaskFinished, TaskStarted, Warned
from pipeline.experiments.recipe import Cell

_TASK = "Checking"


def rehearse_cells(cells: Sequence[Cell], listener: Listener) -> None:
    """Open and join the table and stores of every cell; warnings are told once.

    Raises:
        StoreError: some could not be run; every reason is told, with the cells it holds back.
    """
    reasons: dict[str, list[str]] = {}
    warned: set[str] = set()

    def hear(event: Event) -> None:
        if isinstance(event, Warned) and event.text not in warned:
            warned.add(event.text)
            listener(event)

    listener(TaskStarted(_TASK, len(cells), "runs"))
    for cell in cells:
        try:
            if isinstance(cell.settings, ProbeSettings):
                probing.rehearse(cell.settings, hear)
            else:
                trainer.rehearse(cell.settings, hear)
        except EastError as error:
            reasons.setdefault(str(error), []).append(cell.label)
        listener(TaskAdvanced(_TASK, 1, cell.label))
    listener(TaskFinished(_TASK))
    if reasons:
        n = sum(map(len, reasons.values()))
        lines = [f"{_few(labels)}:\n    {reason}" for reason, labels in reasons.items()]
        raise StoreError(f"{n} of {len(cells)} runs could not be made.\n" + "\n".join(lines))


def _few(labels: Sequence[str]) -> str:
    return "; ".join(labels[:3]) + (f"; and {len(labels) - 3} more" if len(labels) > 3 else "")
