"""The cards of OpenL3: three spectrograms, trained on music or on environmental videos.

Source: A. L. Cramer, H.-H. Wu, J. Salamon, J. P. Bello, "Look, listen, and learn more: design choices
for deep audio embeddings", ICASSP 2019; ``openl3/core.py`` and ``openl3/models.py`` of openl3 0.4.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from pipeline.cards import ExtractorCard, OptionCard, OutputCard, Scalar, Source, WeightsCard
from pipeline.errors import SettingError

RATE_HZ = 48_000
WINDOW = RATE_HZ
"""Samples that one embedding sees: a second."""

FFT_HOP = 242
BASE_WIDTH = 64
"""Channels of the first two convolutions of the published networks; the last ones have eight times as many."""

SHORTEST_HOP_S, LONGEST_HOP_S = 0.01, 60.0


class Representation(NamedTuple):
    """A spectrogram that a network was trained on.

    ``pools`` gives the last pooling, by size of the embedding: rows of frequency, columns of time.
    """

    fft: int
    mels: int
    frames: int
    pools: Mapping[int, tuple[int, int]]


REPRESENTATIONS = {
    "linear": Representation(512, 0, 197, {512: (32, 24), 6144: (8, 8)}),
    "mel128": Representation(2048, 128, 199, {512: (16, 24), 6144: (4, 8)}),
    "mel256": Representation(2048, 256, 199, {512: (32, 24), 6144: (8, 8)}),
}

CITATION = (
    "A. L. Cramer, H.-H. Wu, J. Salamon, J. P. Bello, Look, listen, and learn more: design choices for deep audio "
    "embeddings, ICASSP 2019, pp. 3852-3856, doi:10.1109/ICASSP.2019.8682475"
)
_CONTENT = {"music": "music videos", "env": "videos of environmental sound"}
_PLACES = ("https://github.com/marl/openl3/raw/models", "https://raw.githubusercontent.com/marl/openl3/models")
_DIGESTS = {
    "openl3_audio_mel256_music-v0_4_0.h5.gz": "e379f41e880b78e157c199ebddac80d3764e6a46282bcccdbe875bcf538f9afd"
}
_UNPUBLISHED = "the authors publish neither size nor digest"
_REPORTED = f"{_UNPUBLISHED}; the SHA-256 is what a user of the file reports"

# With random weights of full size, 512 numbers, on a chirp, rendered music and a clip of 0.1 s; mel128 on noise
# and a tone, too. The largest are those of the chirp, whose empty bins hold the rounding errors of `exact`
# (cosine at least 0.9999); without it, `fast` is within 1.5e-3 (linear: 9e-3) and `half` within 1e-2.
_MODE_ERRORS = {
    "mel128": {"fast": 1.4e-2, "half": 1.6e-2},
    "mel256": {"fast": 1.1e-2, "half": 1.0e-2},
    "linear": {"fast": 1.6e-2, "half": 1.7e-2},
}

OPTIONS = (
    OptionCard("hop", 0.1, "seconds from one window of a second to the next; the paper has 0.96"),
    OptionCard("size", 512, "numbers per embedding: how far the last map is pooled", choices=(512, 6144)),
    OptionCard("center", True, "the first window is centred on the first sample, padded with silence before it"),
    OptionCard("backend", "own", "this package's network, or the package openl3", choices=("own", "package")),
)


def configure(card: ExtractorCard, values: Mapping[str, Scalar]) -> ExtractorCard:
    """The card for a hop, a size, centred windows or not, and a backend.

    Raises:
        SettingError: a hop outside 0.01 to 60 seconds.
    """
    hop_s, size, center, backend = (values[option.name] for option in OPTIONS)
    if not isinstance(hop_s, float) or not math.isfinite(hop_s) or not SHORTEST_HOP_S <= hop_s <= LONGEST_HOP_S:
        raise SettingError(
            f"{card.name}:hop={hop_s}: between {SHORTEST_HOP_S:g} and {LONGEST_HOP_S:g} seconds. "
            "The original has 0.1, the paper 0.96."
        )
    # The original cuts off here, too: a hop of 0.29 s is 13,919 samples.
    hop = int(hop_s * RATE_HZ)
    module = "extractor" if backend == "own" else "package"
    return replace(
        card,
        builder=f"pipeline.extraction.teachers.openl3.{module}:build",
        outputs=(_output(int(size or 0), hop, bool(center)),),
        parameters={**card.parameters, "size": size, "hop": hop, "center": center, "backend": backend},
    )


def _output(size: int, hop: int, center: bool) -> OutputCard:
    note = "centred on multiples of the hop" if center else "the first begins with the clip"
    return OutputCard(
        "embedding",
        size,
        hop_s=hop / RATE_HZ,
        window_s=WINDOW / RATE_HZ,
        offset_s=-WINDOW / 2 / RATE_HZ if center else 0.0,
        note=f"one per window of a second, {note}; silence fills the last one, and any clip shorter than a window",
    )


def _weights(name: str, representation: str, content: str) -> WeightsCard:
    filename = f"openl3_audio_{representation}_{content}-v0_4_0.h5.gz"
    return WeightsCard(
        name=name,
        filename=filename,
        n_bytes=0,
        sha256=_DIGESTS.get(filename, ""),
        sources=tuple(Source("url", url=f"{place}/{filename}") for place in _PLACES),
        licence="CC-BY-4.0",
        citation=CITATION,
        note=_REPORTED if filename in _DIGESTS else _UNPUBLISHED,
    )


def _card(name: str, representation: str, content: str) -> ExtractorCard:
    spectrogram = REPRESENTATIONS[representation]
    shape = f"{spectrogram.mels} mels" if spectrogram.mels else "linear frequency"
    card = ExtractorCard(
        name=name,
        version=1,
        kind="teacher",
        summary=f"OpenL3, {shape}, trained on {_CONTENT[content]}",
        builder="",
        rate_hz=RATE_HZ,
        outputs=(),
        default_outputs=("embedding",),
        parameters={
            "representation": representation,
            "content": content,
            "fft": spectrogram.fft,
            "fft_hop": FFT_HOP,
            "mels": spectrogram.mels,
            "log": "10 log10(max(magnitude, 1e-10)), less the window's largest, at least -80",
            "width": BASE_WIDTH,
        },
        weights=(_weights(name, representation, content),),
        n_parameters=4_689_860,
        licence_code="MIT",
        licence_weights="CC-BY-4.0",
        citation=CITATION,
        tolerance=1e-3,
        mode_errors=_MODE_ERRORS[representation],
        options=OPTIONS,
        configure="pipeline.extraction.teachers.openl3.card:configure",
    )
    return configure(card, {option.name: option.default for option in OPTIONS})


CARDS = tuple(
    _card("-".join(("openl3", *suffix)), representation, content)
    for content, representation, suffix in (
        ("music", "mel128", ()),
        ("music", "mel256", ("mel256",)),
        ("music", "linear", ("linear",)),
        ("env", "mel128", ("env",)),
        ("env", "mel256", ("env", "mel256")),
        ("env", "linear", ("env", "linear")),
    )
)
