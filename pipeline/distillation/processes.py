"""One run in several processes: started, listened to, and ended together.

Each process opens the stores itself, so no file handle is shared.  This process only passes on what
the first one reports; whatever happens here or there, none of them is left behind.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from threading import Thread
from typing import IO, Any

from pipeline import errors, events
from pipeline.distillation.settings import TrainSettings
from pipeline.errors import EastError, TrainingError
from pipeline.events import Listener
from pipeline.interpreter import python, python_path

_GRACE_S = 3.0  # for the process that knows the reason to say it, after another only saw it go


@dataclass(frozen=True)
class Part:
    """Which process of a run this is, and how it meets the others.

    Attributes:
        rank: 0 is the one that validates and writes.
        of: how many processes take part; each takes its share of every batch.
        port: of this machine, where they meet.
        resumed: whether the first process goes on from a checkpoint; None: look.
    """

    rank: int = 0
    of: int = 1
    port: int = 0
    resumed: bool | None = None

    @property
    def writes(self) -> bool:
        """Whether this process writes the run's files."""
        return self.rank == 0


ALONE = Part()

Ready = Callable[[bool], None]


def alone(resumed: bool) -> None:
    """Nobody waits for this process."""


@dataclass
class _Child:
    part: Part
    process: subprocess.Popen[str]
    errors: IO[bytes]
    said: list[dict[str, Any]] = field(default_factory=list)
    reader: Thread | None = None


_Message = tuple[_Child, dict[str, Any] | None]


def train_together(settings: TrainSettings, n: int, listener: Listener) -> None:
    """Train in ``n`` processes of this machine; returns when all have ended.

    Raises:
        EastError: what the first process that failed says; the others are ended.
    """
    port = _free_port()
    inbox: queue.Queue[_Message] = queue.Queue()
    with _ended_together() as children:
        children.append(_start(Part(0, n, port), settings, inbox))
        ended = 0
        while ended < len(children):
            child, message = inbox.get()
            if message is None:
                _check_end(child, children, inbox)
                ended += 1
            elif "ready" in message:
                parts = [Part(rank, n, port, resumed=message["ready"]) for rank in range(1, n)]
                children.extend(_start(part, settings, inbox) for part in parts)
            elif "failed" in message:
                raise _reason(child, children, inbox)
            else:
                listener(_event(message))


@contextmanager
def _ended_together() -> Iterator[list[_Child]]:
    """On the way out, for whatever reason, no process is left; files are published by renaming."""
    children: list[_Child] = []
    try:
        yield children
    finally:
        for child in children:
            child.process.kill()
        for child in children:
            child.process.wait()
            if child.reader is not None:
                child.reader.join()  # its end of the pipe has ended with the process
            for pipe in (child.process.stdin, child.process.stdout, child.errors):
                if pipe is not None:
                    _close(pipe)


def _close(pipe: IO[str] | IO[bytes]) -> None:
    with suppress(BrokenPipeError):
        pipe.close()


def _start(part: Part, settings: TrainSettings, inbox: queue.Queue[_Message]) -> _Child:
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
    process = subprocess.Popen(
        python("-m", "pipeline.distillation.member"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=os.environ | python_path(),
        start_new_session=True,  # Ctrl-C reaches this process alone, which then ends the others
    )
    child = _Child(part, process, errors)
    assert process.stdin is not None
    process.stdin.write(json.dumps({"part": asdict(part), "settings": asdict(settings)}) + "\n")
    process.stdin.flush()  # it stays open: its end tells the process that this one is gone
    child.reader = Thread(target=_read, args=(child, inbox), daemon=True)
    child.reader.start()
    return child


def _read(child: _Child, inbox: queue.Queue[_Message]) -> None:
    assert child.process.stdout is not None
    for line in child.process.stdout:
        message = json.loads(line)
        if "failed" in message:
            child.said.append(message["failed"])
        inbox.put((child, message))
    inbox.put((child, None))


def _check_end(child: _Child, children: Sequence[_Child], inbox: queue.Queue[_Message]) -> None:
    if child.process.wait() != 0:
        raise _reason(child, children, inbox)


def _reason(child: _Child, children: Sequence[_Child], inbox: queue.Queue[_Message]) -> EastError:
    """Why the run failed: the words of a process that knows, else what the first one left."""
    until = time.monotonic() + _GRACE_S
    while time.monotonic() < until:
        for each in children:
            for said in each.said:
                kind = getattr(errors, said["type"], None)
                if isinstance(kind, type) and issubclass(kind, EastError):
                    return kind.__new__(kind, said["text"])
        time.sleep(0.05)
    for each in children:
        code = each.process.poll()
        if code is not None and code < 0:
            which = f"Process {each.part.rank + 1} of {each.part.of}"
            return TrainingError(f"{which} was killed (signal {-code}); too little memory is the usual cause.")
    where = f"Process {child.part.rank + 1} of {child.part.of}"
    if child.said:
        return TrainingError(f"{where} failed: {child.said[0]['text']}")
    child.errors.seek(0)
    last = child.errors.read().decode(errors="replace").strip().splitlines()[-1:]
    return TrainingError(f"{where} ended with code {child.process.poll()}: {' '.join(last)}")


def _event(message: dict[str, Any]) -> events.Event:
    kind = getattr(events, message.pop("event"))
    made: events.Event = kind(**message)
    return made


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
