"""The cards of PANNs: the CNNs and MobileNets of the collection, and a pruned CNN14.

Source: Q. Kong, Y. Cao, T. Iqbal, Y. Wang, W. Wang, M. D. Plumbley, "PANNs: Large-scale pretrained
audio neural networks for audio pattern recognition", IEEE/ACM TASLP 28, 2020; A. Singh, H. Liu,
M. D. Plumbley, "E-PANNs: Sound recognition using efficient pre-trained audio neural networks",
Inter-Noise 2023, arXiv:2305.18665; weights of both on Zenodo.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from pipeline.cards import ExtractorCard, OutputCard, Scalar
from pipeline.errors import SettingError
from pipeline.extraction.teachers.panns.variants import (
    AUDIOSET_CLASSES,
    FFT,
    HIGH_HZ,
    HOP,
    LOW_HZ,
    MELS,
    RATE_HZ,
    VARIANTS,
    Variant,
)


def configure(card: ExtractorCard, values: Mapping[str, Scalar]) -> ExtractorCard:
    """The card for a window, a hop and a backend.

    With a window, ``clip`` and ``tags`` are given once per window, and the other outputs are not.
    A window counts where at least half of it lies within the clip, and is padded with silence.

    Raises:
        SettingError: a window shorter than the network needs, or a hop that leaves audio out.
    """
    parameters = dict(card.parameters)
    if values.get("backend", "own") != "own":
        parameters["backend"] = values["backend"]
    window, hop = float(values["window"] or 0), float(values["hop"] or 0)
    _check_window(card, window, hop)
    if not window:
        return replace(card, parameters=parameters)
    hop = hop or window
    note = "one per window; the last ones are padded with silence, and at least half audio"
    outputs = tuple(
        replace(output, hop_s=hop, window_s=window, note=f"{output.note}; {note}")
        for output in card.outputs
        if output.name in ("clip", "tags")
    )
    return replace(card, outputs=outputs, parameters={**parameters, "window_s": window, "window_hop_s": hop})


def _check_window(card: ExtractorCard, window: float, hop: float) -> None:
    shortest = int(card.parameters["pooled"] or 0) * HOP / RATE_HZ
    if window and not (shortest <= window < math.inf):
        raise SettingError(
            f"{card.name}:window={window:g}: the network pools {shortest:g} s into one frame. "
            f"Use a window of {shortest:g} s or more, such as 0.96, or 0 for the whole clip."
        )
    if not window and hop:
        raise SettingError(f"{card.name}:hop={hop:g} says nothing without a window, such as window=0.96.")
    if hop and not (HOP / RATE_HZ <= hop <= window):
        raise SettingError(
            f"{card.name}:hop={hop:g}: from {HOP / RATE_HZ:g} s (one mel frame) to the window, {window:g} s; "
            "a longer hop would leave audio out."
        )


def _outputs(variant: Variant) -> tuple[OutputCard, ...]:
    short = f"a clip shorter than {(variant.pooled - 1) * HOP / RATE_HZ:g} s is padded with silence"
    hop_s = variant.pooled * HOP / RATE_HZ
    window_s = ((variant.pooled - 1) * HOP + FFT) / RATE_HZ
    offset_s = -FFT / 2 / RATE_HZ
    frames = f"last map averaged over frequency, before pooling over time and fc1; {short}"
    segments = f"probabilities of the classes for each frame, before the original repeats them per mel frame; {short}"
    found = [
        OutputCard("clip", variant.embedding, 0.0, 0.0, note=f"{variant.clip}; {short}"),
        OutputCard("frames", variant.channels, hop_s, window_s, offset_s, frames),
        OutputCard("tags", AUDIOSET_CLASSES, 0.0, 0.0, note=f"{variant.tags}; {short}"),
    ]
    if variant.network == "Cnn14_DecisionLevelMax":
        found.append(OutputCard("segments", AUDIOSET_CLASSES, hop_s, window_s, offset_s, segments))
    return tuple(found)


def _card(variant: Variant) -> ExtractorCard:
    return ExtractorCard(
        name=variant.name,
        version=1,
        kind="teacher",
        summary=variant.summary,
        builder="pipeline.extraction.teachers.panns.extractor:build",
        rate_hz=RATE_HZ,
        outputs=_outputs(variant),
        default_outputs=("clip",),
        parameters={
            "network": variant.network,
            "fft": FFT,
            "hop": HOP,
            "mels": MELS,
            "low_hz": LOW_HZ,
            "high_hz": HIGH_HZ,
            "log": "10 log10(max(x, 1e-10))",
            "width": variant.width,
            "pooled": variant.pooled,
        },
        weights=(variant.weights,),
        n_parameters=variant.n_parameters,
        licence_code="MIT",
        licence_weights=variant.weights.licence,
        citation=variant.weights.citation,
        tolerance=1e-3,
        batch_clips=variant.batch_clips,
        options=variant.options,
        configure="pipeline.extraction.teachers.panns.card:configure",
        mode_errors=variant.mode_errors,
    )


CARDS = tuple(map(_card, VARIANTS))
