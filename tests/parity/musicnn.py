"""The musicnn package's four networks against musicnn 0.1.0, with their real weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from parity.case import Arrays, Case

from pipeline import weights as weights_cache
from pipeline.audio.extractor import Mode, build_extractor
from pipeline.registry import find_teacher

MODELS = {
    "musicnn": "MTT_musicnn",
    "musicnn-msd": "MSD_musicnn",
    "musicnn-vgg": "MTT_vgg",
    "musicnn-vgg-msd": "MSD_vgg",
}
_SUFFIXES = (".index", ".data-00000-of-00001")


def cases() -> tuple[Case, ...]:
    """Two networks, each trained on two datasets."""
    return tuple(
        Case(
            name=f"{teacher} ({model})",
            original="musicnn.py",
            environment="tensorflow",
            rate_hz=16_000,
            weights=partial(_fetch, teacher),
            ours=partial(_ours, teacher),
            random=False,
            arguments=(model,),
            note="*frames*: the original's network over the whole clip. It has no patches of a clip shorter than one",
        )
        for teacher, model in MODELS.items()
    )


def _fetch(teacher: str, folder: Path) -> Path:
    """The checkpoint under the names that TensorFlow's restoring takes."""
    for path, suffix in zip(weights_cache.fetch_all(find_teacher(teacher).weights), _SUFFIXES, strict=True):
        shutil.copy(path, folder / suffix)
    return folder


def _ours(teacher: str, weights: Path, mode: Mode, signals: Mapping[str, np.ndarray]) -> Arrays:
    card, files = find_teacher(teacher), tuple(weights / suffix for suffix in _SUFFIXES)
    outputs = tuple(output.name for output in card.outputs)
    extractor = build_extractor(card, outputs=outputs, mode=mode, weights=files)
    made: Arrays = {}
    for name, signal in signals.items():
        audio = torch.from_numpy(signal)[None]
        with torch.inference_mode():
            made[f"{name}/front_end"] = extractor.get_submodule("front_end")(audio)[0].numpy()
        for output, (features, _) in extractor(audio, torch.tensor([audio.shape[1]])).items():
            made[f"{name}/{output}"] = features[0].numpy()
    return made
