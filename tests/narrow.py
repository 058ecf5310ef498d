"""Extractors small enough for contract tests.

A front end is built as it is, and so is a teacher of a plug-in that needs no files.  A teacher of
the family ``NAME`` (the folder of its builder) has a module ``narrow_NAME.py`` beside this one
with::

    def build(card, *, outputs, mode, folder) -> Extractor

which gives random weights of a narrow width, by way of files in ``folder`` where the reader should
be on the way, and a card whose channels are the narrow ones.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

import pytest

from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.cards import ExtractorCard

_TEACHERS = "pipeline.extraction.teachers."


def build_narrow(card: ExtractorCard, folder: Path, *, outputs: tuple[str, ...] = (), mode: Mode = "fast") -> Extractor:
    outputs = outputs or tuple(output.name for output in card.outputs)
    family = card.builder.removeprefix(_TEACHERS).partition(".")[0] if card.builder.startswith(_TEACHERS) else ""
    if not family:
        return build_extractor(card, outputs=outputs, mode=mode)
    if not importlib.util.find_spec(f"narrow_{family}"):
        pytest.skip(f"{card.name}: there is no tests/narrow_{family}.py yet")
    made: Extractor = importlib.import_module(f"narrow_{family}").build(card, outputs=outputs, mode=mode, folder=folder)
    return made.eval().requires_grad_(False)
