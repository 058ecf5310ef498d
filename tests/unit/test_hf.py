"""The numbers of transformers: each architecture against the library itself, one clip at a time."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from narrow_hf import MODELS, build_model, save_model
from torch import Tensor

from pipeline.audio.extractor import Extractor, Frames

#: The published AST has filters narrower than a bin.
pytestmark = pytest.mark.filterwarnings("ignore:At least one mel filter")

RATE_HZ = 16_000
LENGTHS = (31_000, 16_000, 15_999, 2_900, 500)
LAYERS = {name: 2 if name in ("whisper", "ast") else 3 for name in MODELS}
WITH_LAYERS = [name for name in MODELS if not name.startswith("clap")]
WAVE = [name for name in WITH_LAYERS if name not in ("whisper", "ast")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@cache
def path_of(name: str, folder: Path) -> Path:
    return save_model(name, folder)


@cache
def reference_of(name: str, folder: Path) -> tuple[Any, Any]:
    path = path_of(name, folder)
    model = transformers.AutoModel.from_pretrained(path, attn_implementation="eager").eval()
    model = getattr(model, {"whisper": "encoder", "clap": "audio_model"}.get(name.partition("-")[0], ""), model)
    return model, transformers.AutoFeatureExtractor.from_pretrained(path)


def tune(n_samples: int, seed: int = 0) -> np.ndarray:
    """A chord in noise."""
    time = np.arange(n_samples) / RATE_HZ
    noise = np.random.default_rng(seed).normal(0, 0.05, n_samples)
    return (0.3 * np.sin(2 * np.pi * 220 * time) + 0.2 * np.sin(2 * np.pi * 1234.5 * time) + noise).astype(np.float32)


def batch(*lengths: int) -> tuple[Tensor, Tensor]:
    audio = torch.zeros(len(lengths), max(lengths))
    for row, n in enumerate(lengths):
        audio[row, :n] = torch.from_numpy(tune(n, row))
    return audio, torch.tensor(lengths)


def run(extractor: Extractor, *lengths: int) -> dict[str, Frames]:
    made: dict[str, Frames] = extractor(*batch(*lengths))
    return made


@torch.inference_mode()
def from_library(name: str, folder: Path, samples: np.ndarray, layer: int | None = None) -> tuple[Tensor, Tensor]:
    """Frames and embedding of one clip as a user of the library would get them."""
    model, preprocessor = reference_of(name, folder)
    inputs = preprocessor(samples, sampling_rate=RATE_HZ, return_tensors="pt")
    inputs = {key: value for key, value in inputs.items() if key != "attention_mask"}
    if name.startswith("clap"):  # by chance, one short clip of a batch counts as long
        inputs["is_longer"] = torch.zeros(1, 1, dtype=torch.bool)
    found = model(**inputs, output_hidden_states=layer is not None)
    tokens = found.last_hidden_state[0] if layer is None else found.hidden_states[layer][0]
    if name.startswith("clap"):
        return tokens.mean(1).T[: math.ceil(len(samples) / 1000)], found.pooler_output[0]
    if name == "ast":
        n_mel = 1 + max(0, len(samples) - 400) // 160
        patches = tokens[2:].reshape(12, 12, -1).mean(0)
        return patches[: max(1, 1 + (n_mel - 16) // 10)], tokens[:2].mean(0)
    frames = tokens[: math.ceil(len(samples) / 320)] if name == "whisper" else tokens
    return frames, frames.mean(0)


def assert_close(found: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == wanted.shape
    scale = max(1.0, float(wanted.abs().max()))
    assert float((found - wanted).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("name", MODELS)
def test_a_batch_is_what_the_library_gives_for_each_clip_alone(name: str, folder: Path) -> None:
    extractor = build_model("", path_of(name, folder), outputs=("frames", "clip"))
    lengths = [min(n, extractor.numbers.limit or n) for n in LENGTHS]  # type: ignore[union-attr]
    made = run(extractor, *lengths)
    for row, n in enumerate(lengths):
        frames, clip = from_library(name, folder, tune(n, row))
        assert len(frames) < 3 or float(frames.std(0).max()) > 1e-2, "a network that says nothing shows nothing"
        assert_close(made["frames"].features[row, : int(made["frames"].n_frames[row])], frames)
        assert_close(made["clip"].features[row, 0], clip)
    assert made["frames"].n_frames.tolist() == [extractor.count_frames("frames", n) for n in lengths]


@pytest.mark.parametrize("name", WITH_LAYERS)
def test_layers_stand_side_by_side(name: str, folder: Path) -> None:
    extractor = build_model(":layer=all", path_of(name, folder), outputs=("frames", "clip"))
    made = run(extractor, 16_000)
    wanted = [from_library(name, folder, tune(16_000), layer) for layer in range(LAYERS[name] + 1)]
    assert_close(made["frames"].features[0], torch.cat([frames for frames, _ in wanted], -1))
    assert_close(made["clip"].features[0, 0], torch.cat([clip for _, clip in wanted]))
    mean = run(build_model(":layer=mean", path_of(name, folder)), 16_000)
    assert_close(mean["frames"].features[0], torch.stack([frames for frames, _ in wanted]).mean(0))


@pytest.mark.parametrize("name", WITH_LAYERS)
@pytest.mark.parametrize("layer", [0, 1])
def test_a_layer_alone_runs_no_more_of_the_network_than_it_needs(name: str, layer: int, folder: Path) -> None:
    extractor = build_model(f":layer={layer}", path_of(name, folder))
    frames, _ = from_library(name, folder, tune(16_000), layer)
    assert_close(run(extractor, 16_000)["frames"].features[0], frames)
    modules = dict(extractor.network.named_modules())  # type: ignore[union-attr, operator]
    kept = [modules[place] for place in extractor.adapter.layers if place in modules]  # type: ignore[union-attr]
    assert [len(layers) for layers in kept] == [layer + 1]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["wav2vec2-layer", "hubert"])
def test_a_long_clip_is_cut_into_windows_that_join(name: str, folder: Path) -> None:
    """Normalised as a whole; the last window reaches back and gives what is new."""
    extractor = build_model(":window=1", path_of(name, folder), outputs=("frames", "clip"))
    n = 2 * RATE_HZ + 5000
    made = run(extractor, n, 9000)
    whole = tune(n)
    whole = (whole - whole.mean()) / np.sqrt(whole.var() + 1e-7)
    model, _ = reference_of(name, folder)
    with torch.inference_mode():
        wanted = []
        for first, last, new in ((0, 49, 0), (49, 98, 0), (66, 115, 32)):
            cut = torch.from_numpy(whole[first * 320 : (last - 1) * 320 + 400])[None]
            wanted.append(model(cut).last_hidden_state[0, new:])
    n_frames = 1 + (n - 400) // 320
    assert made["frames"].n_frames.tolist() == [n_frames, 1 + (9000 - 400) // 320]
    assert_close(made["frames"].features[0], torch.cat(wanted))
    assert_close(made["clip"].features[0, 0], torch.cat(wanted).mean(0))


@pytest.mark.parametrize(("name", "step", "frame", "n"), [("whisper", 100, 320, 70_001), ("ast", 12, 1600, 50_000)])
def test_windows_of_models_with_one_length(name: str, step: int, frame: int, n: int, folder: Path) -> None:
    extractor = build_model("", path_of(name, folder))
    found = run(extractor, n)["frames"].features[0]
    limit = extractor.numbers.limit  # type: ignore[union-attr]
    whole = tune(n)
    first, _ = from_library(name, folder, whole[:limit])
    assert_close(found[:step], first)
    from_frame = len(found) - step
    last, _ = from_library(name, folder, whole[from_frame * frame :][:limit])
    n_windows = math.ceil(len(found) / step)
    assert_close(found[step * (n_windows - 1) :], last[step * n_windows - len(found) :])


def test_frames_are_pooled_to_a_coarser_hop(folder: Path) -> None:
    path = path_of("hubert", folder)
    extractor = build_model(":pool=0.1", path, outputs=("frames", "clip"))
    fine = run(build_model("", path), 16_000, 9000)["frames"]
    made = run(extractor, 16_000, 9000)
    wanted = fine.features[0].split(5)
    assert_close(made["frames"].features[0], torch.stack([part.mean(0) for part in wanted]))
    assert made["frames"].n_frames.tolist() == [10, 6]
    assert not made["frames"].features[1, 6:].any()
    assert_close(made["frames"].features[1, 5], fine.features[1, 25:27].mean(0))
    assert_close(
        made["clip"].features[:, 0], run(build_model("", path, outputs=("clip",)), 16_000, 9000)["clip"].features[:, 0]
    )


def test_pooling_to_a_hop_that_is_no_multiple(folder: Path) -> None:
    """Frame k starts at 20 k ms: 0, 20 and 40 ms are in the first 50 ms, 60 and 80 ms in the second."""
    path = path_of("hubert", folder)
    fine = run(build_model("", path), 16_000)["frames"].features[0]
    made = run(build_model(":pool=0.05", path), 16_000)["frames"].features[0]
    assert_close(made[0], fine[:3].mean(0))
    assert_close(made[1], fine[3:5].mean(0))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("mode", ["fast", "half"])
def test_the_other_modes_are_close(name: str, mode: Any, folder: Path) -> None:
    path = path_of(name, folder)
    exact = run(build_model("", path), 31_000)["frames"].features
    other = run(build_model("", path, mode=mode), 31_000)["frames"].features
    limit = 1e-4 if mode == "fast" else 0.1
    assert float((other - exact).norm()) <= limit * float(exact.norm())
    assert mode == "fast" or not torch.equal(other, exact)


@pytest.mark.parametrize("name", MODELS)
def test_one_sample_and_silence_are_finite(name: str, folder: Path) -> None:
    extractor = build_model("", path_of(name, folder), outputs=("frames", "clip"))
    for audio, n in ((torch.full((1, 1), 0.5), 1), (torch.zeros(1, 9000), 9000)):
        for features, n_frames in extractor(audio, torch.tensor([n])).values():
            assert int(n_frames[0]) >= 1
            assert torch.isfinite(features).all()


def test_training_time_noise_is_off(folder: Path, tmp_path: Path) -> None:
    """Layers dropped, spans masked, adapters: none of it, whatever the configuration says."""
    torch.manual_seed(0)
    made = transformers.Wav2Vec2Config.from_pretrained(path_of("wav2vec2-layer", folder))
    made.update({"layerdrop": 0.9, "mask_time_prob": 0.9, "mask_time_length": 2, "hidden_dropout": 0.9})
    model = transformers.AutoModel.from_pretrained(path_of("wav2vec2-layer", folder), config=made)
    model.save_pretrained(tmp_path)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    frames, _ = from_library("wav2vec2-layer", folder, tune(16_000))
    for _ in range(2):
        assert_close(run(build_model("", tmp_path), 16_000)["frames"].features[0], frames)
