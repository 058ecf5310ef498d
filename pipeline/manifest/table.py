"""The clip table itself: columns as arrays, selection, digest, scores per file."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import ManifestError

Task = Literal["multi-label", "single-label"]
Strings = NDArray[np.object_]
Floats = NDArray[np.float64]
Labels = NDArray[np.int8]

UNKNOWN = -1
#: Splits with a meaning of their own; others begin with ``valid`` or ``test``.
TRAIN, VALID, UNLABELLED = "train", "valid", "unlabelled"
STRING_COLUMNS = ("clip_id", "path", "split", "group")
FLOAT_COLUMNS = ("start_s", "duration_s")


@dataclass(frozen=True, eq=False)
class ClipTable:
    """Clips, one per row.

    Attributes:
        name: name of the dataset.
        root: where ``path`` starts from: a folder, or an address such as ``s3://bucket/audio``.
        classes: names of the label columns, in order; empty for audio without labels.
        task: whether several classes may be present at once.
        clip_s: greatest length of a clip in seconds, the one clip length of its stores.
        clip_id: unique key of each clip; stores and labels are joined by it.
        path: POSIX path of the file below ``root``, as it is on the disk.
        split: ``""`` where there is none; usually train, valid, test, and further test sets
            whose names begin with ``test``.
        group: what must stay within one split: a song, an artist, a work.
        start_s: where the clip begins in its file, in seconds.
        duration_s: how much of the file it covers, in seconds, at most ``clip_s``.
        labels: int8 [clips, classes]: 1 present, 0 absent, -1 unknown.
        card: what the dataset is: licence, citation, source, split rule.

    Raises:
        ManifestError: columns of different lengths.
    """

    name: str
    root: str
    classes: tuple[str, ...]
    task: Task
    clip_s: float
    clip_id: Strings
    path: Strings
    split: Strings
    group: Strings
    start_s: Floats
    duration_s: Floats
    labels: Labels
    card: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n_clips = len(self.clip_id)
        for name in (*STRING_COLUMNS, *FLOAT_COLUMNS):
            if getattr(self, name).shape != (n_clips,):
                raise ManifestError(f"Column {name} has shape {getattr(self, name).shape}, clip_id has {n_clips} rows.")
        if self.labels.shape != (n_clips, len(self.classes)):
            raise ManifestError(
                f"Labels have shape {self.labels.shape}, but there are {n_clips} clips and {len(self.classes)} classes."
            )

    def __len__(self) -> int:
        return len(self.clip_id)

    def select(self, rows: NDArray[Any]) -> ClipTable:
        """The clips a mask or an array of row numbers picks, in that order."""
        columns = {name: getattr(self, name)[rows] for name in (*STRING_COLUMNS, *FLOAT_COLUMNS, "labels")}
        return replace(self, **columns)

    def splits(self) -> tuple[str, ...]:
        """Names of the splits: train, valid, test first, then the others by name; no ``""``."""
        usual = {"train": 0, "valid": 1, "test": 2}
        return tuple(sorted(set(self.split) - {""}, key=lambda name: (usual.get(name, 3), name)))

    def labelled(self) -> NDArray[np.bool_]:
        """Mask of the clips with at least one known label."""
        return np.asarray((self.labels != UNKNOWN).any(axis=1))

    def digest(self) -> str:
        """SHA-256 over classes, task, clip length and all columns; not over the root."""
        head = json.dumps([list(self.classes), self.task, self.clip_s], ensure_ascii=False)
        digest = hashlib.sha256(head.encode())
        for name in STRING_COLUMNS:
            digest.update(_joined(getattr(self, name)))
        for name in FLOAT_COLUMNS:
            digest.update(getattr(self, name).astype("<f8").tobytes())
        digest.update(np.ascontiguousarray(self.labels).tobytes())
        return digest.hexdigest()

    def audio_path(self, row: int) -> Path | str:
        """Where the audio of a row is: a path, or an address where the root is one."""
        if is_url(self.root):
            return f"{self.root.rstrip('/')}/{self.path[row]}"
        return Path(self.root) / str(self.path[row])


def clip_id(path: str, start_s: float) -> str:
    """Key of a clip: its path below the root in Unicode NFC, ``@``, and its start in ms.

    >>> clip_id("rock/one.wav", 10.0)
    'rock/one.wav@10000'
    """
    return f"{unicodedata.normalize('NFC', path)}@{round(start_s * 1000)}"


def is_url(root: str) -> bool:
    """Whether a root is an address rather than a folder."""
    return "://" in root


def by_file(table: ClipTable, scores: NDArray[Any]) -> tuple[Strings, Floats, Labels]:
    """Mean of the clip scores of each file.

    Args:
        scores: [clips, classes], in the order of the table.

    Returns:
        paths [files] in order of first appearance, scores [files, classes], and labels
        [files, classes]: 1 where any clip has the class, else 0 where any clip is known, else -1.
    """
    paths, codes = encode(table.path)
    sums = np.zeros((len(paths), scores.shape[1]))
    np.add.at(sums, codes, scores)
    labels = np.full((len(paths), table.labels.shape[1]), UNKNOWN, dtype=np.int8)
    np.maximum.at(labels, codes, table.labels)
    return paths, sums / np.bincount(codes, minlength=len(paths))[:, None], labels


def encode(values: Strings) -> tuple[Strings, NDArray[np.int64]]:
    """Distinct strings in order of first appearance, and the number of each row's string."""
    encoded = pa.array(values, type=pa.large_string()).dictionary_encode()
    distinct = np.asarray(encoded.dictionary.to_pylist(), dtype=object)
    return distinct, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)


def strings(values: Iterable[str]) -> Strings:
    """An object array of strings."""
    return np.array([*values, None], dtype=object)[:-1]


def _joined(values: Strings) -> bytes:
    return ("\0".join(values.tolist()) + "\0\0").encode("utf-8", "surrogatepass")
