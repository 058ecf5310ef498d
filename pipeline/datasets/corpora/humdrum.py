"""Notes out of Humdrum ``**kern`` files: plain spines, one voice each, no splitting of spines.

Specification: D. Huron, The Humdrum Toolkit: Reference Manual, 1995, ``**kern``.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.datasets.corpora.musicxml import Note, merge_ties

_TOKEN = re.compile(r"(?P<length>\d+)(?P<dots>\.*)(?P<pitch>[a-gA-G]+|r)(?P<alter>#+|-+|)")
_NATURALS = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}


def read_kern(path: Path) -> tuple[str, list[tuple[Note, ...]]]:
    """The work that a file says it is from (``!!!OPR``, else ``!!!OTL``), and its voices from the top down.

    A spine that splits or joins ends the reading: what came before is kept.
    """
    titles: dict[str, str] = {}
    spines: list[_Spine] = []
    for line in path.read_text("latin-1").splitlines():
        if line.startswith("!!!"):
            key, _, value = line[3:].partition(":")
            titles.setdefault(key, value.strip())
        elif line.startswith("**"):
            spines = [_Spine(kind == "**kern") for kind in line.split("\t")]
        elif line.startswith("*") and ({"*^", "*v", "*+", "*x"} & set(line.split("\t"))):
            break
        elif line and line[0] not in "!*=":
            for spine, token in zip(spines, line.split("\t"), strict=False):
                spine.add(token)
    voices = [tuple(merge_ties(spine.notes)) for spine in reversed(spines) if spine.notes]
    return titles.get("OPR", titles.get("OTL", "")), voices


class _Spine:
    """One column of the file: its notes so far, and where its next token begins, in quarter notes."""

    def __init__(self, is_kern: bool) -> None:
        self.notes: list[tuple[Note, bool]] = []
        self._is_kern = is_kern
        self._position = 0.0

    def add(self, token: str) -> None:
        if not self._is_kern or token == "." or "q" in token:
            return
        length = 0.0
        for written in token.split(" "):
            found = _TOKEN.search(written)
            if found is None:
                continue
            length = length or _quarters(found["length"], len(found["dots"]))
            if found["pitch"] != "r":
                tied = "]" in written or "_" in written
                self.notes.append((Note(self._position, length, _key(found["pitch"], found["alter"])), tied))
        self._position += length


def _quarters(recip: str, n_dots: int) -> float:
    """``4`` is a quarter; ``0``, ``00``, ``000`` are two, four and eight whole notes."""
    plain = 4 / int(recip) if int(recip) else 4.0 * 2 ** len(recip)
    return plain * (2 - 0.5**n_dots)


def _key(pitch: str, alter: str) -> int:
    """``c`` is middle C, ``cc`` an octave above, ``C`` an octave below, ``CC`` two below."""
    octave = 4 + len(pitch) if pitch.islower() else 5 - len(pitch)
    shift = len(alter) if alter.startswith("#") else -len(alter)
    return _NATURALS[pitch[0].lower()] + shift + 12 * octave
