"""MusiCNN's two cards: trained on MagnaTagATune (``musicnn``) and on the Million Song Dataset (``musicnn-msd``).

Source: J. Pons and X. Serra, "musicnn: pre-trained convolutional neural networks for music audio
tagging", ISMIR late-breaking demo, 2019; PyPI package ``musicnn`` 0.1.0 (ISC).
"""

from __future__ import annotations

from typing import Literal

from pipeline.cards import ExtractorCard, OutputCard, Source, WeightsCard

RATE_HZ = 16_000
FFT = 512
HOP = 256
MELS = 96
PATCH_FRAMES = 187
PATCH_HOP_FRAMES = 93
"""Half a patch: the middle of one patch is the start of the next, give or take half a frame."""

_HOP_S = HOP / RATE_HZ
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

_CITATION = (
    "J. Pons, O. Nieto, M. Prockup, E. Schmidt, A. Ehmann, X. Serra, "
    "End-to-end learning for music audio tagging at scale, ISMIR 2018"
)
_WHEEL_SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
_FILES = {
    "MTT": (
        "da2d7bb670b2b31e9bc441bb1bd75eca31b5b061f963cc1f9630c1aff3238f57",
        "041f3935e981a65cea739842d30c188d3a7d2adf4410955c8668eb3de4a5acab",
    ),
    "MSD": (
        "87f3e0f3550c8d3bafc840374003e5c8af5eeb5ecf6add61af09a7822d3282c8",
        "8579734ee6388f799ed0def4bbd0d1fdcbeaf213ef2a9dc860917bd76a303de6",
    ),
}


def _weights(name: str, trained_on: str, suffix: str, n_bytes: int, sha256: str) -> WeightsCard:
    member = f"musicnn/{trained_on}_musicnn/{suffix}"
    return WeightsCard(
        name=name,
        filename=f"{trained_on}_musicnn{suffix}",
        n_bytes=n_bytes,
        sha256=sha256,
        sources=(Source("pypi", "musicnn", "0.1.0", member=member, archive_sha256=_WHEEL_SHA256),),
        licence="ISC",
        citation=_CITATION,
        note="TensorFlow 1 checkpoint (tensor bundle)",
    )


def _card(name: str, trained_on: Literal["MTT", "MSD"], data: str) -> ExtractorCard:
    index_sha256, shard_sha256 = _FILES[trained_on]
    return ExtractorCard(
        name=name,
        version=1,
        kind="teacher",
        summary=f"MusiCNN tagger trained on {data}",
        builder="pipeline.extraction.teachers.musicnn.extractor:build",
        rate_hz=RATE_HZ,
        outputs=OUTPUTS,
        default_outputs=("pools",),
        parameters={
            "fft": FFT,
            "hop": HOP,
            "mels": MELS,
            "patch_frames": PATCH_FRAMES,
            "patch_hop_frames": PATCH_HOP_FRAMES,
            "log": "log10(10000 x + 1)",
            "trained_on": trained_on,
        },
        weights=(
            _weights(name, trained_on, ".index", 4_948, index_sha256),
            _weights(name, trained_on, ".data-00000-of-00001", 9_465_596, shard_sha256),
        ),
        n_parameters=787_159,
        licence_code="MIT",
        licence_weights="ISC",
        citation=_CITATION,
        min_s=0.0,
        tolerance=1e-3,
        batch_clips=8,
    )


CARDS = (
    _card("musicnn", "MTT", "MagnaTagATune (19 k clips)"),
    _card("musicnn-msd", "MSD", "the Million Song Dataset (200 k clips)"),
)
