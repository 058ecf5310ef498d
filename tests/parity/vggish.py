"""VGGish against torchvggish, with the same random weights: all three variants."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from narrow_vggish import make_random_checkpoint
from parity.case import Arrays, Case

from pipeline import weights as files
from pipeline.audio.extractor import Mode, build_extractor
from pipeline.cards import ExtractorCard
from pipeline.extraction.teachers.vggish.card import CARDS


def cases() -> tuple[Case, ...]:
    """One row per variant; the original gives nothing for the short signal."""
    return tuple(map(_case, CARDS))


def _case(card: ExtractorCard) -> Case:
    variant = str(card.parameters["variant"])
    steps = "; in steps of 1/256, of which float32 may miss one" if variant == "quantised" else ""
    return Case(
        name=card.name,
        original="vggish.py",
        environment="torch",
        rate_hz=card.rate_hz,
        weights=_weights,
        ours=partial(_ours, card),
        random=True,
        arguments=(variant,),
        note=f"torchvggish gives nothing for the short signal{steps}",
    )


def _weights(folder: Path) -> Path:
    make_random_checkpoint(folder)
    return folder


def _ours(card: ExtractorCard, folder: Path, mode: Mode, signals: Mapping[str, np.ndarray]) -> Arrays:
    """All signals as one batch of differing lengths."""
    extractor = build_extractor(card, mode=mode, weights=files.fetch_all(card.weights, local=folder))
    rows = [torch.from_numpy(signal) for signal in signals.values()]
    audio = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    made = extractor(audio, torch.tensor(list(map(len, rows))))["embedding"]
    found: Arrays = {}
    for at, (name, row) in enumerate(zip(signals, rows, strict=True)):
        if len(row) >= 400:
            logmel = extractor.get_submodule("front_end")(row[None])[0]
            found[f"{name}/front_end"] = logmel[: len(logmel) // 96 * 96].reshape(-1, 96, 64).numpy()
        found[f"{name}/embedding"] = made.features[at, : made.n_frames[at]].numpy()
    return found
