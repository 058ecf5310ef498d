"""PANNs against the original classes, with the same random weights: all networks of the family."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from narrow_panns import make_random_checkpoint
from parity.case import Arrays, Case

from pipeline.audio.extractor import Mode, build_extractor
from pipeline.cards import ExtractorCard
from pipeline.extraction.teachers.panns.card import CARDS
from pipeline.extraction.teachers.panns.extractor import Panns
from pipeline.extraction.teachers.panns.front_end import power_by_fft, reflected

_PANNS, _CONETTE = "panns_inference.models", "conette.nn.pann_utils.models"
ORIGINALS = {
    "Cnn14": _PANNS,
    "Cnn14_DecisionLevelMax": _PANNS,
    "Cnn14_pruned": "epanns_inference.models.models",
    "Cnn10": _CONETTE,
    "Cnn6": _CONETTE,
    "MobileNetV1": _CONETTE,
    "MobileNetV2": _CONETTE,
}
"""Network to the module that has the original class; conette 0.3.2 carries the repository's ``models.py``."""


def cases() -> tuple[Case, ...]:
    """One row per network; the short signal is below what the originals take."""
    return tuple(map(_case, CARDS))


def _case(card: ExtractorCard) -> Case:
    network = str(card.parameters["network"])
    return Case(
        name=f"{card.name} ({network})",
        original="panns.py",
        environment="torch",
        rate_hz=card.rate_hz,
        weights=partial(_weights, network),
        ours=partial(_ours, card),
        random=True,
        arguments=(f"{ORIGINALS[network]}:{network}",),
        note=f"original class from {ORIGINALS[network].partition('.')[0]}; it fails on the short signal",
    )


def _weights(network: str, folder: Path) -> Path:
    path = folder / f"{network}.pth"
    make_random_checkpoint(path, network=network)
    return path


def _ours(card: ExtractorCard, weights: Path, mode: Mode, signals: Mapping[str, np.ndarray]) -> Arrays:
    """All signals as one batch of differing lengths."""
    outputs = tuple(output.name for output in card.outputs)
    extractor = build_extractor(card, outputs=outputs, mode=mode, weights=(weights,))
    rows = [torch.from_numpy(signal) for signal in signals.values()]
    audio = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    made = extractor(audio, torch.tensor(list(map(len, rows))))
    found: Arrays = {f"{name}/front_end": _logmel(extractor, row) for name, row in zip(signals, rows, strict=True)}
    for output, frames in made.items():
        for at, name in enumerate(signals):
            found[f"{name}/{output}"] = frames.features[at, : frames.n_frames[at]].numpy()
    return found


def _logmel(extractor: object, signal: torch.Tensor) -> np.ndarray:
    assert isinstance(extractor, Panns)
    network = extractor.encoder.get_submodule("network")
    padded = reflected(signal[None], torch.tensor([len(signal)]))
    power = power_by_fft(padded) if extractor.mode != "exact" else network.spectrogram_extractor(padded)
    found: np.ndarray = network.logmel_extractor(power)[0].numpy()
    return found
