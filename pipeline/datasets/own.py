"""Your own audio: files of any length become clips of one length, with splits by group."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.decode import probe
from pipeline.datasets.scan import Files, fingerprint, scan
from pipeline.datasets.splits import RATIOS, deal_splits
from pipeline.errors import AudioError, SettingError
from pipeline.events import Listener, Note, TaskAdvanced, TaskFinished, TaskStarted, Warned, ignore
from pipeline.manifest import ClipTable, clip_id, require_valid
from pipeline.manifest.table import Floats, Strings, encode, strings

__all__ = ["MIN_REST_S", "cut", "name_of", "table_from"]

Last = Literal["pad", "drop"]
MIN_REST_S = 0.5
_SLACK_S = 1e-6
_SHOWN = 5


def table_from(
    source: Path,
    *,
    clip_s: float = 10.0,
    hop_s: float | None = None,
    last: Last = "pad",
    name: str = "",
    split_ratios: Mapping[str, float] | None = RATIOS,
    seed: int = 0,
    licence: str = "",
    citation: str = "",
    listener: Listener = ignore,
) -> ClipTable:
    """Clips of a folder per class, a folder without labels, or a CSV (see :func:`pipeline.datasets.scan.scan`).

    Every file gives at least one clip.  A file that cannot be read gives one, too, so that
    extraction names it as failed and says why.

    Args:
        clip_s: length of a clip in seconds.
        hop_s: seconds from the start of a clip to the next one; ``clip_s`` if not given.
        last: what to do with the rest at the end of a file: ``pad`` keeps it as a shorter clip
            (from :data:`MIN_REST_S` on), ``drop`` leaves it out.  A file shorter than one clip is kept.
        name: name of the dataset; the folder's or CSV's name if empty.
        split_ratios: share of the files in each split where none is given; None leaves it empty.
        seed: decides which groups go where.
        licence, citation: of the audio; they go along with stores and students.

    Raises:
        ManifestError: no audio, or a CSV that contradicts itself.
        SettingError: a length or ratio that cannot be.
    """
    hop_s = clip_s if hop_s is None else hop_s
    _check_settings(clip_s, hop_s, last)
    files = scan(source, listener=listener)
    start_s, end_s = _segments(files, clip_s, listener)
    row, starts, durations = cut(start_s, end_s, clip_s=clip_s, hop_s=hop_s, last=last)
    split = files.split
    if split_ratios is not None and (split == "").all():
        split = deal_splits(files.group, _strata(files), ratios=split_ratios, seed=seed)
    made: dict[str, object] = {"clip_s": clip_s, "hop_s": hop_s, "last": last, "seed": seed, "source": source.name}
    ratios = dict(split_ratios) if split_ratios is not None else None
    table = ClipTable(
        name=name_of(source, name),
        root=str(files.root),
        classes=files.classes,
        task=files.task,
        clip_s=clip_s,
        clip_id=strings(map(clip_id, files.path[row], starts)),
        path=files.path[row],
        split=split[row],
        group=files.group[row],
        start_s=starts,
        duration_s=durations,
        labels=files.labels[row],
        card=_card(made | {"split_ratios": ratios, "files": fingerprint(source)}, licence=licence, citation=citation),
    )
    require_valid(table)
    listener(Note(_summary(table)))
    return table


def _card(made: Mapping[str, object], **stated: str) -> dict[str, object]:
    """What is known of own audio; what was not stated is left out."""
    known: dict[str, object] = {"source": "own audio", "made": dict(made)}
    return known | {key: text for key, text in stated.items() if text}


def name_of(source: Path, name: str = "") -> str:
    """The dataset's name: the given one, else that of the folder or CSV.

    Raises:
        SettingError: it could not be the name of a folder.
    """
    found = name or (source.resolve().stem if source.is_file() else source.resolve().name)
    if not found or Path(found).name != found:
        raise SettingError(f"The name {found!r} cannot be the name of a folder; give another one with --name.")
    return found


def cut(
    start_s: Floats, end_s: Floats, *, clip_s: float, hop_s: float, last: Last
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Cut segments into clips.

    Args:
        start_s, end_s: [segments], in seconds of the file.

    Returns:
        for each clip the number of its segment, its start and its duration in seconds.

    >>> cut(np.array([0.0]), np.array([25.0]), clip_s=10, hop_s=10, last="pad")[2].tolist()
    [10.0, 10.0, 5.0]
    """
    length = end_s - start_s
    whole = np.maximum(np.floor((length - clip_s + _SLACK_S) / hop_s).astype(np.int64) + 1, 0)
    rest = length - np.where(whole > 0, (whole - 1) * hop_s + clip_s, 0.0)
    rest = np.minimum(rest, length - whole * hop_s)  # of what is left, what a further clip would hold
    padded = (whole == 0) | ((rest >= MIN_REST_S) & (last == "pad"))
    counts = whole + padded
    row = np.repeat(np.arange(len(length)), counts)
    number = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.round(start_s[row] + number * hop_s, 6)
    durations = np.round(np.minimum(clip_s, end_s[row] - starts), 6)
    return row, starts, durations


