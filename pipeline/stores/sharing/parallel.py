"""Several files at once: the first failure, or Ctrl-C, ends the others where they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

from pipeline.errors import StoreError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted
from pipeline.stores.sharing.places import Advance

_T = TypeVar("_T")
_R = TypeVar("_R")
THREADS = 4


class _StoppedError(StoreError):
    """Another file failed."""


def transfer(
    task: str, work: Callable[[_T, Advance], object], items: Iterable[_T], n_bytes: int, listener: Listener
) -> None:
    """Do ``work`` for all items; ``n_bytes`` is what it will tell in all, shown in MB.

    Raises:
        EastError: the first that an item raised; what has not begun does not begin.
    """
    stop, lock = threading.Event(), threading.Lock()

    def advance(n: int) -> None:
        if stop.is_set():
            raise _StoppedError(f"{task}: stopped.")
        with lock:
            listener(TaskAdvanced(task, n / 1e6))

    listener(TaskStarted(task, n_bytes / 1e6, "MB"))
    with ThreadPoolExecutor(THREADS) as pool:
        futures = [pool.submit(work, item, advance) for item in items]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            stop.set()
            for future in futures:
                future.cancel()
            raise
        finally:
            listener(TaskFinished(task))


def look(task: str, ask: Callable[[_T], _R], items: Iterable[_T], listener: Listener) -> list[_R]:
    """The answers for all items, in their order."""
    asked = list(items)
    listener(TaskStarted(task, len(asked), "files"))
    found = []
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for answer in pool.map(ask, asked):
                found.append(answer)
                listener(TaskAdvanced(task, 1))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    listener(TaskFinished(task))
    return found
