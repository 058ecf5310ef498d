"""OpenL3 against openl3 0.4.2: three spectrograms, two sizes, three ways of cutting windows."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from narrow_openl3 import make_random_weights
from parity.case import Arrays, Case

from pipeline.audio.extractor import Mode, build_extractor
from pipeline.cards import ExtractorCard
from pipeline.extraction.teachers.openl3.extractor import OpenL3
from pipeline.registry import find_teacher

_CUTS = {"embedding": "hop=0.1", "paper": "hop=0.96", "from_start": "hop=0.5:center=false"}
_NOTE = (
    "the front end is that of windows 0.96 s apart; *paper* has a hop of 0.96 s, *from_start* windows that are not "
    "centred. In a pure tone most bins hold the rounding errors of a float32 transform, which `exact` repeats and "
    "`fast` leaves out"
)


def cases() -> tuple[Case, ...]:
    """The paper's network, its long embedding, and the two other spectrograms."""
    return tuple(
        Case(
            name=f"openl3 ({representation}, {size})",
            original="openl3.py",
            environment="tensorflow",
            rate_hz=48_000,
            weights=_weights,
            ours=partial(_ours, f"{teacher}:size={size}"),
            random=True,
            arguments=(representation, str(size)),
            note=_NOTE,
        )
        for teacher, representation, size in (
            ("openl3", "mel128", 512),
            ("openl3", "mel128", 6144),
            ("openl3-mel256", "mel256", 512),
            ("openl3-linear", "linear", 512),
        )
    )


def _weights(folder: Path) -> Path:
    return make_random_weights(folder / "openl3_audio_mel128_music-v0_4_0.h5.gz", seed=5)


def _ours(teacher: str, weights: Path, mode: Mode, signals: Mapping[str, np.ndarray]) -> Arrays:
    made: Arrays = {}
    for output, options in _CUTS.items():
        extractor = _build(find_teacher(f"{teacher}:{options}"), weights, mode)
        for name, signal in signals.items():
            audio, n_valid = torch.from_numpy(signal)[None], torch.tensor([len(signal)])
            made[f"{name}/{output}"] = extractor(audio, n_valid)["embedding"].features[0].numpy()
            if output == "paper":
                windows = extractor.windows(audio, extractor.count_frames("embedding", len(signal)))[0]
                made[f"{name}/front_end"] = extractor.front_end(windows).numpy()
    return made


def _build(card: ExtractorCard, weights: Path, mode: Mode) -> OpenL3:
    extractor = build_extractor(card, mode=mode, weights=(weights,))
    assert isinstance(extractor, OpenL3)
    return extractor
