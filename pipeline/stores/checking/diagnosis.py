"""What a check knows at its end, for the report and for the repair; and work spread over threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.errors import StoreError
from pipeline.stores.checking.blocks import NOT_FINITE, OTHER, Facts
from pipeline.stores.checking.chunks import ShardScan
from pipeline.stores.checking.small import Small
from pipeline.stores.schema import StoreMeta

Item = TypeVar("Item")
Result = TypeVar("Result")
THREADS = max(2, min(8, os.cpu_count() or 2))


@dataclass(eq=False)
class Diagnosis:
    """Everything that was found out about a store on a disk.

    Attributes:
        place: the folder or file that was looked at.
        meta: root attributes; None where they are damaged or cannot be read.
        small: the small arrays; None where nothing of them can be read.
        flags: [clips] see :mod:`blocks`.
        scans: by shard, of a Zarr store laid out as usual.
        damaged: files that are damaged, by path inside the store.
        listed: digest by file, as the list has it.
        features_ok: whether the features could be read at all.
        stopped: tells threads beside the main one to end.
    """

    place: Path
    meta: StoreMeta | None = None
    small: Small | None = None
    flags: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    scans: dict[int, ShardScan] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    listed: dict[str, str] = field(default_factory=dict)
    features_ok: bool = False
    stopped: bool = False

    def facts(self) -> Facts:
        """What features are checked against.

        Raises:
            StoreError: the small arrays cannot be read.
        """
        if self.small is None:
            raise StoreError(f"{self.place}: the small arrays cannot be read.")
        return self.small.facts()

    def lost(self) -> np.ndarray:
        """[clips] bool: whose features are not what they were, or are no numbers."""
        found: np.ndarray = (self.flags & (OTHER | NOT_FINITE)) != 0
        return found


def spread(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results in order of work that threads do, a few items ahead; bounded, and ended at once when left."""
    with ThreadPoolExecutor(THREADS, thread_name_prefix="verify") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > THREADS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
