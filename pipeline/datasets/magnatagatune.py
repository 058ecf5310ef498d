"""The loaders of MagnaTagATune; what it is stands in :mod:`pipeline.datasets.magnatagatune_card`.

::

    magnatagatune/
      annotations_final.csv   tab-separated: clip_id, 188 tags, mp3_path
      clip_info_final.csv     tab-separated: clip_id, ..., artist, ... (if there)
      0/ ... f/               mp3, here or one folder below

A clip's id is its ``clip_id``.  A tag that was not given counts as absent, as all work on it has it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.cards import DatasetCard, Scalar
from pipeline.datasets.magnatagatune_card import CLEAN, FULL
from pipeline.datasets.magnatagatune_lists import listed_splits
from pipeline.datasets.public import card_of, find_root, require_file, summary, usable_audio, whole_groups
from pipeline.datasets.remarks import Remarks
from pipeline.errors import ManifestError, SettingError
from pipeline.events import Listener, Note, ignore
from pipeline.manifest import UNKNOWN, ClipTable
from pipeline.manifest.table import Labels, Strings, strings

__all__ = ["CLIP_S", "build_clean", "build_full", "top_tags"]

CLIP_S = 29.1
ANNOTATIONS, INFO = "annotations_final.csv", "clip_info_final.csv"
_FOLDERS = "0123456789abcdef"
_SPLIT_OF_FOLDER = dict.fromkeys("0123456789ab", "train") | {"c": "valid"} | dict.fromkeys("def", "test")
_Splitter = Callable[["Annotations", Remarks], Strings]


class Annotations(NamedTuple):
    """The rows of the annotations, and the labels of the tags chosen.

    Shape:
        labels: [clips, classes], 1 / 0 / -1.
    """

    ids: Strings
    paths: Strings
    classes: tuple[str, ...]
    labels: Labels


def build_full(
    card: DatasetCard = FULL, folder: Path = Path("magnatagatune"), *, tags: int = 50, listener: Listener = ignore
) -> ClipTable:
    """The clip table by folders: 0 to b train, c valid, d to f test.

    Args:
        tags: how many tags are classes, those with most clips.

    Raises:
        ManifestError: files that are needed are not there or cannot be read.
        SettingError: a number of tags that cannot be.
    """
    return _build(card, folder, _by_folder, {"tags": tags}, listener)


def build_clean(
    card: DatasetCard = CLEAN,
    folder: Path = Path("magnatagatune"),
    *,
    tags: int = 50,
    lists: str = "",
    listener: Listener = ignore,
) -> ClipTable:
    """The clip table by published lists, which hold only clips with at least one of the 50 tags.

    Args:
        tags: as for :func:`build_full`.
        lists: folder of the lists; empty looks in ``folder``.

    Raises:
        ManifestError: files that are needed are not there or cannot be read.
        SettingError: a number of tags that cannot be.
    """

    def split(found: Annotations, remarks: Remarks) -> Strings:
        place = Path(lists) if lists else find_root(card, folder, (ANNOTATIONS,))
        splits = listed_splits(place, found.ids.tolist(), found.paths.tolist(), remarks)
        bare = (splits != "") & ~(found.labels == 1).any(axis=1)
        remarks.add("untagged", "clips of the lists have none of the tags, and are kept", found.paths[bare].tolist())
        return splits

    return _build(card, folder, split, {"tags": tags, "lists": Path(lists).name}, listener)


def _build(
    card: DatasetCard, folder: Path, splitter: _Splitter, chosen: dict[str, Scalar], listener: Listener
) -> ClipTable:
    root = find_root(card, folder, (ANNOTATIONS,))
    remarks = Remarks(card.name, listener)
    found = _read_annotations(root / ANNOTATIONS, int(chosen["tags"] or 0), remarks)
    if set(found.classes) != set(card.classes):
        listener(Note(f"{card.name}: the {len(found.classes)} most frequent tags here are not the 50 published ones."))
    split = splitter(found, remarks)
    used = split != ""
    found, split = Annotations(found.ids[used], found.paths[used], found.classes, found.labels[used]), split[used]
    audio = _audio_root(root)
    path, usable = usable_audio(audio, found.paths, remarks)
    table = ClipTable(
        name=card.name,
        root=str(audio),
        classes=found.classes,
        task=card.task,
        clip_s=CLIP_S,
        clip_id=found.ids,
        path=path,
        split=split,
        group=whole_groups(_groups(root, found, remarks), split, remarks, "artists"),
        start_s=np.zeros(len(path)),
        duration_s=np.full(len(path), CLIP_S),
        labels=found.labels,
        card=card_of(card, chosen, remarks, split=card.split_rule.split()[0], left_out=int((~used).sum())),
    ).select(usable)
    listener(summary(table))
    return table


def top_tags(names: list[str], labels: Labels, n: int) -> tuple[tuple[str, ...], Labels]:
    """The ``n`` tags with most clips, most frequent first, ties in the order of the columns.

    Shape:
        labels: [clips, names].
    """
    order = np.argsort(-(labels == 1).sum(axis=0), kind="stable")[:n]
    return tuple(names[column] for column in order), np.ascontiguousarray(labels[:, order])


def _read_annotations(path: Path, n_tags: int, remarks: Remarks) -> Annotations:
    header, rows = _read_sheet(path)
    if header[:1] != ["clip_id"] or "mp3_path" not in header:
        raise ManifestError(f"{path} begins with the columns {header[:3]}, expected clip_id, tags, mp3_path.")
    places = [column for column, name in enumerate(header) if name not in ("clip_id", "mp3_path")]
    if not 1 <= n_tags <= len(places):
        raise SettingError(f"tags is {n_tags}, and {path} has {len(places)} tags: ask for 1 to {len(places)}.")
    cells = np.array([[row[column][:2] for column in places] for row in rows])
    labels = np.where(cells == "1", 1, np.where(cells == "0", 0, UNKNOWN)).astype(np.int8)
    where, paths = header.index("mp3_path"), [row[0] for row in rows]
    odd = [f"clip {paths[row]}, {header[places[column]]}" for row, column in np.argwhere(labels == UNKNOWN).tolist()]
    remarks.add("cells", "cells are neither 0 nor 1 and count as unknown", odd)
    classes, chosen = top_tags([header[column].strip() for column in places], labels, n_tags)
    return Annotations(
        strings(row[0].strip() for row in rows), strings(row[where].strip() for row in rows), classes, chosen
    )


def _read_sheet(path: Path, *, strict: bool = True) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table with quotes, separated by tabs or by commas.

    Args:
        strict: refuse bytes that are not UTF-8, and quotes that do not end.

    Raises:
        ManifestError: not UTF-8, empty, or rows of another length than the header.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="strict" if strict else "replace", newline="") as handle:
            delimiter = "\t" if "\t" in handle.readline() else ","
            handle.seek(0)
            header, *rows = list(csv.reader(handle, delimiter=delimiter, strict=strict))
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise ManifestError(f"{path} cannot be read as a table: {error}. Fetch it again.") from None
    rows = [row for row in rows if row]
    if ragged := [number for number, row in enumerate(rows, 2) if len(row) != len(header)]:
        raise ManifestError(
            f"{path}: {len(ragged):,} rows do not have the {len(header)} cells of line 1, the first near line "
            f"{ragged[0]}. Cut short? Fetch it again."
        )
    if not rows:
        raise ManifestError(f"{path} has no rows. Fetch it again.")
    return header, rows


def _by_folder(found: Annotations, remarks: Remarks) -> Strings:
    split = strings(_SPLIT_OF_FOLDER.get(path.split("/")[0].casefold(), "") for path in found.paths)
    remarks.add("folder", "clips lie in no folder 0 to f and are left out", found.paths[split == ""].tolist())
    return split


def _audio_root(root: Path) -> Path:
    """Where the folders 0 to f are: the folder itself or one below."""
    places = (root, *sorted(path for path in root.iterdir() if path.is_dir() and len(path.name) > 1))
    return next((place for place in places if any((place / name).is_dir() for name in _FOLDERS)), root)


def _groups(root: Path, found: Annotations, remarks: Remarks) -> Strings:
    """Artist of each clip by the table of clips; without it the track, which its file's name begins with."""
    artists: dict[str, str] = {}
    if (root / INFO).is_file():
        header, rows = _read_sheet(require_file(root / INFO, "it names the artists."), strict=False)
        if {"clip_id", "artist"} <= set(header):
            key, artist = header.index("clip_id"), header.index("artist")
            artists = {row[key].strip(): row[artist].strip() for row in rows}
    unknown = [path for key, path in zip(found.ids, found.paths, strict=True) if not artists.get(key)]
    remarks.add("artist", f"clips have no artist in {INFO}; their track stands for it", unknown)
    return strings(
        f"artist {artists[key]}" if artists.get(key) else f"track {path.rsplit('-', 2)[0]}"
        for key, path in zip(found.ids, found.paths, strict=True)
    )
