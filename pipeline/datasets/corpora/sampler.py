"""A player for folders of single recorded notes: the nearest note, resampled to the key.

A folder of the bank is one instrument; its files are named by their note, ``As3.mp3`` for A sharp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import firwin, resample_poly

from pipeline.datasets.corpora.arrange import Part
from pipeline.errors import WeightsError

_NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_NAME = re.compile(r"([A-G])(s?)(\d)\.mp3")
_LONGEST_S = 6.0
_RELEASE_S = 0.12
_LARGEST_FACTOR = 160
_MARGIN = 64  # samples, so that no filter rings at the end of what is taken
Samples = NDArray[np.float32]


class Sampler:
    """Instruments by General MIDI program, each a folder of recorded notes.

    Args:
        folders: for each program the folder of its notes.
        rate_hz: of what is played.

    Raises:
        WeightsError: a folder holds no notes.
    """

    def __init__(self, folders: Mapping[int, Path], rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._notes = {program: _list_notes(folder) for program, folder in folders.items()}

    def play(self, part: Part, n_samples: int) -> Samples:
        """What one instrument plays: [samples], mono; velocity sets the level, a short fade ends a note."""
        out = np.zeros(n_samples, dtype=np.float32)
        release = round(_RELEASE_S * self._rate_hz)
        for note in part.notes:
            start = round(note.start_s * self._rate_hz)
            held = max(round((note.end_s - note.start_s) * self._rate_hz), release // 4)
            length = min(held + release, n_samples - start)
            if length <= 0:
                continue
            samples = self._pitched(part.program, note.key, part.bend_cents, length)
            gain = np.clip((held + release - np.arange(len(samples))) / release, 0.0, 1.0)
            out[start : start + len(samples)] += samples * (gain * (note.velocity / 127) ** 2).astype(np.float32)
        return out

    def _pitched(self, program: int, key: int, bend_cents: float, length: int) -> Samples:
        """The beginning of the nearest recorded note, faster or slower until it has the key's pitch."""
        notes = self._notes[program]
        nearest = min(notes, key=lambda recorded: (abs(recorded - key), recorded))
        samples, rate_hz = _read(notes[nearest])
        factor = self._rate_hz / rate_hz / 2 ** ((key - nearest + bend_cents / 100) / 12)
        ratio = Fraction(factor).limit_denominator(_LARGEST_FACTOR)
        up, down = ratio.numerator, ratio.denominator
        pitched = resample_poly(samples[: round(length / factor) + _MARGIN], up, down, window=_low_pass(up, down))
        return np.asarray(pitched[:length], dtype=np.float32)


@lru_cache(2000)
def _low_pass(up: int, down: int) -> NDArray[np.float64]:
    """The filter that ``resample_poly`` would design, kept."""
    most = max(up, down)
    return np.asarray(firwin(20 * most + 1, 1 / most, window=("kaiser", 5.0)))


def _list_notes(folder: Path) -> dict[int, Path]:
    """Files by MIDI key."""
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("*.mp3")):
        name = _NAME.fullmatch(path.name)
        if name is not None:
            found[12 * (int(name[3]) + 1) + _NATURALS[name[1]] + len(name[2])] = path
    if not found:
        raise WeightsError(f"{folder} holds no recorded notes (such as As3.mp3). Fetch the sound bank again.")
    return found


@lru_cache(400)
def _read(path: Path) -> tuple[Samples, int]:
    """The first seconds of a recorded note, from where it begins to sound."""
    with soundfile.SoundFile(path) as file:
        samples = file.read(round(1.5 * _LONGEST_S * file.samplerate), dtype="float32", always_2d=True).mean(axis=1)
        rate_hz = file.samplerate
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    begins = max(0, int(loud[0]) - round(0.005 * rate_hz)) if len(loud) else 0
    return samples[begins:], rate_hz
