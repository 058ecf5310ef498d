"""Sources that hold all clips in one array: an archive of NumPy, a folder of arrays, one HDF5 file."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.errors import StoreError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted
from pipeline.files import sha256_of
from pipeline.stores.exchange import npy
from pipeline.stores.exchange.numpy_files import CLIP_ID, FEATURES, N_FRAMES
from pipeline.stores.exchange.sources import (
    BLOCK_BYTES,
    FEATURE_NAMES,
    ID_NAMES,
    Cast,
    Content,
    Source,
    choose,
    judge,
)
from pipeline.stores.guard import MAX_TEXT_BYTES, load_json, open_regular, read_file


@dataclass(frozen=True)
class Arrays:
    """Names of the arrays to take, empty for the usual ones; ids where they come from a file of their own."""

    features: str = ""
    ids: str = ""
    names: list[str] | None = None


class DenseSource(Source):
    """One array of features, [clips, frames, channels] or [clips, channels]; read in blocks, in order.

    Args:
        stack: closes the files that are opened here.
    """

    kind: str
    names: list[str] | None
    shape: tuple[int, int, int]
    dtype: np.dtype
    n_frames: np.ndarray | None = None

    def __init__(self, path: Path, cast: Cast, stack: ExitStack) -> None:
        super().__init__(path, cast)
        self._stack = stack

    @abstractmethod
    def block(self, first: int, stop: int) -> np.ndarray:
        """Neighbouring rows as they are, of the shape that the source has."""

    @property
    def hashed(self) -> Path:
        """The file whose SHA-256 says which source this is."""
        return self.path

    def scan(self, listener: Listener) -> Content:
        """See :meth:`Source.scan`."""
        clips, frames, channels = self.shape
        names = self._names()
        if not clips or not frames or not channels:
            raise StoreError(f"{self.path}: features have shape {self.shape}: there is nothing to import.")
        n_frames = np.full(clips, frames) if self.n_frames is None else self.n_frames
        if n_frames.shape != (clips,) or n_frames.min() < 0 or n_frames.max() > frames:
            raise StoreError(f"{self.path}: {N_FRAMES} must be {clips:,} whole numbers from 0 to {frames:,}.")
        self.n_frames, failure, largest = n_frames, [], 0.0
        step, task = max(1, BLOCK_BYTES // (frames * channels * 8)), f"check {self.path.name}"
        listener(TaskStarted(task, clips, "clips"))
        for first in range(0, clips, step):
            rows = np.arange(first, min(first + step, clips))
            for features, n in zip(self.read(rows, frames), n_frames[rows].tolist(), strict=True):
                failure.append(judge(features[:n]))
                largest = max(largest, 0.0 if failure[-1] else float(np.abs(features).max()))
            listener(TaskAdvanced(task, len(rows)))
        listener(TaskFinished(task))
        half, sha256 = self.dtype == np.float16, sha256_of(self.hashed)
        return Content(self.kind, names, n_frames.astype(np.int64), failure, frames, channels, half, largest, sha256)

    def read(self, rows: np.ndarray, frames: int) -> np.ndarray:
        """See :meth:`Source.read`."""
        _, all_frames, channels = self.shape
        if not len(rows):
            return np.zeros((0, frames, channels), np.float32)
        first = int(rows[0])
        values = self.block(first, int(rows[-1]) + 1).reshape(-1, all_frames, channels)[rows - first]
        features = self.cast(values)
        if self.n_frames is not None:
            features[np.arange(all_frames) >= self.n_frames[rows][:, None]] = 0
        return features

    def _names(self) -> list[str]:
        if self.names is None:
            raise StoreError(
                f"{self.path} has no ids that are known by their name ({', '.join(ID_NAMES)}): say which array holds "
                "them, --ids-name NAME, or give a file with one id per line, --ids FILE."
            )
        if len(self.names) != self.shape[0]:
            raise StoreError(f"{self.path}: {len(self.names):,} ids for {self.shape[0]:,} clips.")
        return self.names

    def _take_header(self, header: npy.Header, where: str) -> None:
        npy.require_features(header, where, (2, 3))
        if header.fortran:
            raise StoreError(f"{where} is in Fortran order; save it with numpy.ascontiguousarray first.")
        shape = header.shape
        self.shape = shape if len(shape) == 3 else (shape[0], 1, shape[1])
        self.dtype = header.dtype


class _Streamed(DenseSource):
    """Numbers that follow a header in an open handle."""

    _handle: IO[bytes]
    _offset: int

    def block(self, first: int, stop: int) -> np.ndarray:
        """See :meth:`DenseSource.block`."""
        row_bytes = self.shape[1] * self.shape[2] * self.dtype.itemsize
        start = self._offset + first * row_bytes
        if self._handle.tell() != start:
            self._handle.seek(start)
        content = npy.read_exactly(self._handle, (stop - first) * row_bytes, f"{self.path}: features")
        return np.frombuffer(content, self.dtype)


class NpzSource(_Streamed):
    """One archive of NumPy with an array of features and one of ids, such as OpenMIC-2018's."""

    kind = "npz"

    def __init__(self, path: Path, cast: Cast, stack: ExitStack, arrays: Arrays) -> None:
        super().__init__(path, cast, stack)
        where = str(path)
        archive = self._stack.enter_context(npy.opened_npz(path))
        there = npy.array_names(archive)
        chosen = arrays.features or choose(there, FEATURE_NAMES)
        if not chosen:
            raise StoreError(
                f"{path} has the arrays {npy.listed(there)}: say which holds the features, --features-name."
            )
        self._handle, header = self._stack.enter_context(npy.opened_member(archive, chosen, where))
        self._offset = header.offset
        self._take_header(header, f"{path}: {chosen}")
        id_name = arrays.ids or next((name for name in ID_NAMES if name in there), "")
        self.names = arrays.names
        if arrays.names is None and id_name:
            with npy.opened_member(archive, id_name, where) as (member, about):
                self.names = npy.read_ids(member, about, f"{path}: {id_name}")
        if N_FRAMES in there:
            with npy.opened_member(archive, N_FRAMES, where) as (member, about):
                self.n_frames = whole_numbers(npy.read_all(member, about, where), f"{path}: {N_FRAMES}")


