"""Features of joined clips: whole stores in memory where they fit, else windows of them.

Both give the same interface.  In memory the stored type is kept, so that float16 stays half the
size, and each batch is converted as it is gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.audio.extractor import Frames
from pipeline.distillation.joining import ABSENT, Rows
from pipeline.stores import StoreReader

_READ_CLIPS = 512
_FREE_SHARE = 0.5
_WINDOWS_HELD = 3  # one in use, one being read, one being let go


@dataclass(frozen=True, eq=False)
class Column:
    """One store as the clips of a feature set see it.

    Shape:
        rows: [clips], int64, row in the store, -1 where the clip is absent.
    """

    store: StoreReader
    rows: Rows

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip in the stored type."""
        return self.store.meta.clip_bytes

    def n_frames(self) -> Tensor:
        """[clips], int64, valid frames; 0 where the clip is absent."""
        present = self.rows != ABSENT
        n = np.zeros(len(self.rows), np.int64)
        n[present] = self.store.n_frames[self.rows[present]]
        return torch.from_numpy(n)

    def read(self, positions: NDArray[np.int64]) -> Tensor:
        """Features [positions, frames, channels] in the stored type; zeros where absent."""
        _, frames, channels = self.store.shape
        features = np.zeros((len(positions), frames, channels), self.store.dtype)
        rows = self.rows[positions]
        order = np.argsort(rows, kind="stable")
        order = order[rows[order] != ABSENT]
        for first in range(0, len(order), _READ_CLIPS):
            part = order[first : first + _READ_CLIPS]
            features[part] = self.store.read(rows[part])
        return torch.from_numpy(features)


class Window:
    """Features of some positions, held in memory."""

    def __init__(self, features: Sequence[Tensor], n_frames: Sequence[Tensor], held: NDArray[np.int64] | None) -> None:
        self._features, self._n_frames, self._held = features, n_frames, held

    def gather(self, column: int, positions: Tensor) -> Frames:
        """Frames of one store: float32 features [positions, frames, channels], and their counts.

        The positions must be among those that the window was made for.
        """
        where = positions
        if self._held is not None:
            where = torch.from_numpy(np.searchsorted(self._held, positions.numpy()))
        features = self._features[column].index_select(0, where).to(torch.float32)
        return Frames(features, self._n_frames[column].index_select(0, positions))


class FeatureSet:
    """Stores joined on the same clips, addressed by position.

    Attributes:
        columns: the stores; the student's mel comes first.
        resident: whether everything is in memory.
        group_blocks: where it is not, how many storage blocks are shuffled together.
    """

    def __init__(self, columns: Sequence[Column], *, budget_bytes: int) -> None:
        self.columns = tuple(columns)
        self.n_frames = [column.n_frames() for column in self.columns]
        self.resident = self.n_bytes <= budget_bytes
        block_bytes = self.clip_bytes * max(1, self.columns[0].store.block_clips)
        self.group_blocks = max(2, budget_bytes // (_WINDOWS_HELD * block_bytes))
        self._whole: Window | None = None

    def __len__(self) -> int:
        return len(self.columns[0].rows)

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip over all stores."""
        return sum(column.clip_bytes for column in self.columns)

    @property
    def n_bytes(self) -> int:
        """Bytes of all clips over all stores."""
        return len(self) * self.clip_bytes

    @property
    def window_clips(self) -> int:
        """How many clips a window holds where not everything is in memory."""
        return self.group_blocks * max(1, self.columns[0].store.block_clips)

    def blocks(self) -> NDArray[np.int64] | None:
        """[clips], the storage block of each position in the first store; None when in memory."""
        if self.resident:
            return None
        return np.asarray(self.columns[0].rows // max(1, self.columns[0].store.block_clips), np.int64)

    def window(self, positions: NDArray[np.int64]) -> Window:
        """Everything needed to gather any of the positions."""
        if self.resident:
            if self._whole is None:
                everything = np.arange(len(self))
                self._whole = Window([column.read(everything) for column in self.columns], self.n_frames, None)
            return self._whole
        held = np.unique(positions)
        return Window([column.read(held) for column in self.columns], self.n_frames, held)


def memory_budget(asked_gb: float) -> int:
    """Bytes that features may take: what is asked for, else half of the memory that is free."""
    if asked_gb > 0:
        return int(asked_gb * (1 << 30))
    return int(_free_bytes() * _FREE_SHARE)


def _free_bytes() -> int:
    """Free memory of the machine, or of the container where that is less."""
    free = [_machine_free(), _container_free()]
    return min(value for value in free if value is not None)


def _machine_free() -> int:
    try:
        text = Path("/proc/meminfo").read_text()
        kibibytes = next(line.split()[1] for line in text.splitlines() if line.startswith("MemAvailable"))
        return int(kibibytes) << 10
    except (OSError, StopIteration):
        return 4 << 30  # not Linux: a guess that any machine of today has


def _container_free() -> int | None:
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        return None if limit == "max" else max(0, int(limit) - used)
    except (OSError, ValueError):
        return None
