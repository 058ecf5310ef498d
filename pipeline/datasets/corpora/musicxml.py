"""Notes out of MusicXML files, plain or compressed, with any number of parts, staves and voices.

Read here with the standard library: it takes the seconds that a general score reader takes for a
few files.  Pitches, durations, ties, chords and rests are understood; grace notes, unpitched notes
and transposition are not, and repeats are not played twice.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

SLACK = 1e-6  # quarter notes; thirds and sixths are not exact
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


@dataclass(frozen=True)
class Note:
    """One sounding note: onset and length in quarter notes, and its MIDI key (60 is middle C)."""

    onset: float
    length: float
    key: int

    @property
    def on_beat(self) -> bool:
        """Whether it begins on a quarter note."""
        return abs(self.onset - round(self.onset)) < SLACK

    @property
    def end(self) -> float:
        """Where it ends, in quarter notes."""
        return self.onset + self.length


@dataclass(frozen=True)
class Written:
    """A note as it stands in a part: what leads into it, and where on the page it is.

    ``leads`` is true of a measure's first voice, and there of a chord's first note.
    """

    note: Note
    tied: bool
    staff: str
    leads: bool


def parse(path: Path) -> ElementTree.Element:
    """The tree of a ``.mxl`` (a zip file), ``.xml`` or ``.musicxml`` file."""
    if not zipfile.is_zipfile(path):
        return ElementTree.parse(path).getroot()
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("xml") and "META-INF" not in name]
        return ElementTree.fromstring(archive.read(names[0]))


def read_lines(path: Path) -> list[tuple[Note, ...]]:
    """One line of notes for each staff of each part, top of the page first; chords stay chords."""
    lines = []
    for part in parse(path).findall("part"):
        written = list(part_notes(part))
        for staff in sorted({item.staff for item in written}):
            lines.append(tuple(merge_ties((item.note, item.tied) for item in written if item.staff == staff)))
    return lines


def part_notes(part: ElementTree.Element) -> Iterator[Written]:
    """Pitched notes of a part in the order of the file; voices of a measure follow one another."""
    divisions, measure_start = 1.0, 0.0
    for measure in part.findall("measure"):
        position = reached = onset = measure_start
        first_voice: str | None = None
        for item in measure:
            if item.tag == "attributes" and (text := item.findtext("divisions")):
                divisions = float(text)
            if item.tag not in ("note", "backup", "forward") or (text := item.findtext("duration")) is None:
                continue
            length = float(text) / divisions
            if item.tag == "backup":
                position -= length
                continue
            in_chord = item.tag == "note" and item.find("chord") is not None
            if not in_chord:
                first_voice = first_voice or item.findtext("voice")
                onset = position
                position += length
                reached = max(reached, position)
            if item.tag == "note" and item.find("pitch") is not None:
                leads = not in_chord and item.findtext("voice") == first_voice
                yield Written(Note(onset, length, _key(item)), _tied_into(item), item.findtext("staff") or "1", leads)
        measure_start = reached


def merge_ties(notes: Iterable[tuple[Note, bool]]) -> list[Note]:
    """Notes by onset and key; one that a tie leads into makes the note of its key before it longer."""
    merged: list[Note] = []
    last: dict[int, int] = {}
    for note, tied in sorted(notes, key=lambda item: (item[0].onset, item[0].key)):
        before = merged[last[note.key]] if note.key in last else None
        if before is not None and tied and abs(before.end - note.onset) < SLACK:
            merged[last[note.key]] = replace(before, length=before.length + note.length)
            continue
        last[note.key] = len(merged)
        merged.append(note)
    return merged


def _key(note: ElementTree.Element) -> int:
    step, octave = note.findtext("pitch/step"), note.findtext("pitch/octave")
    alter = float(note.findtext("pitch/alter") or 0)
    return _STEPS[str(step)] + round(alter) + 12 * (int(str(octave)) + 1)


def _tied_into(note: ElementTree.Element) -> bool:
    return any(tie.get("type") == "stop" for tie in note.findall("tie"))
