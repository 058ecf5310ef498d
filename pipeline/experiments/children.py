"""Processes that make one run each.

On Linux without a GPU they are forked from a server that has imported PyTorch and Lightning once:
importing them takes longer than a short training.  Elsewhere, and where CUDA could be touched
before the fork, each is a fresh ``east train`` or ``east probe``.  Either way a run has its own
process, its own share of the cores and its own output, and dies alone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pipeline.distillation.settings import ProbeSettings, TrainSettings
from pipeline.interpreter import python_path
from pipeline.stopping import Terminated, terminable

Settings = TrainSettings | ProbeSettings
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_GPU_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
_PRELOADED = ["pipeline.distillation.trainer", "pipeline.distillation.probing"]


class Child(ABC):
    """A process with its output in a file that vanishes with :meth:`close`."""

    def __init__(self) -> None:
        handle, name = tempfile.mkstemp(prefix="east-run-", suffix=".log")
        os.close(handle)
        self.log = Path(name)

    @abstractmethod
    def exit_code(self) -> int | None:
        """None while it runs."""

    @abstractmethod
    def wait(self, timeout_s: float) -> bool:
        """Whether it ended in time."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """Its process id."""

    def interrupt(self) -> None:
        """Ask it to stop; training keeps what it has."""
        if self.exit_code() is None:
            os.kill(self.pid, signal.SIGINT)

    def kill(self) -> None:
        """End it at once."""
        if self.exit_code() is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(10.0)

    def output(self) -> list[str]:
        """Lines that it printed."""
        return self.log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()

    def close(self) -> None:
        """Forget its output."""
        self.log.unlink(missing_ok=True)


class Spawned(Child):
    """A command line."""

    def __init__(self, line: Sequence[str], n_threads: int) -> None:
        super().__init__()
        environment = os.environ | python_path() | dict.fromkeys(THREAD_VARIABLES, str(n_threads))
        environment["PYTHONUNBUFFERED"] = "1"  # its last words, on whatever stream, come last
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                line, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
            )

    def exit_code(self) -> int | None:
        """See :class:`Child`."""
        return self._process.poll()

    def wait(self, timeout_s: float) -> bool:
        """See :class:`Child`."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def pid(self) -> int:
        """See :class:`Child`."""
        return self._process.pid


class Forked(Child):
    """A fork of the server that has everything imported."""

    def __init__(self, settings: Settings, n_threads: int) -> None:
        super().__init__()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        self._process = context.Process(target=make_run, args=(settings, str(self.log), n_threads), daemon=False)
        self._process.start()

    def exit_code(self) -> int | None:
        """See :class:`Child`."""
        return self._process.exitcode

    def wait(self, timeout_s: float) -> bool:
        """See :class:`Child`."""
        self._process.join(timeout_s)
        return self._process.exitcode is not None

    @property
    def pid(self) -> int:
        """See :class:`Child`."""
        return self._process.pid or 0


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back while a process is started, so that none is left that nobody knows of.

    A process that is started here also hears them where this one was told to ignore them, as shells
    tell what they run in the background.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    before = {
        number: signal.signal(number, lambda number, frame: held.append((number, frame)))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for code, frame in held:
            handler = before[signal.Signals(code)]
            if callable(handler):
                handler(code, frame)
            elif handler is signal.SIG_DFL:
                os.kill(os.getpid(), code)


def can_fork(settings: Settings) -> bool:
    """Whether a fork is safe: Linux, and no GPU that a library may have looked at before."""
    asked = settings.device if isinstance(settings, TrainSettings) else "cpu"
    on_cpu = asked == "cpu" or (asked == "auto" and not any(Path(name).exists() for name in _GPU_FILES))
    return sys.platform == "linux" and on_cpu


def make_run(settings: Settings, log: str, n_threads: int) -> None:
    """Body of a forked child: train or probe, output to ``log``, exit codes as those of ``east``."""
    _redirect(log)
    end_with_parent()
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    from pipeline.distillation.probing import probe
    from pipeline.distillation.trainer import train
    from pipeline.errors import EastError

    torch.set_num_threads(n_threads)
    try:
        with terminable(), threadpool_limits(n_threads):
            print(probe(settings) if isinstance(settings, ProbeSettings) else train(settings))  # noqa: T201
    except EastError as error:
        print("\n  ".join([f"error: {error}", *getattr(error, "__notes__", ())]))  # noqa: T201
        sys.exit(error.exit_code)
    except KeyboardInterrupt as stop:
        sys.exit(143 if isinstance(stop, Terminated) else 130)


def end_with_parent() -> None:
    """From here on, stop as by Ctrl-C when the experiment is gone: the next one would make the same run again."""

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, name="experiment", daemon=True).start()


def _redirect(log: str) -> None:
    """Send both outputs, of Python and of libraries, to a file."""
    handle: Any = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)
