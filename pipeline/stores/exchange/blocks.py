"""The clips that go out, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted
from pipeline.stores.reader import StoreReader

_BLOCK_BYTES = 1 << 25


@dataclass(frozen=True, eq=False)
class Selection:
    """Rows of a store that are exported, in order.

    Attributes:
        rows: [clips] int64, ascending.
        about: facts that go along, plain JSON.
    """

    reader: StoreReader
    rows: np.ndarray
    about: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Clips, frames, channels."""
        return len(self.rows), self.reader.meta.frames, self.reader.meta.channels

    @property
    def clip_ids(self) -> list[str]:
        """Ids of the rows."""
        return [str(clip_id) for clip_id in self.reader.clip_id[self.rows].tolist()]

    @property
    def n_frames(self) -> np.ndarray:
        """[clips] int32, valid frames."""
        return np.asarray(self.reader.n_frames[self.rows], np.int32)

    def blocks(self, listener: Listener, share: int = 1) -> Iterator[tuple[slice, np.ndarray]]:
        """Places among the rows and their features, [clips, frames, channels], zero beyond the valid frames.

        Args:
            share: how many times smaller than usual a block is.
        """
        task, n = f"export {self.reader.meta.name}", len(self.rows)
        step = max(1, _BLOCK_BYTES // share // self.reader.meta.clip_bytes)
        listener(TaskStarted(task, n, "clips"))
        for first in range(0, n, step):
            place = slice(first, min(first + step, n))
            yield place, self.reader.read(self.rows[place])
            listener(TaskAdvanced(task, place.stop - first))
        listener(TaskFinished(task))
