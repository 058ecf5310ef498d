"""Lists of clips per split, as people publish them: text, CSV, NumPy or JSON, of paths or of clip ids."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pipeline.datasets.remarks import Remarks
from pipeline.datasets.scan import SPLIT_FOLDERS
from pipeline.errors import ManifestError
from pipeline.manifest.table import Strings, strings
from pipeline.texts import some

__all__ = ["listed_splits", "path_key"]

SPLITS = ("train", "valid", "test")
_SUFFIXES = (".txt", ".csv", ".tsv", ".npy", ".json", ".jsonl")
_PICKLES = (".cp", ".pkl", ".pickle")
_MOST_BYTES = 1 << 28
_PATH_FIELDS = ("mp3_path", "path", "audio_path", "file")


def listed_splits(folder: Path, ids: Sequence[str], paths: Sequence[str], remarks: Remarks) -> Strings:
    """The split of each clip by the lists in ``folder``; empty for clips in none.

    Args:
        ids, paths: of the clips.

    Raises:
        ManifestError: lists that are absent, cannot be read, share clips, or name none of the clips.
    """
    rows = {path_key(path): row for row, path in enumerate(paths)} | {name: row for row, name in enumerate(ids)}
    split = np.full(len(ids), "", dtype=object)
    unknown: list[str] = []
    for name in SPLITS:
        file = _find(folder, name)
        entries = list(_entries(file))
        found = [rows[entry] for entry in entries if entry in rows]
        unknown += [f"{file.name}: {entry}" for entry in entries if entry not in rows]
        if not found:
            raise ManifestError(f"{file} names no clip of the annotations; it begins with {some(entries[:2]) or '-'}.")
        if both := [paths[row] for row in found if split[row] not in ("", name)]:
            raise ManifestError(f"{len(both):,} clips of {file} are in another list, too: {some(both)}.")
        split[found] = name
    remarks.add("listed", "entries of the lists are no clips of the annotations", unknown)
    return strings(split)


def path_key(path: str) -> str:
    """Folder and name of a file, without suffix and case: lists name mp3, wav or npy files.

    >>> path_key("audio/F/one-0-29.MP3"), path_key("f/one-0-29.npy")
    ('f/one-0-29', 'f/one-0-29')
    """
    return PurePosixPath(*PurePosixPath(path.replace("\\", "/")).parts[-2:]).with_suffix("").as_posix().casefold()


def _find(folder: Path, split: str) -> Path:
    """The one list of a split."""
    if not folder.is_dir():
        raise ManifestError(f"There is no folder {folder} of lists. Give it with --set lists=FOLDER.")
    named = sorted(path for path in folder.iterdir() if path.is_file() and _is_list(path, split))
    found = [path for path in named if path.suffix.lower() in _SUFFIXES]
    if len(found) == 1:
        return found[0]
    if found:
        raise ManifestError(f"{folder} has several lists of {split}: {some([path.name for path in found])}; keep one.")
    pickles = [path.name for path in named if path.suffix.lower() in _PICKLES]
    why = f" {some(pickles)} is a pickle, which can run any program and is never loaded." if pickles else ""
    raise ManifestError(
        f"{folder} has no list of {split} clips, such as {split}.npy, {split}.txt or {split}.csv.{why} "
        "Give the folder of the lists with --set lists=FOLDER."
    )


def _is_list(path: Path, split: str) -> bool:
    words = re.split(r"[^a-z0-9]+", path.stem.casefold())
    return words[0] != "y" and split in {SPLIT_FOLDERS.get(word, "") for word in words}


def _entries(path: Path) -> Iterator[str]:
    """What a list names: clip ids, or folder and name of files (see :func:`path_key`)."""
    if path.stat().st_size > _MOST_BYTES:
        raise ManifestError(f"{path} holds more than {_MOST_BYTES:,} bytes; a list of clips does not.")
    try:
        yield from (entry for item in _items(path) if (entry := _entry(item)))
    except (ValueError, OSError, EOFError, RecursionError) as error:
        hint = " An array of Python objects is a pickle, which is never loaded." if path.suffix == ".npy" else ""
        raise ManifestError(f"{path} cannot be read as a list of clips: {error}.{hint}") from None


def _items(path: Path) -> Iterable[Any]:
    kind = path.suffix.lower()
    if kind == ".npy":
        return [str(item) for item in np.load(path, allow_pickle=False).ravel().tolist()]
    lines = path.read_text("utf-8-sig").splitlines()
    if kind not in (".json", ".jsonl"):
        return lines
    if lines and lines[0].lstrip().startswith("["):
        return list(json.loads("\n".join(lines)))
    return [json.loads(line) for line in lines if line.strip()]


def _entry(item: Any) -> str:
    """Of an object its clip id or path; of a line the cell that is a path, else a number."""
    if isinstance(item, dict):
        path = next((str(item[name]) for name in _PATH_FIELDS if item.get(name)), "")
        return str(item["clip_id"]) if "clip_id" in item else path and path_key(path)
    cells = [cell.strip().strip('"') for cell in re.split(r"[\t,]", str(item))]
    path = next((cell for cell in cells if re.search(r"\.[a-z0-9]{2,4}$", cell.casefold())), "")
    return path_key(path) if path else next((cell for cell in cells if cell.isdecimal()), "")
