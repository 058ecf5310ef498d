"""Embeddings made elsewhere, whatever they lie in, as rows of features."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.errors import StoreError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted
from pipeline.files import sha256_of
from pipeline.stores.exchange import npy
from pipeline.stores.exchange.numpy_files import INDEX
from pipeline.stores.guard import MAX_DOCUMENT_BYTES, MAX_FILES, load_json, open_regular, read_file
from pipeline.stores.schema import MAX_CLIP_BYTES

FEATURE_NAMES = ("features", "X", "embeddings", "embedding", "arr_0")
ID_NAMES = ("clip_id", "sample_key", "ids", "keys")
BLOCK_BYTES = 1 << 25


@dataclass(frozen=True)
class Cast:
    """Numbers as they are stored: ``scale * number + shift`` in float32."""

    scale: float = 1.0
    shift: float = 0.0

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """float32 of the same shape; what float32 cannot hold becomes infinite."""
        with np.errstate(over="ignore", invalid="ignore"):
            if (self.scale, self.shift) != (1.0, 0.0):
                values = values.astype(np.float64) * self.scale + self.shift
            return values.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Content:
    """What one reading of a source found.

    Attributes:
        kind: what it is, in words.
        names: [clips] names, from which ids are made.
        n_frames: [clips] int64, valid frames.
        failure: [clips] texts, empty where a clip is good.
        frames, channels: of the largest clip.
        half: whether the numbers come in float16.
        largest: greatest magnitude as stored.
        sha256: of the file, or of all files' names and digests.
        n_files: how many there are.
    """

    kind: str
    names: list[str]
    n_frames: np.ndarray
    failure: list[str]
    frames: int
    channels: int
    half: bool
    largest: float
    sha256: str
    n_files: int = 1


class Source(ABC):
    """A source; ``scan`` reads it once, ``read`` gives rows after that."""

    def __init__(self, path: Path, cast: Cast) -> None:
        self.path, self.cast = path, cast

    @abstractmethod
    def scan(self, listener: Listener) -> Content:
        """Read and check everything once.

        Raises:
            StoreError: what is wrong, naming the file or the array.
        """

    @abstractmethod
    def read(self, rows: np.ndarray, frames: int) -> np.ndarray:
        """Rows in ascending order: [rows, frames, channels] float32, zero beyond the valid frames."""


class FolderSource(Source):
    """A folder with one ``.npy`` or ``.npz`` per clip, [frames, channels] or [channels]; the name is the clip's."""

    def __init__(self, path: Path, cast: Cast, features: str = "") -> None:
        super().__init__(path, cast)
        self._features = features
        self._files, self._names = _list_files(path)
        self._channels = 0

    def scan(self, listener: Listener) -> Content:
        """See :meth:`Source.scan`."""
        digest, half, largest, task = hashlib.sha256(), True, 0.0, f"check {self.path.name}"
        n_frames, failure = np.zeros(len(self._files), np.int64), []
        listener(TaskStarted(task, len(self._files), "clips"))
        for row, file in enumerate(self._files):
            values = self._load(file)
            digest.update(f"{self._names[row]}\0{sha256_of(file)}\n".encode())
            self._require_channels(values, file)
            half = half and values.dtype == np.float16
            found = self.cast(values)
            n_frames[row] = len(found)
            failure.append(judge(found))
            largest = max(largest, 0.0 if failure[-1] else float(np.abs(found).max()))
            listener(TaskAdvanced(task, 1))
        listener(TaskFinished(task))
        kind, frames = f"folder of {self._files[0].suffix}", int(n_frames.max())
        return Content(
            kind, self._names, n_frames, failure, frames, self._channels, half, largest, digest.hexdigest(),
            len(self._files),
        )  # fmt: skip

    def read(self, rows: np.ndarray, frames: int) -> np.ndarray:
        """See :meth:`Source.read`."""
        out = np.zeros((len(rows), frames, self._channels), np.float32)
        for place, row in enumerate(rows.tolist()):
            values = self._load(self._files[row])
            self._require_channels(values, self._files[row])
            out[place, : len(values)] = self.cast(values[:frames])
        return out

    def _require_channels(self, values: np.ndarray, file: Path) -> None:
        self._channels = self._channels or values.shape[1]
        if values.shape[1] != self._channels or not self._channels:
            raise StoreError(
                f"{file} has {values.shape[1]:,} channels, {self._files[0].name} has {self._channels:,}. All clips of "
                "a store have as many: take the odd ones out of the folder."
            )

    def _load(self, file: Path) -> np.ndarray:
        """One clip, [frames, channels]."""
        if file.suffix == ".npy":
            with open_regular(file, follow=True) as handle:
                return _clip(handle, npy.read_header(handle, str(file)), str(file))
        with npy.opened_npz(file) as archive:
            name = self._features or _only(npy.array_names(archive), FEATURE_NAMES, str(file))
            with npy.opened_member(archive, name, str(file)) as (member, header):
                return _clip(member, header, f"{file}: {name}")


