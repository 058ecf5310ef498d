"""Processes that read or render for a build: they end with it, and leave signals to it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial


def count_workers(asked: int) -> int:
    """How many processes: all cores that may be used for 0."""
    return asked or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def make_pool(n_workers: int, start: Callable[..., object] | None = None, *arguments: object) -> ProcessPoolExecutor:
    """A pool whose processes call ``start(*arguments)`` first.

    They answer no signal that reaches the whole group: the builder does, and they end with it.
    """
    begin = partial(_begin, start, *arguments)
    return ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), initializer=begin)


def _begin(start: Callable[..., object] | None, *arguments: object) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_builder, daemon=True).start()
    if start:
        start(*arguments)


def _end_with_builder() -> None:
    if builder := multiprocessing.parent_process():
        builder.join()
        os._exit(1)  # a pool's worker waits for work for ever
