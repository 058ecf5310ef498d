"""The cards of the musicnn package: two networks, trained on MagnaTagATune or on the Million Song Dataset.

``musicnn`` and ``musicnn-msd`` are MusiCNN itself, ``musicnn-vgg`` and ``musicnn-vgg-msd`` the VGG beside it.

Source: J. Pons and X. Serra, "musicnn: pre-trained convolutional neural networks for music audio
tagging", ISMIR late-breaking demo, 2019; PyPI package ``musicnn`` 0.1.0 (ISC).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pipeline.cards import ExtractorCard, OutputCard, Scalar, Source, WeightsCard

RATE_HZ = 16_000
FFT = 512
HOP = 256
MELS = 96
PATCH_FRAMES = 187
PATCH_HOP_FRAMES = 93
"""Half a patch: the middle of one patch is the start of the next, give or take half a frame."""
FRAMES_SHORTEST = 18
"""Mel frames that give one frame of the VGG's fourth pool."""

_HOP_S = HOP / RATE_HZ
_POOLED = 16
_WIDTH = 128
_PATCH = {
    "hop_s": PATCH_HOP_FRAMES * _HOP_S,
    "window_s": ((PATCH_FRAMES - 1) * HOP + FFT) / RATE_HZ,
    "offset_s": -FFT / 2 / RATE_HZ,
}
_ONLY_WHOLE = "patches of 187 mel frames, only those that the clip fills; a shorter clip gives one, padded with silence"
_BLOCKS = "timbral 0:408, temporal 408:561, cnn1 561:625, cnn2 625:689, cnn3 689:753"

OUTPUTS = (
    OutputCard(
        "pools", 1506, **_PATCH, note=f"mean 0:753, then max 753:1506, over time, each {_BLOCKS}; {_ONLY_WHOLE}"
    ),
    OutputCard("penultimate", 200, **_PATCH, note=f"dense layer after ReLU and batch-norm; {_ONLY_WHOLE}"),
    OutputCard("taggram", 50, **_PATCH, note=f"probabilities of the 50 tags; {_ONLY_WHOLE}"),
    OutputCard(
        "frames",
        753,
        hop_s=_HOP_S,
        window_s=FFT / RATE_HZ,
        offset_s=-FFT / 2 / RATE_HZ,
        note=f"{_BLOCKS}; the network runs once over the whole clip, so its edges are the clip's, not the patches'",
    ),
)

VGG_OUTPUTS = (
    OutputCard(
        "pool5", 2 * _WIDTH, **_PATCH, note=f"fifth pool, 128 maps of the first half, then of the second; {_ONLY_WHOLE}"
    ),
    OutputCard(
        "layers",
        5 * _WIDTH,
        **_PATCH,
        note=f"mean of each map of pool1 0:128 to pool5 512:640 over time and frequency; {_ONLY_WHOLE}",
    ),
    OutputCard("taggram", 50, **_PATCH, note=f"probabilities of the 50 tags; {_ONLY_WHOLE}"),
    OutputCard(
        "frames",
        _WIDTH,
        hop_s=_POOLED * _HOP_S,
        window_s=((FRAMES_SHORTEST - 1) * HOP + FFT) / RATE_HZ,
        offset_s=-FFT / 2 / RATE_HZ,
        note="fourth pool averaged over frequency; the network runs once over the whole clip; "
        "a clip shorter than 0.27 s is padded with silence",
    ),
)

_CITATION = (
    "J. Pons, O. Nieto, M. Prockup, E. Schmidt, A. Ehmann, X. Serra, "
    "End-to-end learning for music audio tagging at scale, ISMIR 2018"
)
_WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
_FILES = {
    "MTT_musicnn": (
        "da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57",
        "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab",
    ),
    "MSD_musicnn": (
        "87f3e0f3550c8d3bafc840374003e5c8af5eeb5ecf6add61af09a7822d3282c8",
        "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6",
    ),
    "MTT_vgg": (
        "4b0d3d2d02bbe0919c063c1fb74bfa9018ac3517e362d681b07444d4207a5f5f",
        "458f5c8bcecc086a3bba3dce83809df6da6e0a3560a59ddd84711bf3d5fd8303",
    ),
    "MSD_vgg": (
        "50e499238457558bba9f34f8b84d4afb8279afd43520cdf0a4fdf805a49c9ca3",
        "9683d756b8311146534f333502ebf4a2a78a3e320c54ab0411dff6186d8375fc",
    ),
}


