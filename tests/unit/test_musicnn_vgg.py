"""The VGG of the musicnn package against the original code's numbers, and its loading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from narrow_musicnn import random_vgg_layers
from numpy.lib.npyio import NpzFile
from torch import Tensor

from pipeline import weights
from pipeline.audio.extractor import Mode, build_extractor
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.bundle import read_bundle
from pipeline.extraction.teachers.musicnn.vgg import Vgg, pooled_length
from pipeline.extraction.teachers.musicnn.vgg_extractor import MusicnnVgg, build
from pipeline.extraction.teachers.musicnn.vgg_layers import read_vgg_layers
from pipeline.registry import find_teacher

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = {"musicnn-vgg": "MTT_vgg", "musicnn-vgg-msd": "MSD_vgg"}
CARD = find_teacher("musicnn-vgg")
OUTPUTS = tuple(output.name for output in CARD.outputs)
LIMITS: dict[Mode, float] = {"exact": 1e-4, "fast": 2e-3, "half": 3e-2}


@pytest.fixture(scope="module")
def golden() -> NpzFile:
    return np.load(GOLDEN / "musicnn_vgg.npz", allow_pickle=False)


@pytest.fixture(scope="module")
def waveform() -> Tensor:
    record = np.load(GOLDEN / "musicnn.npz", allow_pickle=False)
    return torch.from_numpy(record["waveform"].astype(np.float32) / 32768)[None]


@pytest.fixture(scope="session")
def checkpoints() -> dict[str, tuple[Path, ...]]:
    """The real weights, from the PyPI package."""
    try:
        return {name: weights.fetch_all(find_teacher(name).weights) for name in MODELS}
    except WeightsError as error:
        pytest.skip(f"the weights of the musicnn package are not to be had here: {error}")


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        pytest.param(n, m, marks=[pytest.mark.slow] * (n.endswith("msd") and m != "fast"))
        for n in MODELS
        for m in LIMITS
    ],
)
def test_ten_seconds_are_the_original_s(
    golden: NpzFile, waveform: Tensor, checkpoints: dict[str, tuple[Path, ...]], name: str, mode: Mode
) -> None:
    extractor = build_extractor(find_teacher(name), outputs=OUTPUTS, mode=mode, weights=checkpoints[name])
    made = extractor(waveform, torch.tensor([waveform.shape[1]]))
    for output in OUTPUTS:
        wanted = golden[f"{MODELS[name]}/{output}"]
        features = made[output].features[0].numpy()
        assert features.shape == wanted.shape
        assert np.abs(features - wanted).max() < LIMITS[mode] * np.abs(wanted).max(), output


def test_the_reordered_network_is_the_published_one() -> None:
    """With scales of both signs, also where a maximum drops an odd row."""
    layers = random_vgg_layers(width=5, seed=2)
    assert any((layer.scale < 0).any() for layer in layers.convolutions)
    logmel = torch.rand(2, 187 + 93, 96, generator=torch.Generator().manual_seed(0)) * 3
    plain, quick = Vgg(layers, reorder=False), Vgg(layers, reorder=True)
    wanted, made = plain.of_patches(logmel, 2), quick.of_patches(logmel, 2)
    for name in wanted:
        torch.testing.assert_close(made[name], wanted[name], rtol=1e-5, atol=1e-5)
    lengths = torch.tensor([280, 101])
    torch.testing.assert_close(quick.frames(logmel, lengths), plain.frames(logmel, lengths), rtol=1e-5, atol=1e-5)


def test_the_last_pool_is_flattened_as_the_tags_read_it() -> None:
    """First half of the patch, then the second: only the second changes with what sounds there."""
    network = Vgg(random_vgg_layers(width=4), reorder=False)
    quiet = torch.zeros(1, 187, 96)
    loud = quiet.clone()
    loud[:, 150:] = torch.rand(37, 96, generator=torch.Generator().manual_seed(1)) * 5
    before, after = (network.of_patches(logmel, 1)["pool5"][0, 0] for logmel in (quiet, loud))
    assert torch.equal(before[:4], after[:4])
    assert not torch.equal(before[4:], after[4:])


@pytest.mark.parametrize("n_mel", [0, 3, 17, 18, 19, 33, 34, 50, 187, 626])
def test_lengths_are_those_of_the_pools(n_mel: int) -> None:
    network = Vgg(random_vgg_layers(width=1), reorder=False)
    x = torch.zeros(1, 1, max(n_mel, 18), 96)
    for block in network.blocks[:4]:
        x = block(x)
    assert pooled_length(max(n_mel, 18), 4) == x.shape[2]
    assert pooled_length(n_mel, 4) == (x.shape[2] if n_mel >= 18 else 0)


def test_counts() -> None:
    extractor = MusicnnVgg(CARD, outputs=("pool5",), mode="fast", layers=random_vgg_layers())
    assert [extractor.count_frames("pool5", n) for n in (0, 1, 186 * 256, 279 * 256)] == [0, 1, 1, 2]
    assert extractor.count_frames("taggram", 160_000) == 5
    assert [extractor.count_frames("frames", n) for n in (0, 1, 17 * 256, 32 * 256, 33 * 256)] == [0, 1, 1, 1, 2]
    assert extractor.count_frames("frames", 160_000) == 39


def test_weights_of_musicnn_itself_are_told(checkpoints: dict[str, tuple[Path, ...]]) -> None:
    files = weights.fetch_all(find_teacher("musicnn").weights)
    with pytest.raises(WeightsError, match=r"has shape \[204\], a VGG checkpoint of musicnn 0\.1\.0 has \[128\]"):
        build(CARD, outputs=("pool5",), mode="fast", weights=files)
    with pytest.raises(WeightsError, match=r"this is not a MusiCNN checkpoint"):
        build_extractor(find_teacher("musicnn"), weights=checkpoints["musicnn-vgg"])


def test_another_width_is_told_by_the_shape(checkpoints: dict[str, tuple[Path, ...]]) -> None:
    with pytest.raises(WeightsError, match=r"has shape \[128\], a VGG checkpoint of musicnn 0\.1\.0 has \[64\]"):
        read_vgg_layers(*checkpoints["musicnn-vgg"], width=64, n_tags=50)


def test_a_value_that_is_not_finite_is_told(
    checkpoints: dict[str, tuple[Path, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = dict(read_bundle(*checkpoints["musicnn-vgg"]))
    tensors["3CNN/bias"] = np.full(128, np.nan, np.float32)
    monkeypatch.setattr("pipeline.extraction.teachers.musicnn.vgg_layers.read_bundle", lambda *_: tensors)
    with pytest.raises(WeightsError, match="3CNN/bias holds values that are not finite"):
        read_vgg_layers(*checkpoints["musicnn-vgg"], width=128, n_tags=50)


def test_one_file_of_two_is_told() -> None:
    with pytest.raises(WeightsError, match=r"takes 2 files of weights \(MTT_vgg\.index, MTT_vgg\.data"):
        build(CARD, outputs=("pool5",), mode="fast", weights=(Path("x"),))


def test_the_size_on_the_card_is_that_of_the_network(checkpoints: dict[str, tuple[Path, ...]]) -> None:
    for files in checkpoints.values():
        layers = read_vgg_layers(*files, width=128, n_tags=50)
        sizes = [layer.kernel.size + 3 * layer.bias.size for layer in layers.convolutions]
        assert sum(sizes) + 2 + layers.tags.size + layers.tags_bias.size == CARD.n_parameters
