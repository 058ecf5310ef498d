"""What loaders of public datasets share: their folder, their audio as it is on the disk, their splits."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.cards import DatasetCard, Scalar
from pipeline.datasets.remarks import Remarks
from pipeline.datasets.scan import audio_files
from pipeline.datasets.splits import deal_splits
from pipeline.errors import ManifestError, SettingError
from pipeline.events import Note
from pipeline.manifest import ClipTable
from pipeline.manifest.table import Strings, encode, strings
from pipeline.texts import some

__all__ = ["card_of", "find_root", "hold_out", "require_file", "summary", "usable_audio", "whole_groups"]

VALID = "valid"


def find_root(card: DatasetCard, folder: Path, marks: Sequence[str]) -> Path:
    """The folder that holds one of ``marks``: the one given, or one folder below it.

    Raises:
        ManifestError: there is none; the layout is named.
    """
    if not folder.is_dir():
        raise ManifestError(f"There is no folder {folder}. Give the one that {card.name} was unpacked to.")
    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        if any((place / mark).exists() for mark in marks):
            return place
    raise ManifestError(
        f"{folder} is not {card.name}: it holds none of {', '.join(marks)}, nor does a folder in it. "
        f"Get the dataset from {card.source} and give the folder it was unpacked to."
    )


def require_file(path: Path, why: str) -> Path:
    """The path, if there is a file.

    Raises:
        ManifestError: there is none, with what it is needed for.
    """
    if not path.is_file():
        raise ManifestError(f"{path} is not there: {why} Unpack the dataset again, or fetch this file.")
    return path


def usable_audio(audio: Path, wanted: Strings, remarks: Remarks) -> tuple[Strings, NDArray[np.bool_]]:
    """Where each file is below ``audio``, and whether there is one with anything in it.

    Files are found whatever the case and Unicode form of their names.  What is absent or has zero
    bytes is remarked upon.

    Returns:
        paths as on the disk, or as wanted where absent: [files]; usable: [files], bool.

    Raises:
        ManifestError: no file at all is there.
    """
    there = {_key(path): path for path in audio_files(audio)} if audio.is_dir() else {}
    found = [there.get(_key(path), "") for path in wanted]
    absent = [path for path, file in zip(wanted, found, strict=True) if not file]
    if len(absent) == len(wanted):
        raise ManifestError(
            f"None of the {len(wanted):,} audio files of {remarks.dataset} is below {audio}, "
            f"such as {some(absent[:1])}. Unpack the audio there."
        )
    empty = [file for file in found if file and not (audio / file).stat().st_size]
    remarks.add("absent", f"audio files are not below {audio.name} and are left out", absent)
    remarks.add("empty", "audio files have zero bytes and are left out", empty)
    odd = [file for path, file in zip(wanted, found, strict=True) if file and file != path]
    remarks.add("renamed", "audio files have names in other letters than the dataset's own, and are taken", odd)
    paths = strings(file or path for path, file in zip(wanted, found, strict=True))
    return paths, np.array([bool(file) for file in found]) & ~np.isin(paths, empty)


def whole_groups(group: Strings, split: Strings, remarks: Remarks, what: str) -> Strings:
    """Groups, of which those that the dataset's own split tears count as one per split, and are remarked upon."""
    groups, codes = encode(group)
    kinds, kind_codes = encode(split)
    pairs = np.unique(np.stack([codes, kind_codes]), axis=1)
    torn = np.bincount(pairs[0], minlength=len(groups)) > 1
    remarks.add(
        "torn", f"{what} have clips in several splits of the dataset's own, which are kept", groups[torn].tolist()
    )
    return strings(
        f"{name} ({kinds[kind]})" if torn[code] else name
        for name, code, kind in zip(group, codes, kind_codes, strict=True)
    )


def hold_out(split: Strings, group: Strings, share: float, seed: int) -> Strings:
    """The splits, with a share of the groups of train moved to valid.

    Raises:
        SettingError: a share below 0, or of 1 and more.
    """
    if not 0 <= share < 1:
        raise SettingError(f"The share of validation clips is {share}; it lies from 0 (none) to below 1.")
    train = split == "train"
    if not share or not train.any():
        return split
    stratum = np.zeros(int(train.sum()), np.int64)
    dealt = split.copy()
    dealt[train] = deal_splits(group[train], stratum, ratios={"train": 1 - share, VALID: share}, seed=seed)
    return dealt


def card_of(card: DatasetCard, chosen: Mapping[str, Scalar], remarks: Remarks, **facts: Any) -> dict[str, Any]:
    """The card as a clip table keeps it, with the options chosen and what was odd."""
    plain = {key: value for key, value in asdict(card).items() if key not in ("builder", "options")}
    plain |= {"classes": list(card.classes), "checksums": dict(card.checksums)}
    return plain | {"build": dict(chosen), "remarks": remarks.found} | facts


def summary(table: ClipTable) -> Note:
    """Clips by split, and how many labels are known."""
    counts = ", ".join(f"{int((table.split == name).sum()):,} {name}" for name in table.splits())
    known = int((table.labels >= 0).sum())
    return Note(
        f"{table.name}: {len(table):,} clips ({counts}), {len(table.classes)} classes, "
        f"{known:,} of {table.labels.size:,} labels known"
    )


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()