_BYTES = {"musicnn": (4_948, 9_465_596), "vgg": (2_994, 7_274_112)}


def _weights(name: str, model: str) -> tuple[WeightsCard, ...]:
    suffixes = (".index", ".data-00000-of-00001")
    return tuple(
        WeightsCard(
            name=name,
            filename=f"{model}{suffix}",
            n_bytes=n_bytes,
            sha256=sha256,
            sources=(
                Source("pypi", "musicnn", "0.1.0", member=f"musicnn/{model}/{suffix}", archive_sha256=_WHEEL_SHA256),
            ),
            licence="ISC",
            citation=_CITATION,
            note="TensorFlow 1 checkpoint (tensor bundle)",
        )
        for suffix, n_bytes, sha256 in zip(suffixes, _BYTES[model[4:]], _FILES[model], strict=True)
    )


def _card(name: str, trained_on: Literal["MTT", "MSD"], data: str) -> ExtractorCard:
    return ExtractorCard(
        name=name,
        version=1,
        kind="teacher",
        summary=f"MusiCNN tagger trained on {data}",
        builder="pipeline.extraction.teachers.musicnn.extractor:build",
        rate_hz=RATE_HZ,
        outputs=OUTPUTS,
        default_outputs=("pools",),
        parameters=_PARAMETERS | {"trained_on": trained_on},
        weights=_weights(name, f"{trained_on}_musicnn"),
        n_parameters=787_159,
        licence_code="MIT",
        licence_weights="ISC",
        citation=_CITATION,
        min_s=0.0,
        tolerance=1e-3,
        batch_clips=8,
        mode_errors=_MODE_ERRORS[name],
    )


def _vgg_card(name: str, trained_on: Literal["MTT", "MSD"], data: str) -> ExtractorCard:
    return replace(
        _card(name, trained_on, data),
        summary=f"VGG tagger of the musicnn package, trained on {data}",
        builder="pipeline.extraction.teachers.musicnn.vgg_extractor:build",
        outputs=VGG_OUTPUTS,
        default_outputs=("pool5",),
        parameters=_PARAMETERS | {"network": "vgg", "width": _WIDTH, "trained_on": trained_on},
        weights=_weights(name, f"{trained_on}_vgg"),
        n_parameters=605_748,
        tolerance=3e-3,
    )


_PARAMETERS: dict[str, Scalar] = {
    "fft": FFT,
    "hop": HOP,
    "mels": MELS,
    "patch_frames": PATCH_FRAMES,
    "patch_hop_frames": PATCH_HOP_FRAMES,
    "log": "log10(10000 x + 1)",
}

_MODE_ERRORS = {
    "musicnn": {"fast": 2.7e-4, "half": 2.8e-2},
    "musicnn-msd": {"fast": 1.8e-4, "half": 1.8e-2},
    "musicnn-vgg": {"fast": 1.2e-3, "half": 7.3e-3},
    "musicnn-vgg-msd": {"fast": 2.4e-4, "half": 1.1e-2},
}
"""The worst output over music, noise, a sweep and a tone of 10 s each, with the real weights, on a CPU.  In ``fast``
it is the original's rounding of the mel to float16, which that mode leaves out; the rest is 2e-5."""

CARDS = (
    _card("musicnn", "MTT", "MagnaTagATune (19 k clips)"),
    _card("musicnn-msd", "MSD", "the Million Song Dataset (200 k clips)"),
    _vgg_card("musicnn-vgg", "MTT", "MagnaTagATune (19 k clips)"),
    _vgg_card("musicnn-vgg-msd", "MSD", "the Million Song Dataset (200 k clips)"),
)
