"""Keep decoders from printing to standard error.

libmpg123 writes to file descriptor 2 by itself, through any progress bar.  The descriptor is
pointed at the null device, and Python's ``sys.stderr`` (with the log handlers that hold it) at a
copy of the real one, so that our own messages still come through.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

__all__ = ["decoders_quiet", "quiet_decoders"]

_STDERR = 2
_lock = threading.Lock()
_depth = 0
_undo: tuple[int, TextIO | None, TextIO | None] | None = None


def quiet_decoders() -> None:
    """Silence decoders for the rest of this process. What a worker calls once."""
    _enter()


@contextmanager
def decoders_quiet() -> Iterator[None]:
    """Silence decoders inside the block; threads may nest and overlap."""
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _depth, _undo  # noqa: PLW0603 - the descriptor is the process's own
    with _lock:
        if _depth == 0:
            _undo = _redirect()
        _depth += 1


def _leave() -> None:
    global _depth, _undo  # noqa: PLW0603
    with _lock:
        _depth -= 1
        if _depth == 0 and _undo is not None:
            _restore(*_undo)
            _undo = None


def _redirect() -> tuple[int, TextIO | None, TextIO | None] | None:
    """Point descriptor 2 at nothing; None where the process has no descriptor 2."""
    try:
        real = os.dup(_STDERR)
    except OSError:
        return None
    old = sys.stderr if _writes_to_stderr(sys.stderr) else None
    new = os.fdopen(os.dup(real), "w", buffering=1, errors="backslashreplace") if old is not None else None
    if old is not None and new is not None:
        old.flush()
        _swap(old, new)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _STDERR)
    os.close(null)
    return real, old, new


def _restore(real: int, old: TextIO | None, new: TextIO | None) -> None:
    os.dup2(real, _STDERR)
    os.close(real)
    if old is not None and new is not None:
        new.flush()
        _swap(new, old)
        new.close()


def _swap(old: TextIO, new: TextIO) -> None:
    if sys.stderr is old:
        sys.stderr = new
    for handler in _stream_handlers():
        if handler.stream is old:
            handler.setStream(new)


def _writes_to_stderr(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.fileno() == _STDERR
    except (io.UnsupportedOperation, ValueError, AttributeError):
        return False


def _stream_handlers() -> Iterator[logging.StreamHandler[TextIO]]:
    for logger in [logging.root, *list(logging.root.manager.loggerDict.values())]:
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler):
                yield handler
