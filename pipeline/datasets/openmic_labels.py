"""OpenMIC-2018's labels, from the table of aggregated answers and from the archive of arrays.

Relevance above 0.5 is a positive, below 0.5 a negative; no answer, or exactly 0.5, is unknown.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.remarks import Remarks
from pipeline.errors import ManifestError
from pipeline.manifest import UNKNOWN
from pipeline.manifest.table import Labels, encode, strings
from pipeline.manifest.tablefiles import parse_floats, read_columns
from pipeline.texts import some

__all__ = ["Known", "class_columns", "from_csv", "from_npz", "require_same"]

_HALF = 0.5
_MOST_BYTES = 1 << 28
_WORDS = {1: "present", 0: "absent", UNKNOWN: "unknown"}


@dataclass(frozen=True, eq=False)
class Known:
    """Labels by clip.

    Shape:
        labels: [keys, classes], 1 / 0 / -1.

    Attributes:
        source: the file they are from.
        keys_from: the file the keys are from, where it is another one.
    """

    source: str
    keys: list[str]
    labels: Labels
    keys_from: str = ""


def class_columns(root: Path, classes: Sequence[str]) -> list[int]:
    """Column of each class in the archive, by ``class-map.json``; alphabetical where there is none.

    Raises:
        ManifestError: a class map that is not one, or of other classes.
    """
    path = root / "class-map.json"
    if not path.is_file():
        return list(range(len(classes)))
    try:
        found = {_name(key): int(column) for key, column in json.loads(path.read_bytes()).items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestError(f"{path} does not map names to columns ({error}). Unpack the dataset again.") from None
    if set(found) != set(classes) or sorted(found.values()) != list(range(len(classes))):
        odd = sorted(set(found) ^ set(classes)) or [str(column) for column in found.values()]
        raise ManifestError(f"{path} does not name OpenMIC-2018's 20 classes in columns 0 to 19: {some(odd)}.")
    return [found[name] for name in classes]


def from_csv(path: Path, classes: Sequence[str], remarks: Remarks) -> Known:
    """Labels of ``sample_key, instrument, relevance, num_responses``, a row per answer.

    Raises:
        ManifestError: columns that are absent, or a relevance that is no number.
    """
    cells = read_columns(path)
    if absent := {"sample_key", "instrument", "relevance"} - set(cells):
        raise ManifestError(f"{path} lacks the columns {', '.join(sorted(absent))}; is it the file of OpenMIC-2018?")
    keys, rows = encode(strings(map(str.strip, cells["sample_key"])))
    places = {name: column for column, name in enumerate(classes)}
    columns = np.array([places.get(_name(name), -1) for name in cells["instrument"]], np.int64)
    remarks.add("instruments", "answers name none of the 20 instruments", sorted(set(cells["instrument"][columns < 0])))
    values = parse_floats(path, "relevance", cells["relevance"])
    answer = _answers(values)
    names = [f"{key} {name}" for key, name in zip(keys[rows], cells["instrument"], strict=True)]
    odd = ~((values >= 0) & (values <= 1))
    remarks.add("relevance", "answers have no relevance from 0 to 1 and count as unknown", _at(names, odd))
    remarks.add("undecided", "answers have a relevance of 0.5 and count as unknown", _at(names, values == _HALF))
    labels = np.full((len(keys), len(classes)), UNKNOWN, np.int8)
    labels[rows[columns >= 0], columns[columns >= 0]] = answer[columns >= 0]
    told_otherwise = (columns >= 0) & (labels[rows, columns] != answer)
    remarks.add("twice", "answers contradict an earlier one and count as unknown", _at(names, told_otherwise))
    labels[rows[told_otherwise], columns[told_otherwise]] = UNKNOWN
    return Known(path.name, keys.tolist(), labels)


def from_npz(path: Path, columns: Sequence[int], keys: Sequence[str] | None) -> Known:
    """Labels of ``Y_true`` and ``Y_mask``; nothing is unpickled.

    The official archive keeps ``sample_key`` as Python objects, which only a pickle can hold.  Its
    rows lie in the order of the sorted keys, so the keys are taken from the table of answers.

    Args:
        columns: where each class is.
        keys: those of the table of answers, or None where there is none.

    Raises:
        ManifestError: an archive that is damaged or another one, or keys that cannot be had.
    """
    true, mask, own = _read_arrays(path)
    shape = (len(true), len(columns))
    if true.shape != shape or mask.shape != shape or true.dtype.kind not in "fiu" or mask.dtype.kind not in "biu":
        raise ManifestError(
            f"{path}: Y_true is {true.dtype} {true.shape} and Y_mask {mask.dtype} {mask.shape}, expected numbers and "
            f"a mask [clips, {len(columns)}]."
        )
    if own is None and keys is None:
        raise ManifestError(
            f"{path} keeps sample_key as Python objects, that is a pickle, which is never loaded. The keys stand in "
            "openmic-2018-aggregated-labels.csv, too: put it beside the archive."
        )
    found = sorted(set(keys or ())) if own is None else own
    if len(found) != len(true):
        raise ManifestError(
            f"{path} has {len(true):,} rows, and there are {len(found):,} keys for them. Are archive and table of "
            "the same version? Without the archive: --set labels=csv."
        )
    labels = np.where(mask.astype(bool), _answers(true.astype(np.float64)), np.int8(UNKNOWN))
    return Known(path.name, found, labels[:, list(columns)], "" if own is not None else "the table of answers")


def require_same(one: Known, other: Known, classes: Sequence[str]) -> None:
    """Both tell the same of the same clips.

    Raises:
        ManifestError: clips that only one has, or labels that differ; the first few are named.
    """
    apart = sorted(set(one.keys) ^ set(other.keys))
    if apart:
        raise ManifestError(
            f"{one.source} and {other.source} do not name the same clips; {len(apart):,} are in one alone: "
            f"{some(apart)}. {_CHOOSE}"
        )
    where = {key: row for row, key in enumerate(other.keys)}
    theirs = other.labels[[where[key] for key in one.keys]]
    rows, columns = np.nonzero(one.labels != theirs)
    if len(rows):
        told = [
            f"{one.keys[row]} {classes[column]} ({_WORDS[int(one.labels[row, column])]} / "
            f"{_WORDS[int(theirs[row, column])]})"
            for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        ]
        raise ManifestError(f"{one.source} and {other.source} differ in {len(rows):,} labels: {some(told)}. {_CHOOSE}")


_CHOOSE = "Unpack the dataset again, or say which to believe: --set labels=csv or --set labels=npz."


def _read_arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any], list[str] | None]:
    try:
        with zipfile.ZipFile(path) as archive:
            large = [i.filename for i in archive.infolist() if i.filename[:2] != "X." and i.file_size > _MOST_BYTES]
        if large:
            raise ValueError(f"{large[0]} is larger than {_MOST_BYTES:,} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            true, mask = arrays["Y_true"], arrays["Y_mask"]
            keys = _read_keys(arrays)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ManifestError(
            f"{path} is not OpenMIC-2018's archive, or damaged: {error}. Unpack it again, or: --set labels=csv."
        ) from None
    return true, mask, keys


def _read_keys(arrays: Any) -> list[str] | None:
    try:
        keys = arrays["sample_key"]
    except ValueError:  # Python objects
        return None
    return [key.decode() if isinstance(key, bytes) else str(key) for key in keys.tolist()]


def _answers(relevance: NDArray[np.float64]) -> Labels:
    known = (relevance >= 0) & (relevance <= 1) & (relevance != _HALF)
    return np.where(known, (relevance > _HALF).astype(np.int8), np.int8(UNKNOWN))


def _at(names: list[str], rows: NDArray[np.bool_]) -> list[str]:
    return [names[row] for row in np.flatnonzero(rows).tolist()]


def _name(instrument: str) -> str:
    """The errata of the dataset write ``mallet percussion``."""
    return "_".join(instrument.strip().casefold().split())
