"""The history of a run for TensorBoard, from the same events that write ``history.csv``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import require
from pipeline.events import EpochDone, Event, Listener

FOLDER = "tensorboard"
_FILE = "events.out.tfevents.history"  # TensorBoard looks for `tfevents`; its own names hold the machine's
_NO_SCALARS = ("step", "epoch", "seconds")


class Scalars:
    """A listener that passes all events on and appends each validation's values to a file for TensorBoard.

    Opening writes what the run's history holds so far, so that a run that goes on has each step once.

    Raises:
        MissingExtraError: the extra ``tensorboard`` is not installed.
    """

    def __init__(self, run: Path, history: Sequence[Mapping[str, float]], listener: Listener) -> None:
        self._writer = require("tensorboard.summary.writer.record_writer", extra="tensorboard").RecordWriter
        self._event = require("tensorboard.compat.proto.event_pb2", extra="tensorboard").Event
        self._listener = listener
        self.file = run / FOLDER / _FILE
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_bytes(b"")
        self._append(self._event(wall_time=time.time(), file_version="brain.Event:2"))
        for row in history:
            self._add(int(row["step"]), row)

    def __call__(self, event: Event) -> None:
        """Append an :class:`EpochDone`; pass everything on."""
        if isinstance(event, EpochDone):
            self._add(event.step, event.values)
        self._listener(event)

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        record = self._event(wall_time=time.time(), step=step)
        for name, value in values.items():
            if name not in _NO_SCALARS:
                record.summary.value.add(tag=_tag(name), simple_value=float(value))
        self._append(record)

    def _append(self, record: Any) -> None:
        with self.file.open("ab") as handle:
            self._writer(handle).write(record.SerializeToString())


def _tag(name: str) -> str:
    """Groups of TensorBoard's page.

    >>> _tag("train_total"), _tag("lr")
    ('train/total', 'lr')
    """
    group, _, rest = name.partition("_")
    return f"{group}/{rest}" if rest and group in ("train", "valid") else name


def check_tensorboard() -> None:
    """Refuse before any work where TensorBoard is not installed.

    Raises:
        MissingExtraError: the extra ``tensorboard`` is not installed.
    """
    require("tensorboard.summary.writer.record_writer", extra="tensorboard")
