"""From a chorale to what is played in a clip: excerpt, tempo, key, instruments, touch, levels.

What scores of any kind share with chorales is here too: see :mod:`pipeline.datasets.corpora.ensemble`.

Pure and the same on every machine: the only source of chance is ``random.Random.random`` seeded by
a text, whose values are part of the language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

from pipeline.datasets.corpora.notes import N_VOICES, Chorale, Note

CLIP_S = 10.0
_MIN_SOUNDING_S = 3.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class Instrument:
    """A class of the dataset: its General MIDI programs (from 0), its range, may it play two voices."""

    programs: tuple[int, ...]
    low: int
    high: int
    chordal: bool = False


INSTRUMENTS: dict[str, Instrument] = {
    "cello": Instrument((42,), 36, 74),
    "clarinet": Instrument((71,), 50, 89),
    "flute": Instrument((73,), 60, 93),
    "guitar": Instrument((24, 25), 40, 81, chordal=True),
    "mallet_percussion": Instrument((11, 12, 13), 53, 93, chordal=True),
    "organ": Instrument((16, 19), 36, 91, chordal=True),
    "piano": Instrument((0, 1), 33, 93, chordal=True),
    "saxophone": Instrument((64, 66), 49, 80),
    "trombone": Instrument((57,), 40, 72),
    "trumpet": Instrument((56,), 54, 84),
    "violin": Instrument((40,), 55, 93),
    "voice": Instrument((52,), 43, 79, chordal=True),
}


@dataclass(frozen=True)
class Played:
    """One key press: begin and end in seconds of the clip, MIDI key, velocity 1 to 127."""

    start_s: float
    end_s: float
    key: int
    velocity: int


@dataclass(frozen=True)
class Part:
    """What one instrument plays; ``bank`` is a number in the list of sound banks."""

    instrument: str
    program: int
    bank: int
    level_db: float
    bend_cents: float
    notes: tuple[Played, ...]


@dataclass(frozen=True)
class Arrangement:
    """One clip: where it goes (below the audio root), its hymn or work, and its parts."""

    path: str
    split: str
    hymn: str
    peak_db: float
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Excerpt:
    """Where in a score a clip begins, in quarter notes, how fast it goes, and in which key."""

    start: float
    quarters_per_s: float
    transpose: int


def split_hymns(chorales: Sequence[Chorale], shares: dict[str, int], seed: int) -> dict[str, list[Chorale]]:
    """Deal whole hymns to splits until each has its share of the settings, in a shuffled order.

    Args:
        shares: clips wanted of each split; the first split takes what is left over.
    """
    hymns: dict[str, list[Chorale]] = {}
    for chorale in chorales:
        hymns.setdefault(chorale.hymn, []).append(chorale)
    order = shuffled(Random(f"{seed} hymns"), sorted(hymns))
    dealt: dict[str, list[Chorale]] = {name: [] for name in shares}
    total, (rest, *others) = sum(shares.values()), shares
    for hymn in order:
        wanting = [name for name in others if len(dealt[name]) * total < shares[name] * len(chorales)]
        dealt[wanting[0] if wanting else rest] += hymns[hymn]
    return {name: shuffled(Random(f"{seed} {name}"), members) for name, members in dealt.items()}


def arrange(chorale: Chorale, path: str, split: str, *, n_banks: int, seed: int) -> Arrangement:
    """One clip from a chorale: two to four instruments play its voices, drawn by seed and path."""
    rng = Random(f"{seed} {path}")
    excerpt = _draw_excerpt(rng, chorale)
    voices = [voice for voice in range(N_VOICES) if sounding_s(chorale.voices[voice], excerpt) >= _MIN_SOUNDING_S]
    voices = shuffled(rng, voices)
    n_parts = min(2 + int(rng.random() * 3), len(voices))
    names = shuffled(rng, sorted(INSTRUMENTS))[:n_parts]
    parts = [_draw_part(rng, chorale.voices[voices[index]], excerpt, name, n_banks) for index, name in enumerate(names)]
    for voice in voices[n_parts:]:
        index = int(rng.random() * n_parts)
        if INSTRUMENTS[names[index]].chordal:
            more = play(rng, chorale.voices[voice], excerpt, INSTRUMENTS[names[index]])
            notes = tuple(sorted((*parts[index].notes, *more), key=lambda note: (note.start_s, note.key)))
            parts[index] = replace(parts[index], notes=notes)
    return Arrangement(path, split, chorale.hymn, round(-6 + 5 * rng.random(), 2), tuple(parts))


def in_other_bank(arrangement: Arrangement, path: str, split: str, bank: int) -> Arrangement:
    """The same notes at the same levels, all played by another bank."""
    parts = tuple(replace(part, bank=bank) for part in arrangement.parts)
    return replace(arrangement, path=path, split=split, parts=parts)


def _draw_excerpt(rng: Random, chorale: Chorale) -> Excerpt:
    quarters_per_s = (60 + 50 * rng.random()) / 60
    room = chorale.length - CLIP_S * quarters_per_s
    start = float(int(rng.random() * (room + 1))) if room > 0 else 0.0
    return Excerpt(start, quarters_per_s, int(rng.random() * 11) - 5)


def _draw_part(rng: Random, voice: Sequence[Note], excerpt: Excerpt, name: str, n_banks: int) -> Part:
    instrument = INSTRUMENTS[name]
    notes = play(rng, voice, excerpt, instrument)
    return Part(
        instrument=name,
        program=choose(rng, instrument.programs),
        bank=int(rng.random() * n_banks),
        level_db=round(-9 * rng.random(), 2),
        bend_cents=round(30 * rng.random() - 15, 1),
        notes=notes,
    )


def play(rng: Random, voice: Sequence[Note], excerpt: Excerpt, instrument: Instrument) -> tuple[Played, ...]:
    """A voice in the instrument's range, with a touch of its own and small errors of time and force."""
    inside = [note for note in voice if _overlap_s(note, excerpt) > 0.05]
    shift = excerpt.transpose + _octaves(rng, [note.key + excerpt.transpose for note in inside], instrument)
    force, gate = 60 + 45 * rng.random(), 0.82 + 0.18 * rng.random()
    played = []
    for note in inside:
        start_s = (note.onset - excerpt.start) / excerpt.quarters_per_s + 0.024 * (rng.random() - 0.5)
        length_s = gate * note.length / excerpt.quarters_per_s
        accent = 6 if note.on_beat else 0
        velocity = min(127, max(20, round(force + accent + 16 * (rng.random() - 0.5))))
        end_s = max(start_s + length_s, 0.02)
        played.append(Played(round(max(start_s, 0.0), 4), round(end_s, 4), note.key + shift, velocity))
    return tuple(played)


