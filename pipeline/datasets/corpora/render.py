"""From an arrangement to a sound file: one instrument at a time, each stem's energy measured.

A class is labelled present only if its stem sounds, so labels are checked against the audio itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from pipeline.datasets.corpora.arrange import CLIP_S, Arrangement, Part, Played
from pipeline.datasets.corpora.drums import PERCUSSION
from pipeline.datasets.corpora.sampler import Sampler
from pipeline.errors import ManifestError, MissingExtraError

RATE_HZ = 32_000
VERSION = 1  # raise it when the same arrangement is to give other samples
SILENT_DB = -70.0
_HIGH_PASS = butter(2, 25, "highpass", fs=RATE_HZ, output="sos")  # some samples stand beside zero
_SETTLE = RATE_HZ // 10  # samples after which nothing of the stem before is left
_Event = tuple[int, int, int, int]  # sample, 0 off or 1 on, key, velocity


@dataclass(frozen=True)
class NoteFolders:
    """A sound bank of single recorded notes: for each General MIDI program the folder of its notes."""

    name: str
    folders: tuple[tuple[int, Path], ...]


BankFile = Path | NoteFolders  # a SoundFont file, or folders of notes


@dataclass(frozen=True)
class Rendered:
    """One clip on disk: its size, and each part's level before it was scaled, in dB of full scale."""

    path: str
    n_bytes: int
    stems: dict[str, float]


class Renderer:
    """Sound banks in memory, ready to render.

    Raises:
        MissingExtraError: ``tinysoundfont`` is not installed.
    """

    def __init__(self, banks: Sequence[BankFile]) -> None:
        try:
            import tinysoundfont
        except ImportError as error:
            raise MissingExtraError(
                "Rendering needs tinysoundfont: pip install --no-deps tinysoundfont==0.3.7 "
                "(--no-deps, since its full install wants the PortAudio library, which is not used here)."
            ) from error
        self._synth: Any = tinysoundfont.Synth(samplerate=RATE_HZ)
        self._banks: list[int | Sampler] = [
            self._synth.sfload(str(bank)) if isinstance(bank, Path) else Sampler(dict(bank.folders), RATE_HZ)
            for bank in banks
        ]

    def render(self, arrangement: Arrangement, folder: Path) -> Rendered:
        """Write the clip as mono 16-bit FLAC below ``folder``; a half-written file never has its name."""
        mix = np.zeros(round(CLIP_S * RATE_HZ), dtype=np.float32)
        stems = {}
        for part in arrangement.parts:
            stem = self.stem(part)
            level_db = rms_db(stem)
            stems[part.instrument] = round(level_db, 2)
            if level_db > SILENT_DB:
                mix += stem * np.float32(10 ** ((part.level_db - level_db) / 20))
        peak = float(np.abs(mix).max())
        if peak > 0:
            mix *= np.float32(10 ** (arrangement.peak_db / 20) / peak)
        path = folder / arrangement.path
        return Rendered(arrangement.path, _publish_flac(path, mix), stems)

    def stem(self, part: Part) -> NDArray[np.float32]:
        """What one instrument plays: [samples] at :data:`RATE_HZ`, mono, without what lies below 25 Hz."""
        bank = self._banks[part.bank]
        n_samples = round(CLIP_S * RATE_HZ)
        out = bank.play(part, n_samples) if isinstance(bank, Sampler) else self._synthesise(part, bank, n_samples)
        return np.asarray(sosfilt(_HIGH_PASS, out), dtype=np.float32)

    def _synthesise(self, part: Part, bank: int, n_samples: int) -> NDArray[np.float32]:
        synth = self._synth
        synth.sounds_off()
        synth.generate_simple(_SETTLE)
        synth.program_select(0, bank, 0, part.program, part.instrument in PERCUSSION)
        synth.pitchbend(0, round(8192 + part.bend_cents / 200 * 8192))
        out = np.zeros(n_samples, dtype=np.float32)
        position = 0
        for sample, is_on, key, velocity in (*_events(part.notes), (n_samples, 0, 0, 0)):
            if sample > position:
                block = np.frombuffer(synth.generate_simple(sample - position), dtype=np.float32)
                out[position:sample] = (block[0::2] + block[1::2]) / 2
                position = sample
            synth.noteon(0, key, velocity) if is_on else synth.noteoff(0, key)
        return out


def rms_db(samples: NDArray[np.float32]) -> float:
    """Root mean square in dB of full scale; -200 for digital silence."""
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return 10 * float(np.log10(max(power, 1e-20)))


def present(rendered: Rendered, classes: Sequence[str]) -> NDArray[np.int8]:
    """Labels of a clip: 1 for each class whose stem sounds, 0 for the others."""
    return np.array([rendered.stems.get(name, SILENT_DB) > SILENT_DB for name in classes], dtype=np.int8)


def _events(notes: Sequence[Played]) -> Iterator[_Event]:
    """Key presses in order of time; at the same sample a key goes up before one goes down."""
    limit = round(CLIP_S * RATE_HZ)
    on = [(round(note.start_s * RATE_HZ), 1, note.key, note.velocity) for note in notes]
    off = [(round(note.end_s * RATE_HZ), 0, note.key, 0) for note in notes]
    return (event for event in sorted(on + off) if event[0] < limit)


def _publish_flac(path: Path, samples: NDArray[np.float32]) -> int:
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(
            draft, samples, RATE_HZ, format="FLAC", subtype="PCM_16", compression_level=0
        )  # decodes fastest
        n_bytes = draft.stat().st_size
        draft.replace(path)
        return n_bytes
    except (OSError, soundfile.LibsndfileError) as error:
        raise ManifestError(f"{path} cannot be written: {error}. Is the disk full, or the folder another's?") from error
    finally:
        with suppress(OSError):  # it hides no error of the writing
            draft.unlink(missing_ok=True)
