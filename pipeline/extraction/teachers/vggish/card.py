"""VGGish's three cards: quantised as AudioSet publishes it, after the last ReLU, and before it.

Source: S. Hershey et al., ICASSP 2017; ``tensorflow/models`` (``research/audioset/vggish``,
Apache-2.0); the weights converted by H. Taylor, github.com/harritaylor/torchvggish, release v0.1.
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.cards import ExtractorCard, OutputCard, Source, WeightsCard

RATE_HZ = 16_000
PATCH_HOP = 15_360
"""Samples from one patch to the next: 96 mel frames, no overlap."""
PATCH_SAMPLES = 15_600
LOG_OFFSET = 0.01
QUANTISE_LIMIT = 2.0
"""Whitened values are clipped here, on either side."""

CITATION = (
    "S. Hershey et al., CNN architectures for large-scale audio classification, ICASSP 2017, "
    "doi:10.1109/ICASSP.2017.7952132"
)
_RELEASE = "https://github.com/harritaylor/torchvggish/releases/download/v0.1/"
_PATCHES = (
    "only patches that the clip fills, as in the original; a clip shorter than 0.975 s, which gives none there, "
    "gives one, with silence behind it"
)

_ERRORS = {"fast": 1.1e-5, "half": 7.5e-3}
"""Random weights of full size; chirp, tone, noise, rendered music and 0.1 s of noise."""


def _weights(filename: str, n_bytes: int, sha256: str, note: str) -> WeightsCard:
    return WeightsCard(
        name="vggish",
        filename=filename,
        n_bytes=n_bytes,
        sha256=sha256,
        sources=(Source("url", url=_RELEASE + filename),),
        licence="Apache-2.0",
        citation=CITATION,
        note=note,
    )


NETWORK = _weights(
    "vggish-10086976.pth",
    288_567_937,
    "10086976245803799d9194e9a73d9b6c1549c71d1b80106f5cade5608a561f4b",
    "the release names the first eight digits of the SHA-256; all of them and the size as users of the file report",
)
PCA = _weights(
    "vggish_pca_params-970ea276.pth",
    181_358,
    "",
    "the release names the first eight digits of the SHA-256, 970ea276; the size as users of the file report",
)


def _card(variant: str, name: str, summary: str, note: str, mode_errors: Mapping[str, float]) -> ExtractorCard:
    quantised = variant == "quantised"
    times = {"hop_s": PATCH_HOP / RATE_HZ, "window_s": PATCH_SAMPLES / RATE_HZ}
    return ExtractorCard(
        name=name,
        version=1,
        kind="teacher",
        summary=summary,
        builder="pipeline.extraction.teachers.vggish.extractor:build",
        rate_hz=RATE_HZ,
        outputs=(OutputCard("embedding", 128, **times, note=f"{note}; {_PATCHES}"),),
        default_outputs=("embedding",),
        parameters={
            "fft": 512,
            "window": 400,
            "hop": 160,
            "mels": 64,
            "low_hz": 125,
            "high_hz": 7500,
            "log": f"ln(x + {LOG_OFFSET})",
            "patch_frames": 96,
            "variant": variant,
            "width": 64,
        },
        weights=(NETWORK, PCA) if quantised else (NETWORK,),
        n_parameters=72_141_184,
        licence_code="MIT",
        licence_weights="Apache-2.0",
        citation=CITATION,
        min_s=0.0,
        tolerance=1e-2 if quantised else 1e-3,  # one step of 256, where the largest value is 127 of them
        batch_clips=8,
        mode_errors=mode_errors,
    )


CARDS = (
    _card(
        "quantised",
        "vggish",
        "VGGish as in AudioSet: whitened, 8 bits",
        "ReLU, PCA with whitening, clipped to +-2, rounded to 0..255, then (x - 128) / 256; a value near the middle "
        "of two steps may round to either, 1/256 apart",
        {"fast": 7.9e-3, "half": 3.9e-2},
    ),
    _card(
        "relu", "vggish-relu", "VGGish after its last ReLU", "after the last ReLU, as the PyTorch port ends", _ERRORS
    ),
    _card("raw", "vggish-raw", "VGGish before its last ReLU", "before the last ReLU, as Google's model ends", _ERRORS),
)