def _octaves(rng: Random, keys: Sequence[int], instrument: Instrument) -> int:
    """A shift by octaves that brings the keys into the range: any of the fitting ones up to one octave off."""
    shifts = [12 * octave for octave in range(-4, 5)]
    outside = {shift: sum(not instrument.low <= key + shift <= instrument.high for key in keys) for shift in shifts}
    fewest = min(outside.values())
    nearest = min(abs(shift) for shift in shifts if outside[shift] == fewest)
    return choose(rng, [s for s in shifts if outside[s] == fewest and abs(s) <= max(nearest, 12)])


def _overlap_s(note: Note, excerpt: Excerpt) -> float:
    start_s = (note.onset - excerpt.start) / excerpt.quarters_per_s
    end_s = (note.end - excerpt.start) / excerpt.quarters_per_s
    return min(end_s, CLIP_S) - max(start_s, 0.0)


def sounding_s(voice: Sequence[Note], excerpt: Excerpt) -> float:
    """How long the notes of a voice last within the excerpt, in seconds."""
    return sum(max(0.0, _overlap_s(note, excerpt)) for note in voice)


def choose(rng: Random, values: Sequence[_T]) -> _T:
    """One of the values, all alike."""
    return values[int(rng.random() * len(values))]


def shuffled(rng: Random, values: Sequence[_T]) -> list[_T]:
    """The values in an order of chance."""
    keyed = [(rng.random(), index) for index in range(len(values))]
    return [values[index] for _, index in sorted(keyed)]
