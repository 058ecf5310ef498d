"""Cards of the log-mel front ends: every number of the transform is on the card.

``parameters``: ``n_fft``, ``window`` and ``hop`` in samples; ``bands`` from ``low_hz`` to
``high_hz``; ``filters`` (``kaldi`` or ``slaney``, see :mod:`pipeline.audio.mel`);
``periodic`` window or not; ``preemphasis``, 0 for none; ``log_offset``; then
``(log(power + log_offset) + shift) / scale``.
"""

from __future__ import annotations

from pipeline.cards import ExtractorCard, OutputCard, Scalar

__all__ = ["CARDS", "mel_card"]

_PAPER = "Y. Ding and A. Lerch, Audio Embeddings as Teachers for Music Classification, ISMIR 2023, arXiv 2306.17424"


def mel_card(
    name: str, summary: str, rate_hz: int, parameters: dict[str, Scalar], *, citation: str = ""
) -> ExtractorCard:
    """A card with one output ``logmel``; its frames are centred on every ``hop``-th sample."""
    window, hop, n_fft, bands = (int(str(parameters[key])) for key in ("window", "hop", "n_fft", "bands"))
    window_s = window / rate_hz
    output = OutputCard("logmel", bands, hop_s=hop / rate_hz, window_s=window_s, offset_s=-window_s / 2)
    return ExtractorCard(
        name=name,
        version=1,
        kind="mel",
        summary=summary,
        builder="pipeline.audio.mel:build",
        rate_hz=rate_hz,
        outputs=(output,),
        default_outputs=("logmel",),
        parameters=parameters,
        citation=citation,
        min_s=(n_fft // 2 + 2) / rate_hz,
        tolerance=1e-3,
        batch_clips=8,
    )


_PAPERS: dict[str, Scalar] = {
    "n_fft": 1024,
    "window": 800,
    "hop": 320,
    "low_hz": 0.0,
    "filters": "kaldi",
    "periodic": False,
    "preemphasis": 0.97,
    "log_offset": 1e-5,
    "shift": 3.7,
    "scale": 3.1,
}

CARDS: tuple[ExtractorCard, ...] = (
    mel_card(
        "mel-openmic",
        "128 mels at 32 kHz, the paper's front end for OpenMIC and CP-ResNet",
        32_000,
        _PAPERS | {"bands": 128, "high_hz": 16_000.0},
        citation=_PAPER,
    ),
    mel_card(
        "mel-mtat",
        "96 mels at 16 kHz, the paper's front end for MagnaTagATune and Mobile FCN",
        16_000,
        _PAPERS | {"bands": 96, "high_hz": 8_000.0},
        citation=_PAPER,
    ),
    mel_card(
        "mel-small",
        "64 mels at 16 kHz with few frames, for small students",
        16_000,
        {
            "n_fft": 1024,
            "window": 1024,
            "hop": 512,
            "bands": 64,
            "low_hz": 30.0,
            "high_hz": 8_000.0,
            "filters": "slaney",
            "periodic": True,
            "preemphasis": 0.0,
            "log_offset": 1e-5,
            "shift": 6.5,
            "scale": 4.3,
        },
    ),
)
