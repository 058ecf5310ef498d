"""An OpenL3 network of any width with random weights, as a file in the official format."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np

from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.cards import ExtractorCard
from pipeline.extraction.teachers.openl3.card import BASE_WIDTH, REPRESENTATIONS, configure
from pipeline.extraction.teachers.openl3.network import channels_of

Arrays = dict[str, np.ndarray]


def random_layers(width: int = BASE_WIDTH, seed: int = 0) -> Iterator[tuple[str, Arrays]]:
    """Layers as Keras lists them, those without weights too, under names with arbitrary numbers."""
    random = np.random.default_rng(seed)
    channels = channels_of(width)
    yield "input_7", {}
    yield "batch_normalization_57", _norm(random, 1, mean=-40, variance=400)
    for index, (n_in, n_out) in enumerate(pairwise(channels)):
        scale = (2 / (9 * n_in)) ** 0.5
        kernel, bias = random.normal(0, scale, (3, 3, n_in, n_out)), random.normal(0, 0.2, n_out)
        is_last = index == len(channels) - 2
        yield ("audio_embedding_layer" if is_last else f"conv2d_{41 + index}"), {"kernel": kernel, "bias": bias}
        if not is_last:
            yield f"batch_normalization_{58 + index}", _norm(random, n_out)
            yield f"activation_{9 + index}", {}


def _norm(random: np.random.Generator, n: int, *, mean: float = 0.0, variance: float = 1.0) -> Arrays:
    return {
        "gamma": random.uniform(0.5, 1.5, n),
        "beta": random.normal(0, 0.2, n),
        "moving_mean": random.normal(mean, 0.2, n),
        "moving_variance": variance * random.uniform(0.5, 2, n),
    }


def write_layers(path: Path, layers: Iterator[tuple[str, Arrays]], *, below: str = "/") -> None:
    """Write layers at the root (``save_weights``) or below ``model_weights`` (``save``); zipped for ``.gz``."""
    with h5py.File(path, "w") as file:
        group, named = file.require_group(below), dict(layers)
        group.attrs["layer_names"] = np.array([name.encode() for name in named])
        group.attrs["backend"], group.attrs["keras_version"] = b"tensorflow", b"2.4.0"
        for name, arrays in named.items():
            layer = group.create_group(name)
            layer.attrs["weight_names"] = np.array([f"{name}/{part}:0".encode() for part in arrays])
            for part, array in arrays.items():
                layer.create_dataset(f"{name}/{part}:0", data=array.astype(np.float32))
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(path.read_bytes(), compresslevel=1))


def make_random_weights(path: Path, *, width: int = BASE_WIDTH, seed: int = 0) -> Path:
    """Write a file of the official format with batch-norm statistics that matter.

    The layers are the same for every representation and size.
    """
    write_layers(path, random_layers(width, seed))
    return path


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, folder: Path, width: int = 2) -> Extractor:
    """Windows half a second apart, so that a contract test has few of them."""
    path = make_random_weights(folder / card.weights[0].filename, width=width)
    chosen = {option.name: option.default for option in card.options} | {"hop": 0.5}
    return build_extractor(narrow(configure(card, chosen), width), outputs=outputs, mode=mode, weights=(path,))


def narrow(card: ExtractorCard, width: int) -> ExtractorCard:
    """The card of a network of that width."""
    size = int(card.parameters["size"] or 0) * width // BASE_WIDTH
    assert str(card.parameters["representation"]) in REPRESENTATIONS
    channels = tuple(replace(output, channels=size) for output in card.outputs)
    return replace(card, outputs=channels, parameters={**card.parameters, "width": width})