def _segments(files: Files, clip_s: float, listener: Listener) -> tuple[Floats, Floats]:
    """Start and end of each row in seconds; a file that cannot be read counts as one clip."""
    start_s = np.nan_to_num(files.start_s, nan=0.0)
    end_s = start_s + files.duration_s
    open_ended = np.isnan(files.duration_s)
    if not open_ended.any():
        return start_s, end_s
    paths, codes = encode(files.path[open_ended])
    lengths = _lengths(files.root, paths, listener)[codes]
    known = ~np.isnan(lengths) & (lengths - start_s[open_ended] > _SLACK_S)
    end_s[open_ended] = np.where(known, lengths, start_s[open_ended] + clip_s)
    return start_s, end_s


def _lengths(root: Path, paths: Strings, listener: Listener) -> Floats:
    """Length of each file in seconds from its header; NaN where there is none to be had."""
    task = "reading lengths"
    lengths, failures = np.full(len(paths), np.nan), []
    listener(TaskStarted(task, len(paths), "files"))
    try:
        with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
            for index, found in enumerate(pool.map(lambda path: _length(root / path), paths)):
                lengths[index] = found if isinstance(found, float) else np.nan
                if isinstance(found, AudioError):
                    failures.append((str(paths[index]), found))
                listener(TaskAdvanced(task, 1))
    finally:
        listener(TaskFinished(task))
    if failures:
        listener(Warned(_failures_text(failures)))
    return lengths


def _length(path: Path) -> float | AudioError:
    try:
        return float(probe(path).duration_s)
    except AudioError as error:
        return error


def _failures_text(failures: list[tuple[str, AudioError]]) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(error.kind for _, error in failures).most_common())
    shown = "; ".join(f"{path!r}: {error.reason}" for path, error in failures[:_SHOWN])
    more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
    return f"{len(failures)} files cannot be read ({kinds}); extraction will name them as failed. {shown}{more}"


def _summary(table: ClipTable) -> str:
    n_files, hours = len(set(table.path)), float(table.duration_s.sum()) / 3600
    shown = ", ".join(table.classes[:_SHOWN]) + (", ..." if len(table.classes) > _SHOWN else "")
    classes = f"{len(table.classes)} classes ({shown})" if table.classes else "no labels"
    return f"{table.name}: {n_files:,} files, {len(table):,} clips of {table.clip_s:g} s, {hours:,.2f} hours, {classes}"


def _strata(files: Files) -> NDArray[np.int64]:
    single = files.task == "single-label" and bool(files.classes)
    return files.labels.argmax(axis=1) if single else np.zeros(len(files.path), dtype=np.int64)


def _check_settings(clip_s: float, hop_s: float, last: str) -> None:
    for title, value in (("clip length", clip_s), ("hop", hop_s)):
        if not (np.isfinite(value) and value >= 0.01):
            raise SettingError(f"The {title} is {value} s; it must be a number of seconds, 0.01 or more.")
    if last not in ("pad", "drop"):
        raise SettingError(f"last is {last!r}; it is 'pad' or 'drop'.")
