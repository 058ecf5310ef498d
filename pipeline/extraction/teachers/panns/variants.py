"""The networks of the PANNs collection, one row each: what sets them apart, and their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from pipeline.cards import OptionCard, Source, WeightsCard

RATE_HZ = 32_000
FFT = 1024
HOP = 320
MELS = 64
LOW_HZ, HIGH_HZ = 50, 14_000
AUDIOSET_CLASSES = 527

CITATION = (
    "Q. Kong, Y. Cao, T. Iqbal, Y. Wang, W. Wang, M. D. Plumbley, PANNs: Large-scale pretrained audio "
    "neural networks for audio pattern recognition, IEEE/ACM TASLP 28, 2020, doi:10.1109/TASLP.2020.3030497"
)
EPANNS_CITATION = (
    "A. Singh, H. Liu, M. D. Plumbley, E-PANNs: Sound recognition using efficient pre-trained audio neural "
    "networks, Inter-Noise 2023, arXiv:2305.18665"
)
_REPORTED = "Zenodo publishes the MD5; the digests and the size are what several independent users of the file report"
_MD5_ONLY = "the MD5 that Zenodo publishes, as several independent users of the file report it"
_NOT_KNOWN = (
    "no digest of this file was found: whatever the address gives is used, and its SHA-256 is written into stores"
)
_CLIP = "the embedding: ReLU of fc1 over the whole clip"
_SIGMOID = f"probabilities of the {AUDIOSET_CLASSES} AudioSet classes, one after another independent"

OPTIONS = (
    OptionCard("window", 0.0, "seconds of audio behind each clip embedding, 0 for the whole clip; 0.96 is common"),
    OptionCard("hop", 0.0, "seconds from window to window, 0 for the length of a window"),
)
BACKEND = OptionCard(
    "backend", "own", "whose network runs: this project's, or that of panns_inference", ("own", "package")
)


@dataclass(frozen=True)
class Variant:
    """What sets one network of the collection apart.

    ``pooled``: mel frames behind one frame of the last map.  ``channels``: of the last map.
    ``mode_errors`` were measured with random weights of full size, as the real ones are out of reach
    where this was written, over all outputs for rendered music, noise and a tone of 3 s.
    """

    name: str
    summary: str
    network: str
    weights: WeightsCard
    n_parameters: int
    pooled: int
    channels: int
    embedding: int
    mode_errors: Mapping[str, float]
    width: int = 64
    clip: str = _CLIP
    tags: str = _SIGMOID
    options: tuple[OptionCard, ...] = OPTIONS
    batch_clips: int = 8


def _weights(name: str, filename: str, n_bytes: int, *, sha256: str = "", md5: str = "", note: str) -> WeightsCard:
    url = f"https://zenodo.org/records/3987831/files/{quote(filename)}?download=1"
    sources = (Source("url", url=url),)
    return WeightsCard(name, filename, n_bytes, sha256, sources, "CC-BY-4.0", CITATION, note, md5)


WEIGHTS = _weights(
    "panns",
    "Cnn14_mAP=0.431.pth",
    327_428_481,
    sha256="0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
    md5="541141fa2ee191a88f24a3219fff024e",
    note=_REPORTED,
)
EPANNS_WEIGHTS = WeightsCard(
    name="epanns",
    filename="checkpoint_closeto_.44.pt",
    n_bytes=0,
    sha256="",
    sources=(Source("url", url="https://zenodo.org/records/7939403/files/checkpoint_closeto_.44.pt?download=1"),),
    licence="see the Zenodo record 7939403",
    citation=EPANNS_CITATION,
    note=_NOT_KNOWN,
)

VARIANTS = (
    Variant(
        name="panns",
        summary="PANNs CNN14, an AudioSet tagger (mAP 0.431)",
        network="Cnn14",
        weights=WEIGHTS,
        n_parameters=80_753_615,
        pooled=32,
        channels=2048,
        embedding=2048,
        mode_errors={"fast": 1.3e-5, "half": 6.0e-3},
        options=(*OPTIONS, BACKEND),
        batch_clips=4,
    ),
    Variant(
        name="panns-decision",
        summary="PANNs CNN14 with a decision per 0.32 s, for sound events (mAP 0.385)",
        network="Cnn14_DecisionLevelMax",
        weights=_weights(
            "panns-decision",
            "Cnn14_DecisionLevelMax_mAP=0.385.pth",
            327_428_481,
            sha256="dd3b4043a87d4ec13df8082c0fcfee3fb5084151808e47e060987a95eabdd142",
            md5="70539c43c18b6a289b3199c503a82c5a",
            note=_REPORTED,
        ),
        n_parameters=80_753_615,
        pooled=32,
        channels=2048,
        embedding=2048,
        mode_errors={"fast": 1.3e-5, "half": 6.7e-3},
        clip="mean over the clip of fc1's ReLU for each segment; the original gives no embedding",
        tags=f"{_SIGMOID}: the largest of each over the segments",
        options=(*OPTIONS, BACKEND),
        batch_clips=4,
    ),
    Variant(
        name="panns-cnn10",
        summary="PANNs CNN10, small (mAP 0.380)",
        network="Cnn10",
        weights=_weights(
            "panns-cnn10",
            "Cnn10_mAP=0.380.pth",
            25_237_595,
            md5="bfb1f1f9968938fa8ef4012b8471f5f6",
            note=_MD5_ONLY,
        ),
        n_parameters=5_219_279,
        pooled=16,
        channels=512,
        embedding=512,
        mode_errors={"fast": 2.7e-5, "half": 8.9e-3},
    ),
    Variant(
        name="panns-cnn6",
        summary="PANNs CNN6, small, 5 x 5 convolutions (mAP 0.343)",
        network="Cnn6",
        weights=_weights("panns-cnn6", "Cnn6_mAP=0.343.pth", 0, md5="e25e26b84585b14c7754c91e48efc9be", note=_MD5_ONLY),
        n_parameters=4_837_455,
        pooled=16,
        channels=512,
        embedding=512,
        mode_errors={"fast": 2.2e-5, "half": 8.5e-3},
    ),
    Variant(
        name="panns-mobilenetv1",
        summary="PANNs MobileNetV1, light (mAP 0.389)",
        network="MobileNetV1",
        weights=_weights(
            "panns-mobilenetv1",
            "MobileNetV1_mAP=0.389.pth",
            23_639_473,
            md5="a419303e1c88aa1b9d2ac3811563d371",
            note=_MD5_ONLY,
        ),
        n_parameters=4_796_303,
        pooled=32,
        channels=1024,
        embedding=1024,
        mode_errors={"fast": 9.8e-6, "half": 6.2e-3},
        width=32,
    ),
    Variant(
        name="panns-mobilenetv2",
        summary="PANNs MobileNetV2, light (mAP 0.383)",
        network="MobileNetV2",
        weights=_weights("panns-mobilenetv2", "MobileNetV2_mAP=0.383.pth", 0, note=_NOT_KNOWN),
        n_parameters=4_075_343,
        pooled=32,
        channels=1280,
        embedding=1024,
        mode_errors={"fast": 3.8e-4, "half": 7.4e-2},
        width=32,
    ),
    Variant(
        name="epanns",
        summary="E-PANNs: CNN14 with half of the filters of blocks 4 to 6 pruned",
        network="Cnn14_pruned",
        weights=EPANNS_WEIGHTS,
        n_parameters=23_205_839,
        pooled=32,
        channels=1024,
        embedding=2048,
        mode_errors={"fast": 1.4e-5, "half": 5.4e-3},
        tags=f"softmax over the {AUDIOSET_CLASSES} AudioSet classes, as the authors' code has it",
        batch_clips=4,
    ),
)
