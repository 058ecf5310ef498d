"""The card of PANNs CNN14.

Source: Q. Kong, Y. Cao, T. Iqbal, Y. Wang, W. Wang, M. D. Plumbley, "PANNs: Large-scale pretrained
audio neural networks for audio pattern recognition", IEEE/ACM TASLP 28, 2020; weights on Zenodo.
"""

from __future__ import annotations

from pipeline.cards import ExtractorCard, OutputCard, Source, WeightsCard

RATE_HZ = 32_000
FFT = 1024
HOP = 320
MELS = 64
POOLED = 32
"""Mel frames behind one frame of the last map: five poolings by two."""

CITATION = (
    "Q. Kong, Y. Cao, T. Iqbal, Y. Wang, W. Wang, M. D. Plumbley, PANNs: Large-scale pretrained audio "
    "neural networks for audio pattern recognition, IEEE/ACM TASLP 28, 2020, doi:10.1109/TASLP.2020.3030497"
)
_SHORT = "a clip shorter than 0.31 s is padded with silence"

WEIGHTS = WeightsCard(
    name="panns",
    filename="Cnn14_mAP=0.431.pth",
    n_bytes=327_428_481,
    sha256="0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
    md5="541141fa2ee191a88f24a3219fff024e",
    sources=(Source("url", url="https://zenodo.org/records/3987831/files/Cnn14_mAP%3D0.431.pth?download=1"),),
    licence="CC-BY-4.0",
    citation=CITATION,
    note="Zenodo publishes the MD5; the SHA-256 is what several independent users of the file report",
)

CARDS = (
    ExtractorCard(
        name="panns",
        version=1,
        kind="teacher",
        summary="PANNs CNN14, an AudioSet tagger",
        builder="pipeline.extraction.teachers.panns.extractor:build",
        rate_hz=RATE_HZ,
        outputs=(
            OutputCard("clip", 2048, hop_s=0.0, window_s=0.0, note=f"the embedding: ReLU of fc1; {_SHORT}"),
            OutputCard(
                "frames",
                2048,
                hop_s=POOLED * HOP / RATE_HZ,
                window_s=((POOLED - 1) * HOP + FFT) / RATE_HZ,
                offset_s=-FFT / 2 / RATE_HZ,
                note=f"last map averaged over frequency, before pooling over time and fc1; {_SHORT}",
            ),
        ),
        default_outputs=("clip",),
        parameters={
            "fft": FFT,
            "hop": HOP,
            "mels": MELS,
            "low_hz": 50,
            "high_hz": 14_000,
            "log": "10 log10(max(x, 1e-10))",
            "width": 64,
        },
        weights=(WEIGHTS,),
        n_parameters=80_753_615,
        licence_code="MIT",
        licence_weights="CC-BY-4.0",
        citation=CITATION,
        min_s=0.0,
        tolerance=1e-3,
        batch_clips=4,
    ),
)
