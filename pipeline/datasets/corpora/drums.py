"""A simple drum track: a bar of sixteen steps, repeated, with fills; drums and cymbals apart.

Keys are those of the General MIDI percussion map.
"""

from __future__ import annotations

from random import Random

from pipeline.datasets.corpora.arrange import CLIP_S, Played, choose

KITS = (0, 8, 16, 25, 32)
PERCUSSION = ("drums", "cymbals")
_STEPS = 16
_KICKS = ("x.......x.......", "x...x...x...x...", "x.....x.x.......", "x..x..x.....x...", "x.........x.x...")
_SNARES = ("....x.......x...", "........x.......", "....x..x.x..x...", "............x...", "....x.......x..x")
_HATS = ("x.x.x.x.x.x.x.x.", "xxxxxxxxxxxxxxxx", "x...x...x...x...", "..x...x...x...x.", "x..xx..xx..xx..x")
_RING_S = 1.6


def draw_tracks(rng: Random, beat_s: float, names: tuple[str, ...]) -> dict[str, tuple[Played, ...]]:
    """Notes of ``drums`` and ``cymbals``, whichever are in ``names``, over one clip.

    Args:
        beat_s: a quarter of the bar, in seconds.
    """
    step_s = beat_s / 4
    n_bars = int(CLIP_S / (_STEPS * step_s)) + 1
    makers = {"drums": _drums, "cymbals": _cymbals}
    begins_s = rng.random() * beat_s
    return {name: _timed(rng, makers[name](rng, n_bars), step_s, begins_s) for name in names}


def _drums(rng: Random, n_bars: int) -> list[tuple[int, int]]:
    """Step and key of each stroke; every fourth bar or so ends in a fill on the toms."""
    kick, snare = choose(rng, (35, 36)), choose(rng, (38, 40, 38, 40, 37, 39))
    kicks, snares = choose(rng, _KICKS), choose(rng, _SNARES)
    strokes = []
    for bar in range(n_bars):
        has_fill = rng.random() < 0.3
        for step in range(_STEPS):
            if has_fill and step >= 12:
                strokes.append((bar * _STEPS + step, choose(rng, (41, 43, 45, 47, 48, 50))))
                continue
            strokes += [(bar * _STEPS + step, kick)] if kicks[step] == "x" else []
            strokes += [(bar * _STEPS + step, snare)] if snares[step] == "x" else []
    return strokes


def _cymbals(rng: Random, n_bars: int) -> list[tuple[int, int]]:
    """Hi-hats or a ride in a pattern, and crashes at the beginning of some bars."""
    pattern, ride = choose(rng, _HATS), choose(rng, (51, 59, 53))
    on_ride, open_share = rng.random() < 0.35, 0.25 * rng.random()
    crash = choose(rng, (49, 57, 55, 52))
    strokes = []
    for bar in range(n_bars):
        strokes += [(bar * _STEPS, crash)] if rng.random() < 0.35 else []
        for step in range(_STEPS):
            if pattern[step] == "x":
                key = ride if on_ride else 46 if rng.random() < open_share else 42
                strokes.append((bar * _STEPS + step, key))
    return strokes


def _timed(rng: Random, strokes: list[tuple[int, int]], step_s: float, begins_s: float) -> tuple[Played, ...]:
    """Strokes in seconds, each let ring until the next one of its key."""
    gaps, next_step = [0] * len(strokes), dict[int, int]()
    for index, (step, key) in reversed(list(enumerate(strokes))):
        gaps[index] = next_step.get(key, step + _STEPS * _STEPS) - step
        next_step[key] = step
    force = 70 + 40 * rng.random()
    played = []
    for index, (step, key) in enumerate(strokes):
        start_s = begins_s + step * step_s + 0.012 * (rng.random() - 0.5)
        accent = 8 if step % 4 == 0 else -4
        velocity = min(127, max(20, round(force + accent + 18 * (rng.random() - 0.5))))
        length_s = min(_RING_S, 0.9 * gaps[index] * step_s)
        if 0 <= start_s < CLIP_S:
            played.append(Played(round(start_s, 4), round(start_s + length_s, 4), key, velocity))
    return tuple(played)
