"""PaSST: hear21passt 0.0.26 and ours, with the same random weights of full size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from narrow_passt import make_random_checkpoint
from parity.case import Arrays, Case

from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.extraction.teachers.passt.card import RATE_HZ
from pipeline.extraction.teachers.passt.extractor import Passt
from pipeline.registry import find_teacher

_NOTE = (
    "the original runs with torchaudio's own mel filters and a stand-in for the rest of torchaudio and timm; it takes "
    "no clip of half a window or less, and no scene below 0.15 s, so that `short` is compared where it can be; "
    "`scene_long` is the music four times over, 12 s"
)
_LONG = "music"


def cases() -> tuple[Case, ...]:
    """The paper's windows, and those that hear21passt has by default."""
    return (_case("passt", 0.96, 0.96, long=True), _case("passt:window=0.16:hop=0.05", 0.16, 0.05))


def _case(request: str, window_s: float, hop_s: float, *, long: bool = False) -> Case:
    windows = (f"{1000 * window_s:g}", f"{1000 * hop_s:g}")
    return Case(
        name=request,
        original="passt.py",
        environment="torch",
        rate_hz=RATE_HZ,
        weights=_weights,
        ours=partial(_ours, request, long),
        random=True,
        arguments=(*windows, "long") if long else windows,
        note=_NOTE,
    )


def _weights(folder: Path) -> Path:
    path = folder / "passt.pt"
    make_random_checkpoint(path)
    return path


def _ours(request: str, long: bool, weights: Path, mode: Mode, signals: Mapping[str, np.ndarray]) -> Arrays:
    card = find_teacher(request)
    names = tuple(output.name for output in card.outputs)
    extractor = build_extractor(card, outputs=names, mode=mode, weights=(weights,))
    return {key: array for name, signal in signals.items() for key, array in _signal(extractor, name, signal, long)}


def _signal(extractor: Extractor, name: str, signal: np.ndarray, long: bool) -> Iterator[tuple[str, np.ndarray]]:
    assert isinstance(extractor, Passt)
    audio = torch.from_numpy(signal)[None]
    with torch.inference_mode():
        yield f"{name}/front_end", extractor.front_end(audio)[0].T.numpy()
    made = _run(extractor, audio)
    for output, features in made.items():
        yield f"{name}/{output}", features
    card = extractor.card.output("embedding")
    times = card.offset_s + card.window_s / 2 + card.hop_s * np.arange(len(made["embedding"]))
    yield f"{name}/timestamps", times[:, None].astype(np.float32)
    if long and name == _LONG:
        for output, features in _run(extractor, audio.tile(1, 4)).items():
            if output.startswith("scene"):
                yield f"{name}/{output}_long", features


def _run(extractor: Extractor, audio: torch.Tensor) -> Arrays:
    made = extractor(audio, torch.tensor([audio.shape[1]]))
    return {output: frames.features[0].numpy() for output, frames in made.items()}
