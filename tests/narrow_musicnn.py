"""A MusiCNN and a VGG with few random filters, some of MusiCNN's empty as in the real one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.audio.extractor import Extractor, Mode
from pipeline.cards import ExtractorCard
from pipeline.extraction.teachers.musicnn.extractor import Musicnn
from pipeline.extraction.teachers.musicnn.layers import Convolution, Layers
from pipeline.extraction.teachers.musicnn.vgg_extractor import MusicnnVgg
from pipeline.extraction.teachers.musicnn.vgg_layers import N_LAYERS, VggLayer, VggLayers

_TIMBRAL, _TEMPORAL, _MIDDLE, _UNITS, _TAGS = 6, 4, 5, 7, 50
VGG_WIDTH = 3


def random_layers(seed: int = 0) -> Layers:
    random = np.random.default_rng(seed)
    front = 2 * _TIMBRAL + 3 * _TEMPORAL
    channels = front + 3 * _MIDDLE
    return Layers(
        input_scale=0.3,
        input_shift=-0.5,
        timbral=tuple(_convolution(random, 7, reach, _TIMBRAL) for reach in (38, 67)),
        temporal=tuple(_convolution(random, length, 1, _TEMPORAL) for length in (128, 64, 32)),
        middle=tuple(_convolution(random, 7, n_in, _MIDDLE) for n_in in (front, _MIDDLE, _MIDDLE)),
        pool_scale=random.uniform(0.5, 1.5, 2 * channels),
        pool_shift=random.normal(0, 0.2, 2 * channels),
        dense=random.normal(0, channels**-0.5, (2 * channels, _UNITS)),
        dense_bias=random.normal(0, 0.2, _UNITS),
        dense_scale=random.uniform(0.5, 1.5, _UNITS),
        dense_shift=random.normal(0, 0.2, _UNITS),
        tags=random.normal(0, 0.3, (_UNITS, _TAGS)),
        tags_bias=random.normal(0, 0.2, _TAGS),
    )


def random_vgg_layers(width: int = VGG_WIDTH, seed: int = 0) -> VggLayers:
    """In the range of the real ones: some scales are negative."""
    random = np.random.default_rng(seed)
    convolutions = []
    for number in range(N_LAYERS):
        n_in = width if number else 1
        scale = random.uniform(0.5, 1.5, width) * np.where(np.arange(width) % 3 == 1, -1, 1)
        kernel = random.normal(0, (2 / (9 * n_in)) ** 0.5, (3, 3, n_in, width))
        convolutions.append(VggLayer(kernel, random.normal(0, 0.2, width), scale, random.normal(0, 0.2, width)))
    tags, bias = random.normal(0, 0.3, (2 * width, _TAGS)), random.normal(0, 0.2, _TAGS)
    return VggLayers(0.3, -0.5, tuple(convolutions), tags, bias)


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, folder: Path) -> Extractor:
    if card.parameters.get("network") == "vgg":
        return _build_vgg(card, outputs, mode)
    layers = random_layers()
    sizes = {"pools": 2 * layers.n_channels, "penultimate": _UNITS, "taggram": _TAGS, "frames": layers.n_channels}
    narrow = replace(card, outputs=tuple(replace(output, channels=sizes[output.name]) for output in card.outputs))
    return Musicnn(narrow, outputs=outputs, mode=mode, layers=layers)


def _build_vgg(card: ExtractorCard, outputs: tuple[str, ...], mode: Mode) -> Extractor:
    sizes = {"pool5": 2 * VGG_WIDTH, "layers": N_LAYERS * VGG_WIDTH, "taggram": _TAGS, "frames": VGG_WIDTH}
    narrow = replace(card, outputs=tuple(replace(output, channels=sizes[output.name]) for output in card.outputs))
    return MusicnnVgg(narrow, outputs=outputs, mode=mode, layers=random_vgg_layers())


def _convolution(random: np.random.Generator, length: int, n_in: int, n_out: int) -> Convolution:
    kernel = random.normal(0, (length * n_in) ** -0.5, (length, n_in, n_out))
    kernel[:, :, ::3] *= 1e-9  # a filter that weight decay has emptied
    scale = random.uniform(0.5, 1.5, n_out) * random.choice([-1, 1], n_out)
    return Convolution(kernel, random.normal(0, 0.3, n_out), scale, random.normal(0, 0.3, n_out))
