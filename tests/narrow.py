"""Extractors small enough for contract tests.

A front end is built as it is.  A teacher of the family ``NAME`` (the folder of its builder) has a
module ``narrow_NAME.py`` beside this one with::

    def build(card, *, outputs, mode, folder) -> Extractor

which gives random weights of a narrow width, by way of files in ``folder`` where the reader should
be on the way, and a card whose channels are the narrow ones.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest

from pipeline import weights
from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.cards import ExtractorCard


def build_narrow(card: ExtractorCard, folder: Path, *, outputs: tuple[str, ...] = (), mode: Mode = "fast") -> Extractor:
    outputs = outputs or tuple(output.name for output in card.outputs)
    if not card.weights:
        return build_extractor(card, outputs=outputs, mode=mode)
    family = card.builder.partition(":")[0].split(".")[-2]
    if importlib.util.find_spec(f"narrow_{family}"):
        made = importlib.import_module(f"narrow_{family}").build(card, outputs=outputs, mode=mode, folder=folder)
        return made.eval().requires_grad_(False)
    files = tuple(path for path in map(weights.installed, card.weights) if path is not None)
    if len(files) != len(card.weights):
        pytest.skip(f"no tests/narrow_{family}.py, and the weights of {card.name} are not here")
    return build_extractor(card, outputs=outputs, mode=mode, weights=files)
