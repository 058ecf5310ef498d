"""Notes out of tunes in ABC notation: one voice, chords reduced to what is written first.

Specification: the ABC music standard 2.1, 2011.  Repeats and endings are not played twice; grace
notes and decorations are left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.datasets.corpora.musicxml import Note, merge_ties

_NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_FIFTHS = {"C": 0, "G": 1, "D": 2, "A": 3, "E": 4, "B": 5, "F": -1}
_MODES = {
    "": 0,
    "maj": 0,
    "m": -3,
    "min": -3,
    "aeo": -3,
    "mix": -1,
    "dor": -2,
    "phr": -4,
    "lyd": 1,
    "loc": -5,
    "ion": 0,
}
_SHARPS = "FCGDAEB"
_ALTERS = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}
_DROPPED = re.compile(r'"[^"]*"|![^!]*!|\{[^}]*\}|\[[A-Za-z]:[^\]]*\]|%.*$|\\$', re.MULTILINE)
_TOKEN = re.compile(
    r"(?P<bar>\|[0-9]?|:|\[[0-9|])"
    r"|\((?P<p>[2-9])(?::(?P<q>[0-9]?))?(?::(?P<r>[0-9]?))?"
    r"|\[(?P<chord>[^\]|]+)\](?P<chord_length>[0-9]*/*[0-9]*)"
    r"|(?P<accidental>\^\^|\^|__|_|=)?(?P<letter>[A-Ga-g]|[xz])(?P<octave>[,']*)(?P<length>[0-9]*/*[0-9]*)"
    r"|(?P<broken>[<>]+)|(?P<tie>-)"
)
_NOTE = re.compile(r"(\^\^|\^|__|_|=)?([A-Ga-g])([,']*)([0-9]*/*[0-9]*)")


def read_abc(path: Path) -> tuple[str, tuple[Note, ...]]:
    """Title and notes of the first tune of a file; no notes where it has several voices."""
    fields: dict[str, str] = {}
    body: list[str] = []
    for line in path.read_text("latin-1").splitlines():
        if re.match(r"[A-Za-z]:", line):
            if body and line[0] == "X":
                break
            fields.setdefault(line[0], line[2:].split("%")[0].strip())
        elif "K" in fields:
            body.append(line)
    if "V" in fields or "K" not in fields:
        return fields.get("T", ""), ()
    reader = _Reader(_unit(fields), _signature(fields["K"]))
    for found in _TOKEN.finditer(_DROPPED.sub("", "\n".join(body))):
        reader.take(found)
    return fields.get("T", ""), tuple(merge_ties(reader.notes))


@dataclass
class _Reader:
    """The state between tokens: where we are, what a bar has changed, what is still to be counted."""

    unit: float
    signature: dict[str, int]
    position: float = 0.0
    notes: list[tuple[Note, bool]] = field(default_factory=list)
    altered: dict[tuple[str, str], int] = field(default_factory=dict)
    tuplet: tuple[int, float] = (0, 1.0)
    next_factor: float = 1.0
    is_tied: bool = False
    last_length: float = 0.0

    def take(self, found: re.Match[str]) -> None:
        if found["bar"]:
            self.altered.clear()
        elif found["p"]:
            self._begin_tuplet(int(found["p"]), found["q"], found["r"])
        elif found["broken"]:
            self._break(found["broken"])
        elif found["tie"]:
            self.is_tied = True
        elif found["chord"]:
            inner = _NOTE.search(found["chord"])
            if inner is not None:
                self._play(inner[1], inner[2], inner[3], _factor(inner[4]) * _factor(found["chord_length"]))
        else:
            self._play(found["accidental"], found["letter"], found["octave"], _factor(found["length"]))

    def _play(self, accidental: str | None, letter: str, octave: str, factor: float) -> None:
        length = self.unit * factor * self.next_factor * self._tuplet_factor()
        self.next_factor, self.last_length = 1.0, length
        if letter not in "xz":
            if accidental:
                self.altered[letter, octave] = _ALTERS[accidental]
            alter = self.altered.get((letter, octave), self.signature.get(letter.upper(), 0))
            shift = octave.count("'") - octave.count(",") + (1 if letter.islower() else 0)
            key = 60 + _NATURALS[letter.upper()] + alter + 12 * shift
            self.notes.append((Note(self.position, length, key), self.is_tied))
        self.is_tied = False
        self.position += length

    def _begin_tuplet(self, p: int, q: str | None, r: str | None) -> None:
        in_time_of = int(q) if q else {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}.get(p, 2)
        self.tuplet = (int(r) if r else p, in_time_of / p)

    def _tuplet_factor(self) -> float:
        left, factor = self.tuplet
        self.tuplet = (left - 1, factor) if left > 1 else (0, 1.0)
        return factor if left else 1.0

    def _break(self, marks: str) -> None:
        """``a>b``: the first is made longer by half, the second half as long; ``<`` the other way."""
        short = 0.5 ** len(marks)
        first, second = (2 - short, short) if marks[0] == ">" else (short, 2 - short)
        change = self.last_length * (first - 1)
        if self.notes and abs(self.notes[-1][0].end - self.position) < 1e-6:
            note, tied = self.notes[-1]
            self.notes[-1] = Note(note.onset, note.length + change, note.key), tied
        self.position += change
        self.next_factor = second


def _factor(text: str) -> float:
    """``3`` is three units, ``/`` and ``/2`` half of one, ``3/2`` one and a half."""
    above, slashes, below = re.fullmatch(r"([0-9]*)(/*)([0-9]*)", text).groups()  # type: ignore[union-attr]
    divided = (int(below) or 1) if below else 2 ** len(slashes)
    return (int(above) if above else 1) / divided


def _unit(fields: dict[str, str]) -> float:
    """Quarter notes in a note without a number."""
    found = re.fullmatch(r"(\d+)/(\d+)", fields.get("L", ""))
    if found:
        return 4 * int(found[1]) / int(found[2])
    meter = re.fullmatch(r"(\d+)/(\d+)", fields.get("M", "4/4"))
    return 0.25 if meter and int(meter[1]) / int(meter[2]) < 0.75 else 0.5


def _signature(key: str) -> dict[str, int]:
    """Letters that a key raises or lowers: ``Bb``, ``F#m``, ``Ador``, ``Emix``."""
    found = re.match(r"([A-G])([#b]?)\s*([A-Za-z]*)", key)
    if found is None:
        return {}
    mode = found[3] if found[3] in ("m", "M") else found[3].lower()[:3]
    fifths = _FIFTHS[found[1]] + {"#": 7, "b": -7, "": 0}[found[2]] + _MODES.get(mode, 0)
    return dict.fromkeys(_SHARPS[:fifths], 1) if fifths >= 0 else dict.fromkeys(_SHARPS[fifths:], -1)
