"""Features of joined clips: whole stores in memory where they fit, else windows of them.

Both give the same interface.  In memory the stored type is kept, so that float16 stays half the
size, and each batch is converted as it is gathered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.audio.extractor import Frames
from pipeline.distillation.joining import ABSENT, Rows
from pipeline.errors import StoreError
from pipeline.stores import StoreReader
from pipeline.texts import some

_READ_CLIPS = 512
_FREE_SHARE = 0.5
_WINDOWS_HELD = 3  # one in use, one being read, one being let go


@dataclass(frozen=True, eq=False)
class Column:
    """One store as the clips of a feature set see it, and stores of views of the same clips.

    A **key** names a version of a clip, ``version * clips + position``: version 0 is the clip as it is,
    version K its view K.  So positions are the keys of the clips as they are.

    Shape:
        rows: [clips], int64, row in the store, -1 where the clip is absent.

    Attributes:
        views: the same clips in the store of each view; a view that is absent there is the clip as it is.
    """

    store: StoreReader
    rows: Rows
    views: tuple[Column, ...] = ()

    @property
    def clip_bytes(self) -> int:
        """Bytes of one version of a clip in the stored type."""
        return self.store.meta.clip_bytes

    @property
    def n_versions(self) -> int:
        """How many versions there are of each clip."""
        return 1 + len(self.views)

    def select(self, positions: NDArray[np.int64]) -> Column:
        """Some of the clips, in that order."""
        return Column(self.store, self.rows[positions], tuple(view.select(positions) for view in self.views))

    def without_views(self) -> Column:
        """The clips as they are."""
        return Column(self.store, self.rows)

    def n_frames(self) -> Tensor:
        """[versions * clips], int64, valid frames of each key; 0 where the clip is absent."""
        n = np.zeros((self.n_versions, len(self.rows)), np.int64)
        for version, column in enumerate((self, *self.views)):
            n[version] = n[0]
            present = column.rows != ABSENT
            n[version, present] = column.store.n_frames[column.rows[present]]
        return torch.from_numpy(n.reshape(-1))

    def read(self, keys: NDArray[np.int64]) -> Tensor:
        """Features [keys, frames, channels] in the stored type; zeros where the clip is absent.

        Raises:
            StoreError: the store holds numbers that are not finite; its clips are named.
        """
        _, frames, channels = self.store.shape
        features = np.zeros((len(keys), frames, channels), self.store.dtype)
        versions, positions = np.divmod(keys, max(1, len(self.rows)))
        for version, view in enumerate(self.views, start=1):
            there = (versions == version) & (view.rows[positions] != ABSENT)
            view._fill(features, np.flatnonzero(there), positions)
            versions[there] = -1
        self._fill(features, np.flatnonzero((versions >= 0) & (self.rows[positions] != ABSENT)), positions)
        return torch.from_numpy(features)

    def _fill(self, features: NDArray[Any], places: NDArray[np.intp], positions: NDArray[np.int64]) -> None:
        """Read the clips at some places of an array, in the order of the store."""
        rows = self.rows[positions[places]]
        order = np.argsort(rows, kind="stable")
        bad: list[str] = []
        for first in range(0, len(order), _READ_CLIPS):
            part = order[first : first + _READ_CLIPS]
            values = self.store.read(rows[part])
            bad += self.store.clip_id[rows[part][not_finite(values)]].tolist()
            features[places[part]] = values
        if bad:
            raise StoreError(
                f"{self.store.path} ({self.store.meta.name}) holds numbers that are not finite in {len(bad):,} clips: "
                f"{some(bad)}. `east store verify {self.store.path}` says whether it is damaged; extract these clips "
                "again."
            )


def not_finite(features: NDArray[Any]) -> NDArray[np.bool_]:
    """[clips], bool: which of [clips, frames, channels] hold infinities or no numbers; by their exponents' bits."""
    kind, largest, infinite = _BITS[features.dtype.itemsize]
    bits = np.ascontiguousarray(features).view(kind) & kind(largest)
    if bits.max(initial=0) < infinite:
        return np.zeros(len(features), bool)
    return np.asarray((bits >= kind(infinite)).any(axis=(1, 2)))


#: By bytes of a number: its bits without the sign, and those of infinity.
_BITS = {2: (np.uint16, 0x7FFF, 0x7C00), 4: (np.uint32, 0x7FFFFFFF, 0x7F800000)}


class Window:
    """Features of some keys of each column, held in memory; all of them where ``held`` is None."""

    def __init__(
        self,
        features: Sequence[Tensor],
        n_frames: Sequence[Tensor],
        held: Sequence[NDArray[np.int64]] | None,
    ) -> None:
        self._features, self._n_frames, self._held = features, n_frames, held

    @property
    def n_columns(self) -> int:
        """How many stores it is of."""
        return len(self._features)

    def to(self, device: torch.device) -> Window:
        """The same on another device."""
        features, n_frames = ([tensor.to(device) for tensor in part] for part in (self._features, self._n_frames))
        return Window(features, n_frames, self._held)

    def gather(self, column: int, keys: Tensor) -> Frames:
        """Frames of one column: float32 features [keys, frames, channels], and their counts.

        The keys must be among those that the window was made for.
        """
        where = keys
        if self._held is not None:
            where = torch.from_numpy(np.searchsorted(self._held[column], keys.numpy()))
        features = self._features[column].index_select(0, where).to(torch.float32)
        return Frames(features, self._n_frames[column].index_select(0, keys))


class FeatureSet:
    """Stores joined on the same clips, addressed by position.

    Attributes:
        columns: the stores; the student's mel comes first, and it alone may have views.
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
        """Bytes of one clip over all stores, in one version."""
        return sum(column.clip_bytes for column in self.columns)

    @property
    def n_bytes(self) -> int:
        """Bytes of all clips over all stores, in all versions."""
        return len(self) * sum(column.clip_bytes * column.n_versions for column in self.columns)

    @property
    def window_clips(self) -> int:
        """How many clips a window holds where not everything is in memory."""
        return self.group_blocks * max(1, self.columns[0].store.block_clips)

    @property
    def shuffled_blocks(self) -> int:
        """How many storage blocks are shuffled together; 0: clips are shuffled freely, since all are in memory."""
        return 0 if self.resident else self.group_blocks

    def blocks(self) -> NDArray[np.int64]:
        """[clips], the storage block of each position in the first store."""
        return np.asarray(self.columns[0].rows // max(1, self.columns[0].store.block_clips), np.int64)

    def window(self, keys: NDArray[np.int64]) -> Window:
        """Everything needed to gather any of the keys from the first column, and their clips from the others."""
        if self.resident:
            if self._whole is None:
                everything = [np.arange(len(self) * column.n_versions) for column in self.columns]
                self._whole = self._read(everything, held=False)
            return self._whole
        positions = np.unique(keys % max(1, len(self)))
        return self._read([np.unique(keys), *[positions] * (len(self.columns) - 1)], held=True)

    def _read(self, keys: Sequence[NDArray[np.int64]], *, held: bool) -> Window:
        features = [column.read(part) for column, part in zip(self.columns, keys, strict=True)]
        return Window(features, self.n_frames, keys if held else None)


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
