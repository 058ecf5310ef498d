"""Scores of many composers out of a corpus of files, grouped by work, with the parsed notes kept.

A work is what must stay in one split: a quartet, a mass, a song, all settings of one melody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from xml.etree.ElementTree import ParseError

from pipeline.datasets.corpora.abc import read_abc
from pipeline.datasets.corpora.humdrum import read_kern
from pipeline.datasets.corpora.musicxml import Note, read_lines
from pipeline.datasets.corpora.notes import group_by_marks, intervals
from pipeline.datasets.corpora.workers import count_workers, make_pool
from pipeline.errors import ManifestError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, Warned, ignore
from pipeline.files import publish_bytes

NOTES = "notes.json"
VERSION = 1  # raise it when the same files are to give other notes
_XML = frozenset({".mxl", ".xml", ".musicxml"})
_KERN_FOLDERS = frozenset({"palestrina"})
_TUNE_FOLDERS = frozenset({"ryansMammoth"})
_LEFT_OUT = frozenset({"demos", "theoryExercises", "_metadataCache"})
_FEWEST_NOTES = 16
_SHORT_PIECES = frozenset({"bach", "ryansMammoth"})
_LONG_INTERVALS = 16
_MELODY_INTERVALS = 10
_BEAT_INTERVALS = 8
_FEW_FILES = 64  # read before a process of its own has started
_CHUNK_FILES = 8
Line = tuple[Note, ...]


@dataclass(frozen=True)
class Score:
    """One file: its name, its work, the collection it is in, and its lines of notes from the top down."""

    name: str
    work: str
    collection: str
    lines: tuple[Line, ...]

    @cached_property
    def length(self) -> float:
        """Length in quarter notes."""
        return max(line[-1].end for line in self.lines)

    @cached_property
    def usual(self) -> float:
        """Length of the median note, in quarter notes."""
        return median(note.length for line in self.lines for note in line)


def load_scores(
    corpus: Path, digest: str, kept: Path, *, n_workers: int = 1, listener: Listener = ignore
) -> tuple[Score, ...]:
    """The scores of a corpus, from ``kept`` where they were written by this version from this corpus.

    Args:
        digest: SHA-256 of the corpus.
        kept: the file of parsed notes, written if it is absent or of something else.
        n_workers: processes; 0 takes all cores.

    Raises:
        ManifestError: the corpus holds no scores.
    """
    found = _read_kept(kept, digest)
    if found is None:
        found = read_scores(corpus, n_workers=n_workers, listener=listener)
        kept.parent.mkdir(parents=True, exist_ok=True)
        publish_bytes(
            kept, json.dumps({"version": VERSION, "corpus": digest, "scores": [_plain(one) for one in found]}).encode()
        )
        found = _read_kept(kept, digest) or found
    return found


def read_scores(corpus: Path, *, n_workers: int = 1, listener: Listener = ignore) -> tuple[Score, ...]:
    """All scores below a folder in the order of their paths, each with its work.

    Files that cannot be read, or hold next to nothing, are counted and left out.

    Raises:
        ManifestError: there are none.
    """
    paths = sorted((path for path in corpus.rglob("*") if _reader(corpus, path)), key=lambda path: path.as_posix())
    scores, odd = list[Score](), list[str]()
    listener(TaskStarted("reading scores", len(paths), "files"))
    for score in _read_all(corpus, paths, count_workers(n_workers)):
        if isinstance(score, str):
            odd.append(score)
        elif score.lines:
            scores.append(score)
        listener(TaskAdvanced("reading scores", 1))
    listener(TaskFinished("reading scores"))
    if odd:
        listener(Warned(f"{len(odd)} of {len(paths)} scores cannot be read and are left out: {', '.join(odd[:5])}"))
    if not scores:
        raise ManifestError(f"{corpus} holds no scores (.mxl, .xml, .krn, .abc). Is it the right folder?")
    first = group_by_marks([list(_marks(score)) for score in scores])
    return tuple(replace(score, work=scores[index].work) for score, index in zip(scores, first, strict=True))


def _reader(corpus: Path, path: Path) -> Callable[[Path], tuple[str, Sequence[Line]]] | None:
    inside = path.relative_to(corpus).parts
    if len(inside) < 2 or inside[0] in _LEFT_OUT:
        return None
    if path.suffix in _XML:
        return _read_xml
    if path.suffix == ".krn" and inside[0] in _KERN_FOLDERS:
        return read_kern
    if path.suffix == ".abc" and inside[0] in _TUNE_FOLDERS:
        return _read_tune
    return None


def _read_all(corpus: Path, paths: Sequence[Path], n_workers: int) -> Iterator[Score | str]:
    """The score of each file in order, or what is wrong with it."""
    if n_workers == 1 or len(paths) < _FEW_FILES:
        yield from (_try(corpus, path) for path in paths)
        return
    pool = make_pool(n_workers)
    try:
        yield from pool.map(partial(_try, corpus), paths, chunksize=_CHUNK_FILES)
    except BrokenProcessPool as error:
        raise ManifestError(
            f"One of the {n_workers} processes that read scores ended without a word; memory may have run out. "
            "Build again with a smaller --workers."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _try(corpus: Path, path: Path) -> Score | str:
    try:
        return _read(corpus, path)
    except (ParseError, ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        return f"{path.name} ({type(error).__name__})"


def _read(corpus: Path, path: Path) -> Score:
    inside = path.relative_to(corpus).with_suffix("").parts
    reader = _reader(corpus, path)
    title, lines = reader(path) if reader else ("", ())
    work = "/".join((inside[0], title or (inside[1].split("-", 1)[0] if inside[0] == "bach" else inside[1])))
    name = re.sub(r"[^A-Za-z0-9.]+", "_", "-".join(inside)).strip("_")
    kept = tuple(line for line in lines if len(line) >= _FEWEST_NOTES)
    return Score(name, work, inside[0], kept)


def _read_xml(path: Path) -> tuple[str, Sequence[Line]]:
    return "", read_lines(path)


def _read_tune(path: Path) -> tuple[str, Sequence[Line]]:
    title, notes = read_abc(path)
    return title, (notes,)


def _marks(score: Score) -> Iterator[Hashable]:
    """What two scores of one work have in common: its name, and the beginning of its melody.

    Chorales and tunes are short and come in many settings, so that fewer steps tell them; masses
    share the first dozen steps of a scale by chance.
    """
    yield "work", score.work.lower()
    top = highest(score.lines[0])
    keys = [note.key for note in top]
    marks: list[tuple[str, int, list[int]]] = [("", _LONG_INTERVALS, keys)]
    if score.collection in _SHORT_PIECES:
        beats = [note.key for note in top if note.on_beat]
        marks += [(score.collection, _MELODY_INTERVALS, keys), (f"{score.collection} beats", _BEAT_INTERVALS, beats)]
    for kind, count, melody in marks:
        steps = intervals(melody, count)
        if len(steps) == count:
            yield kind, steps


def highest(line: Sequence[Note]) -> Line:
    """One note at a time: the highest of those that begin together, cut where the next one begins."""
    tops: list[Note] = []
    for note in line:
        if tops and note.onset - tops[-1].onset < 1e-6:
            tops[-1] = note
            continue
        if tops and tops[-1].end > note.onset:
            tops[-1] = replace(tops[-1], length=note.onset - tops[-1].onset)
        tops.append(note)
    return tuple(tops)


def _plain(score: Score) -> dict[str, object]:
    lines = [[[round(x.onset, 5), round(x.length, 5), x.key] for x in line] for line in score.lines]
    return {"name": score.name, "work": score.work, "collection": score.collection, "lines": lines}


def _read_kept(kept: Path, digest: str) -> tuple[Score, ...] | None:
    try:
        found = json.loads(kept.read_text("utf-8"))
        if (found["version"], found["corpus"]) != (VERSION, digest):
            return None
        return tuple(
            Score(one["name"], one["work"], one["collection"], tuple(_line(line) for line in one["lines"]))
            for one in found["scores"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _line(line: Sequence[Sequence[float]]) -> Line:
    return tuple(Note(float(onset), float(length), int(key)) for onset, length, key in line)
