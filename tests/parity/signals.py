"""The four signals of the parity table: a chirp, noise, a rendered music clip, a very short clip."""

from __future__ import annotations

from functools import cache

import numpy as np

from pipeline import weights
from pipeline.audio.samples import Samples, resample
from pipeline.datasets.chorales_card import SEEN_BANKS
from pipeline.datasets.corpora.arrange import INSTRUMENTS, Part, Played
from pipeline.datasets.corpora.render import RATE_HZ as RENDERED_HZ
from pipeline.datasets.corpora.render import Renderer

DURATION_S = 3.0
SHORT_S = 0.1
_MELODY = (60, 64, 67, 72, 71, 67, 65, 62)
_NOTE_S = 0.35


def make_signals(rate_hz: int) -> dict[str, Samples]:
    """Mono float32 by name, within [-1, 1]."""
    n = round(DURATION_S * rate_hz)
    time_s = np.arange(n) / rate_hz
    octaves = np.log(0.45 * rate_hz / 40)
    sweep = 2 * np.pi * 40 * DURATION_S / octaves * np.expm1(octaves * time_s / DURATION_S)
    noise = np.random.default_rng(1223).uniform(-0.25, 0.25, n)
    music = resample(_music(), RENDERED_HZ, rate_hz)[:n]
    found = {"chirp": 0.7 * np.sin(sweep), "noise": noise, "music": music, "short": noise[: round(SHORT_S * rate_hz)]}
    return {name: np.ascontiguousarray(signal, np.float32) for name, signal in found.items()}


@cache
def _music() -> Samples:
    """Guitar and flute, as the rendered chorales sound."""
    renderer = Renderer([weights.fetch(SEEN_BANKS[0])])
    mix = sum(renderer.stem(_part(name, octave)) for name, octave in (("guitar", -12), ("flute", 12)))
    return np.asarray(0.7 * mix / np.abs(mix).max(), np.float32)


def _part(instrument: str, octave: int) -> Part:
    notes = tuple(
        Played(index * _NOTE_S, (index + 0.9) * _NOTE_S, key + octave, 90) for index, key in enumerate(_MELODY)
    )
    return Part(instrument, INSTRUMENTS[instrument].programs[0], 0, 0.0, 0.0, notes)
