"""Notes of four-part chorales out of MusicXML files, and which of them are the same hymn.

Of several voices on a staff the first is taken, and of chords the note written first.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path

from pipeline.datasets.corpora.musicxml import Note, merge_ties, parse, part_notes
from pipeline.errors import ManifestError

__all__ = ["N_VOICES", "Chorale", "Note", "find_hymns", "group_by_marks", "intervals", "read_chorale", "read_chorales"]

N_VOICES = 4
_MELODY_INTERVALS = 10
_BEAT_INTERVALS = 8  # notes on the beat only, so that ornaments do not hide a melody


@dataclass(frozen=True)
class Chorale:
    """One setting: soprano, alto, tenor, bass, and the hymn it belongs to (a setting's name)."""

    name: str
    voices: tuple[tuple[Note, ...], ...]
    hymn: str = ""

    @property
    def length(self) -> float:
        """Length in quarter notes."""
        return max(voice[-1].end for voice in self.voices)


def read_chorales(folder: Path) -> tuple[Chorale, ...]:
    """All four-part chorales of a folder of ``.mxl`` files, by name, each with its hymn.

    Raises:
        ManifestError: the folder holds no such files.
    """
    paths = sorted(folder.glob("*.mxl"), key=lambda path: path.name)
    chorales = [chorale for chorale in map(read_chorale, paths) if chorale is not None]
    if not chorales:
        raise ManifestError(f"{folder} holds no four-part chorales (.mxl). Is it the right folder of the corpus?")
    return tuple(replace(chorale, hymn=hymn) for chorale, hymn in zip(chorales, find_hymns(chorales), strict=True))


def read_chorale(path: Path) -> Chorale | None:
    """One compressed MusicXML file; None where it has not exactly four sounding parts."""
    parts = parse(path).findall("part")
    if len(parts) != N_VOICES:
        return None
    voices = tuple(
        tuple(merge_ties((item.note, item.tied) for item in part_notes(part) if item.leads)) for part in parts
    )
    if not all(voices):
        return None
    return Chorale(path.name.removesuffix(".mxl"), voices)


def find_hymns(chorales: Sequence[Chorale]) -> list[str]:
    """For each setting the name of the first setting of the same hymn.

    Two settings belong together when they share a number (``bwv112.5`` and ``bwv112.5-sc``), the
    first ten steps of the melody in semitones, or its first eight steps from beat to beat; and so
    do settings linked by a third.
    """
    return [chorales[first].name for first in group_by_marks([_marks(chorale) for chorale in chorales])]


def group_by_marks(items: Sequence[Iterable[Hashable]]) -> list[int]:
    """For each item, given by its marks, the first item that it is linked to by marks in common."""
    first: dict[Hashable, int] = {}
    parent = list(range(len(items)))
    for index, marks in enumerate(items):
        for mark in marks:
            _join(parent, first.setdefault(mark, index), index)
    return [_root(parent, index) for index in range(len(items))]


def intervals(keys: Sequence[int], count: int) -> tuple[int, ...]:
    """The first steps of a melody in semitones; repeated notes are no step."""
    steps = (after - before for before, after in pairwise(keys) if after != before)
    return tuple(islice(steps, count))


def _marks(chorale: Chorale) -> Iterator[tuple[str, object]]:
    soprano = chorale.voices[0]
    on_beats = [note.key for note in soprano if note.on_beat]
    yield "number", chorale.name.split("-", 1)[0]
    yield "melody", intervals([note.key for note in soprano], _MELODY_INTERVALS)
    yield "beats", intervals(on_beats, _BEAT_INTERVALS)


def _root(parent: list[int], index: int) -> int:
    while parent[index] != index:
        index = parent[index]
    return index


def _join(parent: list[int], one: int, other: int) -> None:
    low, high = sorted((_root(parent, one), _root(parent, other)))
    parent[high] = low
