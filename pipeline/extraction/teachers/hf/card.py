"""The card of a family: any audio encoder of the transformers library.

Source: T. Wolf et al., "Transformers: State-of-the-art natural language processing", EMNLP 2020.
Rates, hops and widths come from a model's own ``config.json`` and ``preprocessor_config.json``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from pipeline.cards import ExtractorCard, OptionCard, OutputCard, Scalar
from pipeline.errors import SettingError
from pipeline.extraction.teachers.hf.architecture import Architecture, read_architecture
from pipeline.extraction.teachers.hf.hidden_states import describe_layers, parse_layers
from pipeline.weights.models import ModelDescription, describe_model

CITATION = (
    "T. Wolf et al., Transformers: State-of-the-art natural language processing, EMNLP 2020 (system "
    "demonstrations), doi:10.18653/v1/2020.emnlp-demos.6; and the paper of the model"
)
WINDOW_S = 30.0
"""Longest input of models that take any length: attention costs the square of it."""

_SHORTEST_WINDOW_S = 1.0
_CLIPS = {
    "wave": "mean over the frames",
    "whisper": "mean over the frames",
    "ast": "mean of the class token and the distillation token",
    "clap": "mean over the map, before the projection; a short clip is repeated, as the original does",
}


def configure(card: ExtractorCard, values: Mapping[str, Scalar]) -> ExtractorCard:
    """The card of one model with its settings.

    Raises:
        WeightsError: the model is not to be had, or is no audio encoder known here.
        SettingError: a layer, a pooling or a window that the model does not have.
    """
    model = describe_model(str(values["subject"]))
    numbers = read_architecture(model.config, model.preprocessor, model.name)
    blocks = parse_layers(str(values["layer"]), numbers.n_layers)
    pool = _pool(_seconds(values, "pool"), numbers)
    window = _window(_seconds(values, "window"), numbers)
    return replace(
        card,
        summary=f"{model.name}, a {model.config['model_type']} model",
        rate_hz=numbers.rate_hz,
        outputs=_outputs(numbers, len(blocks) * numbers.channels, pool, describe_layers(blocks, numbers.channels)),
        parameters=_parameters(model, numbers, "+".join(map(str, blocks)), pool, window),
        n_parameters=numbers.n_parameters,
        licence_weights=model.licence,
        citation=f"{card.citation}; {model.address}" if model.address else card.citation,
        max_s=window / numbers.rate_hz,
    )


def _seconds(values: Mapping[str, Scalar], name: str) -> float:
    seconds = float(values[name] or 0)
    if not math.isfinite(seconds):
        raise SettingError(f"{name}={seconds}: not a number of seconds.")
    return seconds


def _pool(seconds: float, numbers: Architecture) -> int:
    pool = round(seconds * numbers.rate_hz)
    if seconds and pool < numbers.hop:
        raise SettingError(f"pool={seconds:g}: the model's own hop is {numbers.hop / numbers.rate_hz:g} s; give more.")
    return pool


def _window(seconds: float, numbers: Architecture) -> int:
    """Samples of the longest input, such that windows join without a gap."""
    if numbers.limit:
        limit_s = numbers.limit / numbers.rate_hz
        if seconds and abs(seconds - limit_s) > 1e-6:
            raise SettingError(f"window={seconds:g}: this model takes windows of {limit_s:g} s and no other.")
        return numbers.limit
    if seconds and seconds < _SHORTEST_WINDOW_S:
        raise SettingError(f"window={seconds:g}: give {_SHORTEST_WINDOW_S:g} s or more.")
    n_frames = numbers.count_frames(round((seconds or WINDOW_S) * numbers.rate_hz))
    return numbers.needed + (n_frames - 1) * numbers.hop


def _outputs(numbers: Architecture, channels: int, pool: int, layers: str) -> tuple[OutputCard, ...]:
    rate_hz, hop = numbers.rate_hz, pool or numbers.hop
    pooled = f", averaged over {pool / rate_hz:g} s" if pool else ""
    return (
        OutputCard(
            "frames",
            channels,
            hop_s=hop / rate_hz,
            window_s=(numbers.field if not pool else pool - numbers.hop + numbers.field) / rate_hz,
            offset_s=numbers.offset / rate_hz,
            note=f"{layers}{pooled}; attention sees the whole window",
        ),
        OutputCard("clip", channels, hop_s=0.0, window_s=0.0, note=f"{layers}; {_CLIPS[numbers.adapter]}"),
    )


def _parameters(
    model: ModelDescription, numbers: Architecture, layers: str, pool: int, window: int
) -> dict[str, Scalar]:
    return {
        "model_type": str(model.config["model_type"]),
        "layers": layers,
        "pool": pool,
        "window": window,
        "hop": numbers.hop,
        "receptive_field": numbers.field,
        "repository": model.repository,
        "revision": model.revision,
    }


CARDS = (
    ExtractorCard(
        name="hf",
        version=1,
        kind="teacher",
        summary="any audio encoder of transformers; the numbers are those of wav2vec2-base",
        builder="pipeline.extraction.teachers.hf.extractor:build",
        rate_hz=16_000,
        outputs=(
            OutputCard("frames", 768, hop_s=0.02, window_s=0.025, note="hidden states; see the option layer"),
            OutputCard("clip", 768, hop_s=0.0, window_s=0.0, note="one embedding per clip; how depends on the model"),
        ),
        default_outputs=("frames",),
        licence_code="Apache-2.0",
        licence_weights="the model's",
        citation=CITATION,
        tolerance=1e-3,
        batch_clips=4,
        options=(
            OptionCard("layer", "last", "hidden state: a number, last, mean, all, or several as 3+6+9"),
            OptionCard("pool", 0.0, "seconds over which frames are averaged, 0 for every frame"),
            OptionCard("window", 0.0, "longest input in seconds, 0 for 30 or the model's own"),
        ),
        configure="pipeline.extraction.teachers.hf.card:configure",
        subject="MODEL[@REVISION]",
        # wav2vec2-base with random weights, chords, noise and a tone; other models differ.
        mode_errors={"fast": 7e-7, "half": 0.016},
    ),
)