class NpySource(_Streamed):
    """One ``.npy`` of all clips, or the folder that ``east store export --to npy`` writes."""

    kind = "npy"

    def __init__(self, path: Path, cast: Cast, stack: ExitStack, names: list[str] | None) -> None:
        super().__init__(path, cast, stack)
        self._file = path / f"{FEATURES}.npy" if path.is_dir() else path
        self._handle = self._stack.enter_context(open_regular(self._file, follow=True))
        header = npy.read_header(self._handle, str(self._file))
        self._offset = header.offset
        self._take_header(header, str(self._file))
        self.names = names
        if path.is_dir():
            self._read_beside(path)

    @property
    def hashed(self) -> Path:
        """See :attr:`DenseSource.hashed`."""
        return self._file

    def _read_beside(self, folder: Path) -> None:
        if self.names is None:
            found = load_json(read_file(folder / f"{CLIP_ID}.json", MAX_TEXT_BYTES), str(folder / f"{CLIP_ID}.json"))
            if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
                raise StoreError(f"{folder / CLIP_ID}.json is no list of ids.")
            self.names = found
        place = folder / f"{N_FRAMES}.npy"
        if place.is_file():
            with open_regular(place, follow=True) as handle:
                self.n_frames = whole_numbers(
                    npy.read_all(handle, npy.read_header(handle, str(place)), str(place)), str(place)
                )


def whole_numbers(values: np.ndarray, where: str) -> np.ndarray:
    """A list of whole numbers as int64.

    Raises:
        StoreError: something else.
    """
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise StoreError(f"{where} is {values.dtype} of shape {values.shape}, not a list of whole numbers.")
    return values.astype(np.int64)
