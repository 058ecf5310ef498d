"""SIGTERM, which batch schedulers send before they kill, stops work as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

#: ``timeout`` and some schedulers send it to a process and to its group: what follows so soon is the same one.
_SAME_S = 2.0


class Terminated(KeyboardInterrupt):
    """SIGTERM came; whatever cleans up after Ctrl-C cleans up after it."""


@dataclass
class Termination:
    """Whether SIGTERM came, and when it was last answered, in seconds of the monotonic clock."""

    at: float | None = None

    @property
    def came(self) -> bool:
        """Whether it came."""
        return self.at is not None

    def answer(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal: raise, but once for several at a time."""
        now = time.monotonic()
        if self.at is None or now - self.at > _SAME_S:
            self.at = now
            raise Terminated


@contextmanager
def terminable() -> Iterator[Termination]:
    """Inside the block SIGTERM raises :class:`Terminated` in the main thread, unless it was told to be ignored.

    Inside another such block, and in other threads, where no handler can be set, the block changes nothing.
    """
    now = signal.getsignal(signal.SIGTERM)
    around = getattr(now, "__self__", None)
    if isinstance(around, Termination):
        yield around
        return
    found = Termination()
    if threading.current_thread() is not threading.main_thread() or now is signal.SIG_IGN:
        yield found
        return
    before = signal.signal(signal.SIGTERM, found.answer)
    try:
        yield found
    finally:
        signal.signal(signal.SIGTERM, before)
