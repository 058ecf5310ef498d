"""MusiCNN's real weights hear drums, a choir and a guitar, rendered with the sound banks of the dataset."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import weights
from pipeline.audio.extractor import build_extractor
from pipeline.audio.samples import Samples, resample
from pipeline.cards import WeightsCard
from pipeline.datasets.chorales_card import SCORES, SEEN_BANKS
from pipeline.datasets.corpora.arrange import CLIP_S, INSTRUMENTS, Part, Played
from pipeline.datasets.corpora.notes import Chorale, read_chorale
from pipeline.datasets.corpora.render import RATE_HZ, Renderer
from pipeline.errors import WeightsError
from pipeline.registry import find_teacher

pytestmark = [pytest.mark.weights, pytest.mark.slow]
tinysoundfont = pytest.importorskip("tinysoundfont")

#: The tags of MagnaTagATune of which one must come first.
FIRST = {"drums": {"drums", "beat"}, "choir": {"choir", "choral"}, "guitar": {"guitar"}}
#: The Million Song Dataset's tags are genres and moods, none of which is a choir: these together must be
#: highest for this signal.
HIGHEST = {
    "drums": {"dance", "electro", "House", "party"},
    "guitar": {"guitar", "acoustic", "folk", "blues"},
}
TEACHERS = {"musicnn": "MTT", "musicnn-vgg": "MTT", "musicnn-msd": "MSD", "musicnn-vgg-msd": "MSD"}
QUARTERS_PER_S = 1.2
KICK, SNARE, HAT, DRUM_CHANNEL, DRUM_BANK = 36, 38, 42, 9, 128
TOP = 5


@pytest.fixture(scope="module")
def banks() -> list[Path]:
    return [fetched(bank) for bank in SEEN_BANKS]


@pytest.fixture(scope="module")
def chorale() -> Chorale:
    found = read_chorale(fetched(SCORES) / "bwv269.mxl")
    assert found is not None
    return found


def fetched(card: WeightsCard) -> Path:
    try:
        return weights.fetch(card)
    except WeightsError as error:
        pytest.skip(f"{card.name} is not to be had here: {error}")


def played(chorale: Chorale, instrument: str, voices: tuple[int, ...], shift: int) -> Part:
    """The beginning of a chorale on one instrument."""
    notes = [note for voice in voices for note in chorale.voices[voice] if note.onset / QUARTERS_PER_S < CLIP_S]
    keys = [
        Played(note.onset / QUARTERS_PER_S, (note.onset + 0.95 * note.length) / QUARTERS_PER_S, note.key + shift, 95)
        for note in sorted(notes, key=lambda note: note.onset)
    ]
    return Part(instrument, INSTRUMENTS[instrument].programs[0], 0, 0.0, 0.0, tuple(keys))


def drum_pattern(bank: Path) -> Samples:
    """Kick on one and three, snare on two and four, hats in eighths, at 125 beats a minute."""
    synth = tinysoundfont.Synth(samplerate=RATE_HZ)
    synth.program_select(DRUM_CHANNEL, synth.sfload(str(bank)), DRUM_BANK, 0)
    blocks, step = [], round(0.12 * RATE_HZ)
    for sixteenth in range(int(CLIP_S / 0.12)):
        beat = sixteenth % 16
        hit = [
            key for key, when in ((KICK, beat in (0, 8, 10)), (SNARE, beat in (4, 12)), (HAT, beat % 2 == 0)) if when
        ]
        for key in hit:
            synth.noteon(DRUM_CHANNEL, key, 110)
        block = np.frombuffer(synth.generate_simple(step), np.float32)
        blocks.append((block[0::2] + block[1::2]) / 2)
        for key in hit:
            synth.noteoff(DRUM_CHANNEL, key)
    return np.concatenate(blocks)


@pytest.fixture(scope="module", params=range(len(SEEN_BANKS)), ids=[bank.name for bank in SEEN_BANKS])
def signals(request: pytest.FixtureRequest, banks: list[Path], chorale: Chorale) -> dict[str, Samples]:
    bank = banks[request.param]
    renderer = Renderer([bank])
    return {
        "drums": drum_pattern(bank),
        "choir": renderer.stem(played(chorale, "voice", (0, 1, 2, 3), 0)),
        "guitar": renderer.stem(played(chorale, "guitar", (0, 3), 0)),
    }


@pytest.mark.parametrize("name", TEACHERS)
def test_tags_fit_what_sounds(signals: dict[str, Samples], name: str) -> None:
    trained_on = TEACHERS[name]
    labels = np.load(Path(__file__).parents[1] / "golden" / "musicnn.npz", allow_pickle=False)[f"{trained_on}/labels"]
    scores = {what: taggram(name, signal) for what, signal in signals.items()}
    for what, values in scores.items():
        order = np.argsort(-values)[:TOP]
        ranked = ", ".join(f"{labels[index]} {values[index]:.2f}" for index in order)
        print(f"{name:16} {what:7} {ranked}")
        if trained_on == "MTT":
            assert labels[order[0]] in FIRST[what], f"{what}: {ranked}"
        elif what in HIGHEST:
            chosen = np.isin(labels, list(HIGHEST[what]))
            assert max(scores, key=lambda other: scores[other][chosen].sum()) == what, f"{what}: {ranked}"


def taggram(name: str, signal: Samples) -> np.ndarray:
    """Probabilities of the tags, mean over patches."""
    card = find_teacher(name)
    extractor = build_extractor(card, outputs=("taggram",), weights=tuple(map(fetched, card.weights)))
    audio = torch.from_numpy(resample(0.7 * signal / np.abs(signal).max(), RATE_HZ, card.rate_hz))[None]
    made: np.ndarray = extractor(audio, torch.tensor([audio.shape[1]]))["taggram"].features[0].mean(0).numpy()
    return made
