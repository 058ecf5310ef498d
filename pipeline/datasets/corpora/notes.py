"""Notes of four-part chorales out of MusicXML files, and which of them are the same hymn.

Read here with the standard library: it takes the two seconds that a general score reader takes for
a dozen files.  Only what a chorale needs is understood: pitches, durations, ties, rests, and the
first of several voices on a staff.  Repeats are not played twice.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from xml.etree import ElementTree

from pipeline.errors import ManifestError

N_VOICES = 4
_SLACK = 1e-6  # quarter notes; thirds and sixths are not exact
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_MELODY_INTERVALS = 10
_BEAT_INTERVALS = 8  # notes on the beat only, so that ornaments do not hide a melody


@dataclass(frozen=True)
class Note:
    """One sounding note: onset and length in quarter notes, and its MIDI key (60 is middle C)."""

    onset: float
    length: float
    key: int

    @property
    def on_beat(self) -> bool:
        """Whether it begins on a quarter note."""
        return abs(self.onset - round(self.onset)) < _SLACK

    @property
    def end(self) -> float:
        """Where it ends, in quarter notes."""
        return self.onset + self.length


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
    score = _parse(path)
    parts = score.findall("part")
    if len(parts) != N_VOICES:
        return None
    voices = tuple(tuple(_merge_ties(_part_notes(part))) for part in parts)
    if not all(voices):
        return None
    return Chorale(path.name.removesuffix(".mxl"), voices)


def find_hymns(chorales: Sequence[Chorale]) -> list[str]:
    """For each setting the name of the first setting of the same hymn.

    Two settings belong together when they share a number (``bwv112.5`` and ``bwv112.5-sc``), the
    first ten steps of the melody in semitones, or its first eight steps from beat to beat; and so
    do settings linked by a third.
    """
    first: dict[tuple[str, object], int] = {}
    parent = list(range(len(chorales)))
    for index, chorale in enumerate(chorales):
        for mark in _marks(chorale):
            _join(parent, first.setdefault(mark, index), index)
    return [chorales[_root(parent, index)].name for index in range(len(chorales))]


def _marks(chorale: Chorale) -> Iterator[tuple[str, object]]:
    soprano = chorale.voices[0]
    on_beats = [note.key for note in soprano if note.on_beat]
    yield "number", chorale.name.split("-", 1)[0]
    yield "melody", _intervals([note.key for note in soprano], _MELODY_INTERVALS)
    yield "beats", _intervals(on_beats, _BEAT_INTERVALS)


def _intervals(keys: Sequence[int], count: int) -> tuple[int, ...]:
    """The first steps of a melody in semitones; repeated notes are no step."""
    steps = (after - before for before, after in pairwise(keys) if after != before)
    return tuple(islice(steps, count))


def _root(parent: list[int], index: int) -> int:
    while parent[index] != index:
        index = parent[index]
    return index


def _join(parent: list[int], one: int, other: int) -> None:
    low, high = sorted((_root(parent, one), _root(parent, other)))
    parent[high] = low


def _parse(path: Path) -> ElementTree.Element:
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("xml") and "META-INF" not in name]
        return ElementTree.fromstring(archive.read(names[0]))


def _part_notes(part: ElementTree.Element) -> Iterator[tuple[Note, bool]]:
    """Notes of the first voice in order, each with whether a tie leads into it."""
    divisions, measure_start = 1, 0.0
    for measure in part.findall("measure"):
        position = reached = measure_start
        first_voice: str | None = None
        for item in measure:
            if item.tag == "attributes" and (text := item.findtext("divisions")):
                divisions = int(text)
            if item.tag not in ("note", "backup", "forward") or (text := item.findtext("duration")) is None:
                continue
            length = int(text) / divisions
            if item.tag == "backup":
                position -= length
                continue
            if item.tag == "note" and item.find("chord") is not None:
                continue
            voice = item.findtext("voice")
            first_voice = first_voice or voice
            if item.tag == "note" and item.find("rest") is None and voice == first_voice:
                yield Note(position, length, _key(item)), _tied_into(item)
            position += length
            reached = max(reached, position)
        measure_start = reached


def _merge_ties(notes: Iterable[tuple[Note, bool]]) -> Iterator[Note]:
    held: Note | None = None
    for note, tied in notes:
        if held is not None and tied and held.key == note.key and abs(held.end - note.onset) < _SLACK:
            held = Note(held.onset, held.length + note.length, held.key)
            continue
        if held is not None:
            yield held
        held = note
    if held is not None:
        yield held


def _key(note: ElementTree.Element) -> int:
    step, octave = note.findtext("pitch/step"), note.findtext("pitch/octave")
    alter = float(note.findtext("pitch/alter") or 0)
    return _STEPS[str(step)] + round(alter) + 12 * (int(str(octave)) + 1)


def _tied_into(note: ElementTree.Element) -> bool:
    return any(tie.get("type") == "stop" for tie in note.findall("tie"))
