"""The card of PaSST-S.

Source: K. Koutini, J. Schlüter, H. Eghbal-zadeh, G. Widmer, "Efficient Training of Audio Transformers
with Patchout", Interspeech 2022; weights in the releases of the authors' repository, the arithmetic of
windows as in their package hear21passt 0.0.26 (``wrapper.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from pipeline.audio.timing import n_samples, seconds
from pipeline.cards import ExtractorCard, OptionCard, OutputCard, Scalar, Source, WeightsCard
from pipeline.errors import SettingError

RATE_HZ = 32_000
FFT = 1024
STFT_WINDOW = 800
STFT_HOP = 320
MELS = 128
CLASSES = 527
PATCH = 16
STRIDE = 10
ROWS, COLUMNS = 12, 99
"""Patches over frequency, and at most over time: as many positions as the network has learnt."""

SHORTEST = (PATCH - 1) * STFT_HOP + 1
"""Samples that give one column of patches."""
LONGEST = 10 * RATE_HZ
SCENE_HOP = 5 * RATE_HZ // 2
"""Between the windows that the embedding of a longer clip is the mean of."""

CITATION = (
    "K. Koutini, J. Schlüter, H. Eghbal-zadeh, G. Widmer, Efficient Training of Audio Transformers with Patchout, "
    "Interspeech 2022, doi:10.21437/Interspeech.2022-227"
)
_FILE = "passt-s-f128-p16-s10-ap.476-swa.pt"

WEIGHTS = WeightsCard(
    name="passt",
    filename=_FILE,
    n_bytes=344_665_734,
    sha256="302903fa8c4aee817b11dc982da0b29aaf8d11a3e722420476d0a12c9db70c2c",
    sources=(Source("url", url=f"https://github.com/kkoutini/PaSST/releases/download/v0.0.1-audioset/{_FILE}"),),
    licence="Apache-2.0",
    citation=CITATION,
    note=(
        "the release publishes no digest; size and SHA-256 are what independent users of the file report. "
        "Licence: that of the authors' repository, which names none for the weights apart; trained on AudioSet"
    ),
)


def configure(card: ExtractorCard, values: Mapping[str, Scalar]) -> ExtractorCard:
    """The card with windows of ``values["window"]`` every ``values["hop"]`` seconds.

    Raises:
        SettingError: a window that the network cannot take, or a hop of no sample.
    """
    window, hop = (_whole(card.name, name, values[name]) for name in ("window", "hop"))
    if not SHORTEST <= window <= LONGEST:
        raise SettingError(
            f"{card.name}:window={values['window']}: a window has at least {SHORTEST / RATE_HZ:.4f} s (one patch) and "
            f"at most {LONGEST // RATE_HZ} s: the network has learnt {COLUMNS} positions in time. For one embedding of "
            f"a longer clip ask for {card.name}/scene."
        )
    if hop < 1:
        raise SettingError(f"{card.name}:hop={values['hop']}: the hop is at least one sample, 1/{RATE_HZ} s.")
    width = card.output("embedding").channels
    return replace(
        card, outputs=outputs(window, hop, width), parameters={**card.parameters, "window": window, "hop": hop}
    )


def outputs(window: int, hop: int, width: int) -> tuple[OutputCard, ...]:
    """Outputs for windows of so many samples: mirrored at both ends, centred on every ``hop``-th sample."""
    times = {
        "hop_s": seconds(hop, RATE_HZ),
        "window_s": seconds(window, RATE_HZ),
        "offset_s": -seconds(window // 2, RATE_HZ),
    }
    tokens = "mean of the class and distillation tokens"
    both = f"{CLASSES} logits of AudioSet's classes, then the embedding"
    return (
        OutputCard("embedding", width, **times, note=f"{tokens}; {_SHORT_WINDOWS}"),
        OutputCard("all", CLASSES + width, **times, note=f"{both}; {_SHORT_WINDOWS}"),
        OutputCard("scene", width, hop_s=0.0, window_s=0.0, note=f"{tokens}; {_SCENE}"),
        OutputCard("scene_all", CLASSES + width, hop_s=0.0, window_s=0.0, note=f"{both}; {_SCENE}"),
    )


def _whole(name: str, option: str, value: Scalar) -> int:
    number = float(value or 0)
    if not math.isfinite(number):
        raise SettingError(f"{name}:{option}={value}: a finite number of seconds is needed.")
    return n_samples(number, RATE_HZ)


_SHORT_WINDOWS = "windows mirror the clip at its ends; a clip of half a window or less is padded with silence beyond it"
_SCENE = (
    f"of the whole clip; of one longer than {LONGEST // RATE_HZ} s the mean over windows of that length every "
    f"{SCENE_HOP / RATE_HZ:g} s, mirrored at the ends; a clip shorter than 0.15 s is padded with silence"
)
_WINDOW_S = 0.96
_MODE_ERRORS = {"fast": 5.4e-7, "half": 5.2e-3}
"""Of music, a chirp, noise, a tone, clicks and silence through random weights of full size."""

CARDS = (
    ExtractorCard(
        name="passt",
        version=1,
        kind="teacher",
        summary="PaSST-S, a transformer on spectrogram patches, an AudioSet tagger",
        builder="pipeline.extraction.teachers.passt.extractor:build",
        rate_hz=RATE_HZ,
        outputs=outputs(n_samples(_WINDOW_S, RATE_HZ), n_samples(_WINDOW_S, RATE_HZ), 768),
        default_outputs=("embedding",),
        parameters={
            "fft": FFT,
            "stft_window": STFT_WINDOW,
            "stft_hop": STFT_HOP,
            "mels": MELS,
            "low_hz": 0,
            "high_hz": 15_000,
            "preemphasis": 0.97,
            "log": "(ln(x + 1e-5) + 4.5) / 5",
            "width": 768,
            "depth": 12,
            "heads": 12,
            "window": n_samples(_WINDOW_S, RATE_HZ),
            "hop": n_samples(_WINDOW_S, RATE_HZ),
        },
        weights=(WEIGHTS,),
        n_parameters=86_153_758,
        licence_code="Apache-2.0",
        licence_weights="Apache-2.0",
        citation=CITATION,
        min_s=0.0,
        max_s=LONGEST / RATE_HZ,
        tolerance=1e-3,
        batch_clips=8,
        options=(
            OptionCard("window", _WINDOW_S, "seconds of each window, at most 10; 0.16 in hear21passt"),
            OptionCard("hop", _WINDOW_S, "seconds between windows; 0.05 in hear21passt"),
        ),
        configure="pipeline.extraction.teachers.passt.card:configure",
        mode_errors=_MODE_ERRORS,
    ),
)
