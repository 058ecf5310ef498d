"""From a score of any kind to what is played in a clip: one to five of eighteen instruments.

Every clip is drawn from the seed and its own number alone, so that more clips leave those before as
they are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from random import Random
from typing import TypeVar

from pipeline.datasets.corpora.arrange import (
    CLIP_S,
    INSTRUMENTS,
    Arrangement,
    Excerpt,
    Instrument,
    Part,
    choose,
    play,
    shuffled,
    sounding_s,
)
from pipeline.datasets.corpora.drums import KITS, PERCUSSION, draw_tracks
from pipeline.datasets.corpora.scores import Line, Score, highest

ENSEMBLE: dict[str, Instrument] = INSTRUMENTS | {
    "accordion": Instrument((21, 23), 53, 91, chordal=True),
    "banjo": Instrument((105,), 48, 84, chordal=True),
    "bass": Instrument((32, 33, 34, 35, 36, 37), 28, 55),
    "guitar": Instrument((24, 25, 26, 27, 28, 29), 40, 81, chordal=True),
    "mallet_percussion": Instrument((9, 11, 12, 13), 53, 93, chordal=True),
    "organ": Instrument((16, 17, 18, 19), 36, 91, chordal=True),
    "saxophone": Instrument((64, 65, 66, 67), 44, 82),
    "synthesizer": Instrument((62, 63, 80, 81, 84, 87, 88, 89, 90, 95), 40, 88, chordal=True),
    "trumpet": Instrument((56, 59), 54, 84),
}
WORK_SHARES = {"train": 0.72, "valid": 0.1, "test": 0.18}
_LARGE_WORK = 0.02  # a work of more than this share of the music goes to training
_TUNE_WEIGHT = 0.3  # a bare melody counts for less
_N_PARTS = ((1, 0.12), (2, 0.26), (3, 0.3), (4, 0.2), (5, 0.12))
_DRUM_SHARE = 0.3
_MIN_SOUNDING_S = 3.0
_LONGEST_NOTE = 32.0  # quarter notes that a note before an excerpt may reach into it
_TRIES = 8
_T = TypeVar("_T")


@dataclass(frozen=True)
class Bank:
    """A sound bank as a plan sees it: how often it is drawn, and the programs it has (empty: all)."""

    name: str
    weight: float = 1.0
    programs: frozenset[int] = frozenset()
    has_drums: bool = True


def deal_works(scores: Sequence[Score], seed: int) -> dict[str, list[list[Score]]]:
    """Whole works to train, valid and test, in a shuffled order; shares count by :func:`weight`."""
    works: dict[str, list[Score]] = {}
    for score in scores:
        works.setdefault(score.work, []).append(score)
    total = sum(map(weight, works.values()))
    dealt: dict[str, list[list[Score]]] = {name: [] for name in WORK_SHARES}
    filled = dict.fromkeys(WORK_SHARES, 0.0)
    for name in shuffled(Random(f"{seed} works"), sorted(works)):
        share = weight(works[name]) / total
        wanting = [split for split in ("valid", "test") if filled[split] + share <= WORK_SHARES[split]]
        split = wanting[0] if wanting and share <= _LARGE_WORK else "train"
        dealt[split].append(works[name])
        filled[split] += share
    return dealt


def weight(work: Sequence[Score]) -> float:
    """How often a work is drawn: by the cube root of its length, less where it is a bare melody."""
    length: float = sum(score.length for score in work) ** (1 / 3)
    return length * (_TUNE_WEIGHT if max(len(score.lines) for score in work) == 1 else 1.0)


class Deck:
    """Works to draw scores from: a work by its :func:`weight`, one of its scores by length."""

    def __init__(self, works: Sequence[Sequence[Score]]) -> None:
        self._works = works
        self._weights = [weight(work) for work in works]

    def draw(self, rng: Random) -> Score:
        """One score; the same for the same state of ``rng``."""
        work = _weighted(rng, self._works, self._weights)
        return _weighted(rng, work, [score.length for score in work])


def arrange_score(score: Score, path: str, split: str, *, banks: Sequence[Bank], seed: int) -> Arrangement:
    """One clip from a score; instruments, their banks, drums and everything else by seed and path."""
    rng = Random(f"{seed} {path}")
    n_parts = _weighted(rng, [n for n, _ in _N_PARTS], [share for _, share in _N_PARTS])
    percussion = _draw_percussion(rng)
    excerpt, lines = _draw_excerpt(rng, score)
    n_parts = min(n_parts - len(percussion), 2 * len(lines)) if percussion else min(n_parts, 2 * len(lines))
    n_parts = max(n_parts, 0 if percussion and rng.random() < 0.1 else 1)
    names = shuffled(rng, sorted(ENSEMBLE))[:n_parts]
    lines = shuffled(rng, lines)
    voices = [[lines[index % len(lines)]] for index in range(n_parts)]
    chordal = [index for index, name in enumerate(names) if ENSEMBLE[name].chordal]
    for line in lines[n_parts:] if chordal else ():
        voices[choose(rng, chordal)].append(line)
    parts = [_draw_part(rng, name, played, excerpt, banks) for name, played in zip(names, voices, strict=True)]
    parts += _draw_drums(rng, percussion, excerpt, banks)
    return Arrangement(path, split, score.work, round(-6 + 5 * rng.random(), 2), tuple(parts))


def _draw_excerpt(rng: Random, score: Score) -> tuple[Excerpt, list[Line]]:
    """A place where something sounds, and what is played there: its lines cut to the excerpt.

    The tempo brings the score's usual note, whatever it is written as, to 0.16 to 0.7 s.
    """
    note_s = exp(log(0.16) + rng.random() * (log(0.7) - log(0.16)))
    quarters_per_s = min(score.usual / note_s, score.length / CLIP_S)
    best: tuple[float, Excerpt, list[Line]] | None = None
    for _ in range(_TRIES):
        start = float(int(rng.random() * (score.length - CLIP_S * quarters_per_s + 1)))
        excerpt = Excerpt(start, quarters_per_s, int(rng.random() * 11) - 5)
        lines = [_cut(line, excerpt) for line in score.lines]
        lines = [line for line in lines if sounding_s(line, excerpt) >= _MIN_SOUNDING_S]
        most_s = max((sounding_s(highest(line), excerpt) for line in lines), default=0.0)
        if lines and (best is None or most_s > best[0]):
            best = most_s, excerpt, lines
        if most_s > 0.6 * CLIP_S:
            break
    if best is None:
        whole = Excerpt(0.0, quarters_per_s, 0)
        return whole, [max((_cut(line, whole) or line for line in score.lines), key=len)]
    return best[1], best[2]


def _cut(line: Line, excerpt: Excerpt) -> Line:
    end = excerpt.start + CLIP_S * excerpt.quarters_per_s
    first = bisect_left(line, excerpt.start - _LONGEST_NOTE, key=lambda note: note.onset)
    last = bisect_left(line, end, key=lambda note: note.onset)
    return tuple(note for note in line[first:last] if note.end > excerpt.start)


def _draw_part(rng: Random, name: str, lines: Sequence[Line], excerpt: Excerpt, banks: Sequence[Bank]) -> Part:
    instrument = ENSEMBLE[name]
    played = [
        note for line in lines for note in play(rng, line if instrument.chordal else highest(line), excerpt, instrument)
    ]
    program = choose(rng, instrument.programs)
    fitting = [index for index, bank in enumerate(banks) if not bank.programs or program in bank.programs]
    return Part(
        instrument=name,
        program=program,
        bank=_weighted(rng, fitting, [banks[index].weight for index in fitting]),
        level_db=round(-9 * rng.random(), 2),
        bend_cents=round(30 * rng.random() - 15, 1),
        notes=tuple(sorted(played, key=lambda note: (note.start_s, note.key))),
    )


def _draw_percussion(rng: Random) -> tuple[str, ...]:
    """Nothing, or drums and cymbals, or one of them."""
    if rng.random() >= _DRUM_SHARE:
        return ()
    which = rng.random()
    return PERCUSSION if which < 0.65 else PERCUSSION[:1] if which < 0.85 else PERCUSSION[1:]


def _draw_drums(rng: Random, names: tuple[str, ...], excerpt: Excerpt, banks: Sequence[Bank]) -> list[Part]:
    """Both parts on one kit of one bank, at a beat that is the excerpt's quarter or a doubling of it."""
    if not names:
        return []
    beat_s = 1 / excerpt.quarters_per_s
    while beat_s < 0.35:
        beat_s *= 2
    while beat_s > 0.7:
        beat_s /= 2
    fitting = [index for index, bank in enumerate(banks) if bank.has_drums]
    bank = _weighted(rng, fitting, [banks[index].weight for index in fitting])
    kit = choose(rng, KITS)
    tracks = draw_tracks(rng, beat_s, names)
    return [Part(name, kit, bank, round(-1 - 9 * rng.random(), 2), 0.0, notes) for name, notes in tracks.items()]


def _weighted(rng: Random, values: Sequence[_T], weights: Sequence[float]) -> _T:
    point = rng.random() * sum(weights)
    for value, share in zip(values, weights, strict=True):
        point -= share
        if point < 0:
            return value
    return values[-1]
