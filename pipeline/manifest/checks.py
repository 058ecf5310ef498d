"""What can be wrong with a clip table, each named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ManifestError
from pipeline.manifest.table import (
    STRING_COLUMNS,
    TRAIN,
    UNKNOWN,
    UNLABELLED,
    ClipTable,
    Strings,
    encode,
    is_url,
    strings,
)
from pipeline.texts import shown

_SHOWN = 5
_SLACK_S = 1e-6
_MOST_CHARACTERS = 1 << 16


@dataclass(frozen=True)
class Problem:
    """One kind of defect: how many rows or files have it, and the first few of them."""

    kind: str
    message: str
    count: int
    examples: tuple[str, ...] = ()

    def __str__(self) -> str:
        more = f" and {self.count - len(self.examples)} more" if self.count > len(self.examples) else ""
        return f"{self.message}: {', '.join(map(shown, self.examples))}{more}" if self.examples else self.message


def check_table(table: ClipTable, *, audio: bool = False) -> list[Problem]:
    """All defects of a table; with ``audio`` also the files that are not there.

    The audio itself is not decoded: extraction does that and names each clip that fails.
    """
    checks = (_name, _texts, _ids, _classes, _paths, _times, _labels, _splits)
    problems = [problem for check in checks for problem in check(table)]
    return problems + (list(_files(table)) if audio else [])


def require_valid(table: ClipTable, *, audio: bool = False) -> None:
    """Refuse a table with defects.

    Raises:
        ManifestError: all of them, one per line.
    """
    problems = check_table(table, audio=audio)
    if problems:
        lines = "\n".join(f"  {problem}" for problem in problems)
        raise ManifestError(f"The clip table {table.name!r} has {len(problems)} problem(s):\n{lines}")


def _name(table: ClipTable) -> Iterator[Problem]:
    """The name becomes a folder: it must be one, and not lead elsewhere."""
    name = table.name
    if not name or name in (".", "..") or "/" in name or "\\" in name or "\0" in name or len(name) > 200:
        yield Problem("name", f"The name {shown(name)} cannot be that of a folder", 1)
    if "\0" in table.root:
        yield Problem("root", f"The root {shown(table.root)} holds a NUL", 1)


def _texts(table: ClipTable) -> Iterator[Problem]:
    for title in STRING_COLUMNS:
        values, _ = encode(getattr(table, title))
        nul = [text for text in values if "\0" in text]
        long = [text for text in values if len(text) > _MOST_CHARACTERS]
        yield from _found("nul", f"{title} holds a NUL", strings(nul if title != "path" else []))
        yield from _found("long", f"{title} is longer than {_MOST_CHARACTERS:,} characters", strings(long))


def _ids(table: ClipTable) -> Iterator[Problem]:
    if not len(table):
        yield Problem("empty", "The table has no clips", 0)
    distinct, codes = encode(table.clip_id)
    counts = np.bincount(codes, minlength=len(distinct))
    yield from _found("duplicate-id", "clip_id is there more than once", distinct[counts > 1])
    yield from _found("blank-id", "clip_id is empty, in the rows of", table.path[table.clip_id == ""])


def _classes(table: ClipTable) -> Iterator[Problem]:
    names = table.classes
    yield from _found("duplicate-class", "A class is named twice", strings({x for x in names if names.count(x) > 1}))
    if table.task not in ("multi-label", "single-label"):
        yield Problem("task", f"task is {table.task!r}, neither multi-label nor single-label", 1)


def _paths(table: ClipTable) -> Iterator[Problem]:
    distinct, _ = encode(table.path)
    outside = [path for path in distinct if not path or _escapes(path)]
    yield from _found("path", "path leads out of the root (it must be relative, without ..)", strings(outside))


def _times(table: ClipTable) -> Iterator[Problem]:
    start_s, duration_s, ids = table.start_s, table.duration_s, table.clip_id
    finite = np.isfinite(start_s) & np.isfinite(duration_s)
    if not (np.isfinite(table.clip_s) and table.clip_s > 0):
        yield Problem("clip-length", f"clip_s is {table.clip_s}, it must be a number of seconds above 0", 1)
    yield from _found("not-finite", "start_s or duration_s is not a finite number", ids[~finite])
    yield from _found("start", "start_s is below 0", ids[finite & (start_s < 0)])
    yield from _found("duration", "duration_s is not above 0", ids[finite & (duration_s <= 0)])
    long = finite & (duration_s > table.clip_s + _SLACK_S)
    yield from _found("too-long", f"duration_s is above the clip length of {table.clip_s:g} s", ids[long])


def _labels(table: ClipTable) -> Iterator[Problem]:
    odd = ((table.labels < UNKNOWN) | (table.labels > 1)).any(axis=1)
    yield from _found("label", "A label is neither 1, 0 nor -1 (unknown)", table.clip_id[odd])
    if table.task == "single-label" and table.classes:
        known = (table.labels != UNKNOWN).all(axis=1)
        several = ((table.labels == 1).sum(axis=1) > 1) | (known & ((table.labels == 1).sum(axis=1) == 0))
        yield from _found("single-label", "A labelled clip must have exactly one class", table.clip_id[several])


def _splits(table: ClipTable) -> Iterator[Problem]:
    names = table.splits()
    if not names:
        return
    yield from _found("no-split", "split is empty while other clips have one", table.clip_id[table.split == ""])
    if TRAIN not in names and set(names) != {UNLABELLED}:  # clips without labels alone can be extracted
        yield Problem("no-train", f"No clip is in split 'train', only in {', '.join(names)}", 1)
    if table.labelled().any():
        judging = [name for name in names if _kind(name) in ("valid", "test")]
        bare = [name for name in judging if not table.labelled()[table.split == name].any()]
        yield from _found("unlabelled-split", "A split that judges has no labelled clip", strings(bare))
    yield from _found("group", "A group lies in two splits (train, valid, test must not share one)", _torn(table))


def _torn(table: ClipTable) -> Strings:
    """Groups in more than one of train, valid, test; sets of one kind count as one, unlabelled clips as train."""
    groups, group_codes = encode(table.group)
    splits, split_codes = encode(table.split)
    kinds = strings(_kind(name) for name in splits)
    kind_codes = encode(kinds)[1][split_codes]
    used = (table.split != "") & (table.group != "")
    pairs = np.unique(np.stack([group_codes[used], kind_codes[used]]), axis=1)
    return groups[np.bincount(pairs[0], minlength=len(groups)) > 1]


def _kind(split: str) -> str:
    """``test-unseen`` is a test, ``valid-other`` a validation; ``unlabelled`` clips are trained on."""
    if split == UNLABELLED:
        return TRAIN
    return next((kind for kind in ("valid", "test") if split.startswith(kind)), split)


def _files(table: ClipTable) -> Iterator[Problem]:
    distinct, _ = encode(table.path)
    if is_url(table.root):
        import fsspec

        system, root = fsspec.core.url_to_fs(table.root)
        absent = [path for path in distinct if not system.exists(f"{root}/{path}")]
    else:
        absent = [path for path in distinct if not (Path(table.root) / path).is_file()]
    yield from _found("absent", f"Files are not below {table.root}", strings(absent))


def _escapes(path: str) -> bool:
    return "\0" in path or path.startswith("/") or ".." in PurePosixPath(path).parts


def _found(kind: str, message: str, rows: NDArray[Any]) -> Iterator[Problem]:
    if len(rows):
        yield Problem(kind, f"{message} ({len(rows)})", len(rows), tuple(map(str, rows[:_SHOWN])))