def _clip(handle: IO[bytes], header: npy.Header, where: str) -> np.ndarray:
    npy.require_features(header, where, (1, 2))
    values = npy.read_all(handle, header, where, MAX_CLIP_BYTES)
    return values[None] if values.ndim == 1 else values


def judge(features: np.ndarray) -> str:
    """Why a clip cannot be used, empty where it can.

    Shape:
        features: [frames, channels]
    """
    if not features.size:
        return "empty: no frames"
    bad = features.size - int(np.isfinite(features).sum())
    return f"values: {bad:,} of {features.size:,} numbers are not finite" if bad else ""


def choose(names: Sequence[str], usual: Sequence[str]) -> str:
    """The first usual name that is there, else the only name there is, else empty."""
    found = next((name for name in usual if name in names), "")
    return found or (names[0] if len(names) == 1 else "")


def _only(names: list[str], usual: Sequence[str], where: str) -> str:
    if name := choose(names, usual):
        return name
    raise StoreError(f"{where} has the arrays {npy.listed(names)}: say which holds the features, --features-name NAME.")


def _list_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Files of clips and their names: by ``index.json``, else the path below the folder without its suffix."""
    if (folder / INDEX).is_file():
        return _indexed(folder)
    found: dict[str, list[Path]] = {
        suffix: sorted(file for file in folder.rglob(f"*{suffix}") if file.is_file()) for suffix in (".npy", ".npz")
    }
    files = found[".npy"] or found[".npz"]
    if not files or (found[".npy"] and found[".npz"]):
        what = "both .npy and .npz files" if files else "no .npy or .npz file"
        raise StoreError(f"{folder} holds {what}; one kind is expected, a file per clip, named by the clip.")
    if len(files) > MAX_FILES:
        raise StoreError(f"{folder} holds {len(files):,} files, at most {MAX_FILES:,} are read: make one archive.")
    names = [file.relative_to(folder).with_suffix("").as_posix() for file in files]
    return files, [unicodedata.normalize("NFC", name) for name in names]


def _indexed(folder: Path) -> tuple[list[Path], list[str]]:
    index = load_json(read_file(folder / INDEX, MAX_DOCUMENT_BYTES * 16), str(folder / INDEX))
    table = index.get("files") if isinstance(index, dict) else None
    if not isinstance(table, dict) or not table or not all(isinstance(item, str) for item in table.values()):
        raise StoreError(f"{folder / INDEX} does not list files and their clips (files: name to id).")
    if odd := [name for name in table if "/" in name or "\\" in name or not name.endswith(".npy")]:
        raise StoreError(f"{folder / INDEX}: {json.dumps(odd[0])[:80]} is not the name of a .npy file in the folder.")
    return [folder / name for name in table], list(table.values())
