"""What is there before anything is decoded: audio files, their labels, splits and groups.

Three layouts are read: a folder per class, a folder without labels, and a CSV.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pipeline.errors import ManifestError
from pipeline.events import Listener, Warned, ignore
from pipeline.manifest.table import UNKNOWN, Floats, Labels, Strings, Task, encode, strings
from pipeline.manifest.tablefiles import parse_floats, parse_labels, read_columns

__all__ = ["AUDIO_SUFFIXES", "SPLIT_FOLDERS", "Files", "audio_files", "fingerprint", "scan"]

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".aif", ".aiff")
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
    "unlabelled": "unlabelled",
    "unlabeled": "unlabelled",
}
_NOT_CLASSES = ("path", "label", "split", "group", "start", "duration", "start_s", "duration_s")


@dataclass(frozen=True, eq=False)
class Files:
    """Segments of audio files, one per row; NaN where start or duration is not given.

    Shape:
        labels: [files, classes], 1 / 0 / -1 (unknown).
    """

    root: Path
    classes: tuple[str, ...]
    task: Task
    path: Strings
    split: Strings
    group: Strings
    start_s: Floats
    duration_s: Floats
    labels: Labels


def scan(source: Path, *, listener: Listener = ignore) -> Files:
    """Read a folder of audio or a CSV; the audio is not opened.

    A folder counts as classes only if every audio file lies in a subfolder, and they lie in two
    subfolders at least.  Subfolders named train, valid, test and unlabelled (all of them) are splits,
    with the classes below; what lies below unlabelled has none.  A CSV has the column ``path`` (below
    the CSV's folder, or absolute), and may have ``label`` or one column per class (1, 0 or empty),
    ``split``, ``start``, ``duration``, ``group``.

    Raises:
        ManifestError: nothing there, no audio below the folder, or a CSV that cannot be understood.
    """
    if source.is_dir():
        return _scan_folder(source, listener)
    if source.is_file() and source.suffix.lower() == ".csv":
        return _scan_csv(source)
    if source.is_file():
        raise ManifestError(f"{source} is a file; give the folder that holds the audio, or a CSV with a column 'path'.")
    raise ManifestError(f"There is no folder or CSV at {source}. Check the spelling and where you are: {Path.cwd()}")


def fingerprint(source: Path) -> str:
    """SHA-256 of what a scan depends on: the CSV's bytes, or names and sizes of the audio files."""
    digest = hashlib.sha256()
    if source.is_file():
        digest.update(source.read_bytes())
    else:
        for path in sorted(audio_files(source), key=os.fsencode):
            digest.update(os.fsencode(path) + b"\0%d\0" % _size(source / path))
    return digest.hexdigest()


def _scan_folder(source: Path, listener: Listener) -> Files:
    found = list(audio_files(source))
    paths = sorted(path for path in found if _is_text(path))
    if len(paths) < len(found):
        bad = [os.fsencode(path) for path in found if not _is_text(path)]
        text = f"{len(bad)} files have names that are not UTF-8 and are left out, such as {bad[0]!r}; rename them."
        listener(Warned(text))
    if not paths:
        raise ManifestError(f"{source} holds no audio files ({' '.join(name[1:] for name in AUDIO_SUFFIXES)}).")
    parts = [PurePosixPath(path).parts for path in paths]
    split = [""] * len(paths)
    if _are_splits({part[0] for part in parts if len(part) > 1}) and all(len(part) > 1 for part in parts):
        split = [SPLIT_FOLDERS[part[0].casefold()] for part in parts]
        parts = [part[1:] for part in parts]
    names = [unicodedata.normalize("NFC", part[0]) if len(part) > 1 else "" for part in parts]
    names = ["" if kind == "unlabelled" else name for name, kind in zip(names, split, strict=True)]
    classes = tuple(sorted({name for name, kind in zip(names, split, strict=True) if kind != "unlabelled"}))
    if "" in classes or len(classes) < 2:
        classes = ()
    files = _blank(source, strings(paths), split=strings(split))
    return replace(
        files, classes=classes, task="single-label" if classes else "multi-label", labels=_one_hot(names, classes)
    )


def _scan_csv(source: Path) -> Files:
    cells = read_columns(source)
    if "path" not in cells:
        raise ManifestError(f"{source} has no column 'path', only {', '.join(map(repr, cells))}. Rename it in line 1.")
    root, paths = _root_and_paths(source, cells["path"])
    files = _blank(root, paths, split=_splits(cells["split"]) if "split" in cells else None)
    changes: dict[str, Any] = {}
    if "group" in cells:
        changes["group"] = np.where(cells["group"] == "", paths, cells["group"])
    for name in ("start", "duration"):
        title = name if name in cells else f"{name}_s"
        if title in cells:
            given = np.where(cells[title] == "", "nan", cells[title])
            changes[f"{name}_s"] = parse_floats(source, title, given)
    names = [name for name in cells if name not in _NOT_CLASSES]
    if "label" in cells:
        if names:
            raise ManifestError(
                f"{source} has a column 'label' and also {', '.join(map(repr, names))}. Keep either 'label' or one "
                f"column per class; columns besides may be {', '.join(_NOT_CLASSES)}."
            )
        values = [unicodedata.normalize("NFC", value.strip()) for value in cells["label"]]
        classes = tuple(sorted(set(values) - {""}))
        changes |= {"classes": classes, "task": "single-label", "labels": _one_hot(values, classes)}
    elif names:
        labels = np.stack([parse_labels(source, name, cells[name]) for name in names], axis=1)
        changes |= {"classes": tuple(names), "labels": labels}
    return replace(files, **changes)


def audio_files(source: Path) -> Iterator[str]:
    """POSIX paths of audio files below a folder; links are followed, hidden names left out."""
    return _walk(source, PurePosixPath(), ())


def _walk(folder: Path, below: PurePosixPath, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    """Depth first; a link to a folder that it lies in is not entered again."""
    try:
        place = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        raise ManifestError(f"The folder {folder} cannot be read ({error.strerror}); mend its permissions.") from error
    here = (place.st_dev, place.st_ino)
    if here in above:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, below / entry.name, (*above, here))
        elif entry.name.lower().endswith(AUDIO_SUFFIXES):
            yield (below / entry.name).as_posix()


def _root_and_paths(source: Path, cells: Strings) -> tuple[Path, Strings]:
    """Relative paths start at the CSV's folder; absolute ones set the root to what they share."""
    cells = strings(cell.strip("\r") for cell in cells)
    if not any(Path(cell).is_absolute() for cell in cells):
        return source.parent, strings(_as_on_disk(source.parent, cell.removeprefix("./")) for cell in cells)
    absolute = [source.parent.absolute() / cell for cell in cells]
    root = Path(os.path.commonpath([path.parent for path in absolute]))
    return root, strings(_as_on_disk(root, path.relative_to(root).as_posix()) for path in absolute)


def _as_on_disk(root: Path, path: str) -> str:
    """The spelling of a name that the disk has: composed or decomposed accents."""
    if path.isascii() or (root / path).exists():
        return path
    forms = [unicodedata.normalize(form, path) for form in ("NFC", "NFD")]
    return next((form for form in forms if (root / form).exists()), path)


def _splits(cells: Strings) -> Strings:
    return strings(SPLIT_FOLDERS.get(cell.strip().casefold(), cell.strip()) for cell in cells)


def _are_splits(folders: set[str]) -> bool:
    return len(folders) > 1 and {name.casefold() for name in folders} <= set(SPLIT_FOLDERS)


def _blank(root: Path, paths: Strings, *, split: Strings | None = None) -> Files:
    unknown = np.full(len(paths), np.nan)
    return Files(
        root=root,
        classes=(),
        task="multi-label",
        path=paths,
        split=strings([""] * len(paths)) if split is None else split,
        group=paths,
        start_s=unknown,
        duration_s=unknown,
        labels=np.zeros((len(paths), 0), dtype=np.int8),
    )


def _one_hot(names: Sequence[str], classes: tuple[str, ...]) -> Labels:
    """1 for the class named, 0 for the others; all unknown where the name is empty."""
    labels = np.zeros((len(names), len(classes)), dtype=np.int8)
    if not classes:
        return labels
    distinct, codes = encode(strings(names))
    columns = np.array([classes.index(name) if name else UNKNOWN for name in distinct])[codes]
    labels[np.arange(len(names)), columns] = 1
    labels[columns == UNKNOWN] = UNKNOWN
    return labels


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def _is_text(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
