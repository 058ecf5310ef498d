"""A YAMNet of any width with random weights, as the two files of a TensorFlow checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import bundles
import numpy as np
from numpy.typing import NDArray

from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.cards import ExtractorCard

FULL_WIDTH = 32
_WIDTHS = (1, 2, 4, 4, 8, 8, 16, 16, 16, 16, 16, 16, 32, 32)
"""Channels of the first convolution and of the thirteen pairs, in units of the first."""

Tensors = Mapping[str, NDArray[np.float32]]


def key(layer: int, part: str) -> str:
    return f"layer-1/layer/_func/_yamnet/layer_with_weights-{layer}/{part}/.ATTRIBUTES/VARIABLE_VALUE"


def random_tensors(*, width: int = FULL_WIDTH, classes: int = 521, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Tensors under the names of the official file, with batch-norm statistics that matter."""
    random = np.random.default_rng(seed)
    made: dict[str, NDArray[np.float64]] = {}
    n_in = 1
    for number in range(27):
        depthwise = number % 2 == 1
        n_out = n_in if depthwise else width * _WIDTHS[number // 2]
        size = 1 if number and not depthwise else 3
        fan_in = size * size * (1 if depthwise else n_in)
        shape = (size, size, n_in, 1 if depthwise else n_out)
        name = "depthwise_kernel" if depthwise else "kernel"
        made[key(2 * number, name)] = random.normal(0, (2 / fan_in) ** 0.5, shape)
        made[key(2 * number + 1, "beta")] = random.normal(0, 0.2, n_out)
        made[key(2 * number + 1, "moving_mean")] = random.normal(0, 0.2, n_out)
        made[key(2 * number + 1, "moving_variance")] = random.uniform(0.5, 2, n_out)
        n_in = n_out
    made[key(54, "kernel")] = random.normal(0, n_in**-0.5, (n_in, classes))
    made[key(54, "bias")] = random.normal(0, 0.2, classes)
    return {name: tensor.astype(np.float32) for name, tensor in made.items()}


def make_random_checkpoint(folder: Path, *, width: int = FULL_WIDTH, seed: int = 0) -> tuple[Path, Path]:
    """Write ``variables.index`` and ``variables.data-00000-of-00001``."""
    return write(folder, random_tensors(width=width, seed=seed))


def write(folder: Path, tensors: Tensors) -> tuple[Path, Path]:
    files = folder / "variables.index", folder / "variables.data-00000-of-00001"
    bundles.write_bundle(*files, tensors)
    return files


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, folder: Path, width: int = 2) -> Extractor:
    files = make_random_checkpoint(folder, width=width)
    return build_extractor(narrow(card, width), outputs=outputs, mode=mode, weights=files)


def narrow(card: ExtractorCard, width: int) -> ExtractorCard:
    sizes = {"embedding": 32 * width, "scores": 521}
    return replace(card, outputs=tuple(replace(output, channels=sizes[output.name]) for output in card.outputs))
