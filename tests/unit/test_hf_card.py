"""Cards of single models: numbers from their settings, names without paths, the hub's cache, wrong requests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from extracting import ROOT
from narrow_hf import build_model, save_model

from pipeline.cards import ExtractorCard
from pipeline.errors import SettingError, WeightsError
from pipeline.extraction.teachers.hf.architecture import Architecture, read_architecture
from pipeline.extraction.teachers.hf.windows import cut_windows
from pipeline.registry import find_teacher, subject_of
from pipeline.weights.models import fetch_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "f" * 40
#: What the published models say; the rest are defaults of their configurations.
PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Wav2Vec2": ({}, {"sampling_rate": 16_000}),
    "Hubert": (
        {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096},
        {"sampling_rate": 16_000},
    ),
    "WavLM": ({}, {"sampling_rate": 16_000}),
    "Data2VecAudio": ({"num_conv_pos_embeddings": 5}, {"sampling_rate": 16_000}),
    "Wav2Vec2Conformer": ({}, {"sampling_rate": 16_000}),
    "AST": ({}, {"sampling_rate": 16_000}),
    "Whisper": (
        {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
        | {"decoder_layers": 1, "decoder_attention_heads": 8},
        {"sampling_rate": 16_000},
    ),
    "ClapAudio": ({}, {"sampling_rate": 48_000}),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("hubert", "whisper", "ast", "clap"):
        save_model(name, folder)
    return folder


@pytest.fixture
def hub(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache as the hub's client leaves it, and no network."""
    base = tmp_path / "models--lab--tiny"
    shutil.copytree(models / "hubert", base / "snapshots" / COMMIT)
    (base / "snapshots" / COMMIT / "README.md").write_text("---\ntags: [x]\nlicense: cc-by-nc-4.0\n---\n# Tiny\n")
    (base / "refs").mkdir()
    (base / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return base


def numbers_of(name: str) -> tuple[Architecture, Any]:
    changes, preprocessor = PUBLISHED[name]
    config = getattr(transformers, f"{name}Config")(**changes)
    return read_architecture(config.to_dict(), preprocessor, name), config


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_estimated_within_a_few_percent(name: str) -> None:
    numbers, config = numbers_of(name)
    with torch.device("meta"):
        model = getattr(transformers, f"{name}Model")(config)
    model = getattr(model, "encoder", model) if name == "Whisper" else model
    exact = sum(parameter.numel() for parameter in model.parameters())
    assert numbers.n_parameters == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(
    ("name", "hop_s", "seconds", "frames"),
    [
        ("Wav2Vec2", 0.02, 10, 499),
        ("AST", 0.1, 10.24, 101),
        ("Whisper", 0.02, 30, 1500),
        ("Whisper", 0.02, 10.001, 501),
        ("ClapAudio", 0.3125, 10, 32),
    ],
)
def test_hops_and_counts_of_published_models(name: str, hop_s: float, seconds: float, frames: int) -> None:
    numbers, _ = numbers_of(name)
    assert numbers.hop / numbers.rate_hz == hop_s
    assert numbers.count_frames(round(seconds * numbers.rate_hz)) == frames


@pytest.mark.parametrize("name", PUBLISHED)
def test_windows_cover_every_frame_once(name: str) -> None:
    numbers, _ = numbers_of(name)
    window = numbers.limit or numbers.needed + 49 * numbers.hop
    lengths = [0, 1, window - 1, window, window + numbers.hop, 3 * window + 17]
    found: dict[int, list[int]] = {}
    for cut in cut_windows(lengths, numbers, window):
        found.setdefault(cut.clip, []).extend(range(cut.first_frame, cut.first_frame + cut.n_frames))
        assert cut.start + cut.n_samples <= lengths[cut.clip]
        assert cut.first_frame - cut.skip == cut.start // numbers.hop
    counts = [numbers.count_frames(n) for n in lengths]
    assert found == {clip: list(range(count)) for clip, count in enumerate(counts) if count}


def test_a_folder_gives_its_name_and_no_path(models: Path) -> None:
    card = find_teacher(f"hf:{models}/hubert:layer=1+2:pool=0.1")
    assert card.name == "hf-hubert-layer1+2-pool0.1"
    assert str(models) not in json.dumps(card.as_dict())
    assert card.parameters["layers"] == "1+2"
    frames, clip = card.outputs
    assert (frames.channels, frames.hop_s) == (48, 0.1)
    assert frames.note.startswith("channels 0-23 layer 1, 24-47 layer 2, averaged over 0.1 s")
    assert clip.channels == 48
    assert card.licence_weights.startswith("unknown")


def test_the_hub_gives_a_commit_whatever_was_asked_for(hub: Path) -> None:
    card = find_teacher("hf:lab/tiny")
    assert find_teacher("hf:lab/tiny@main").parameters == card.parameters
    assert card.name == "hf-lab-tiny"
    assert card.parameters["repository"] == "lab/tiny"
    assert card.parameters["revision"] == COMMIT
    assert card.licence_weights == "cc-by-nc-4.0"
    assert card.citation.endswith(f"https://huggingface.co/lab/tiny/tree/{COMMIT}")
    files = fetch_model("lab/tiny")
    assert [path.name for path in files] == ["config.json", "preprocessor_config.json", "model.safetensors"]
    assert files == fetch_model(f"lab/tiny@{COMMIT}")
    assert {path.parent for path in files} == {hub / "snapshots" / COMMIT}


def test_what_came_first_stays_until_another_revision_is_named(hub: Path) -> None:
    shutil.copytree(hub / "snapshots" / COMMIT, hub / "snapshots" / OTHER)
    assert find_teacher("hf:lab/tiny").parameters["revision"] == COMMIT
    assert find_teacher(f"hf:lab/tiny@{OTHER}").parameters["revision"] == OTHER
    (hub / "refs" / "v2").write_text(OTHER)
    assert find_teacher("hf:lab/tiny@v2").parameters["revision"] == OTHER


@pytest.mark.parametrize("request_text", ["hf:lab/other", f"hf:lab/tiny@{OTHER}"])
def test_a_model_that_is_not_to_be_had_says_how_to_place_it(hub: Path, request_text: str) -> None:
    del hub
    with pytest.raises(WeightsError, match=r"could not be had from the Hugging Face hub: (?s:.*)ask for hf:FOLDER"):
        find_teacher(request_text)


def test_weights_that_did_not_come_are_missed_at_once(hub: Path) -> None:
    (hub / "snapshots" / COMMIT / "model.safetensors").unlink()
    find_teacher("hf:lab/tiny")
    with pytest.raises(WeightsError, match=f"lab/tiny at {COMMIT} could not be had"):
        fetch_model("lab/tiny")


@pytest.mark.parametrize(
    ("model", "settings", "says"),
    [
        ("hubert", "layer=4", r"layer=4: '4' is no layer of this model. It has 0 .* to 3, last, mean"),
        ("hubert", "layer=-1", "'-1' is no layer"),
        ("hubert", "layer=1+", "'' is no layer"),
        ("hubert", "pool=0.001", r"pool=0\.001: the model's own hop is 0\.02 s"),
        ("hubert", "pool=-1", "pool=-1: the model's own hop"),
        ("hubert", "pool=nan", "pool=nan: not a number of seconds"),
        ("hubert", "window=0.5", r"window=0\.5: give 1 s or more"),
        ("hubert", "window=inf", "window=inf: not a number of seconds"),
        ("whisper", "window=10", "this model takes windows of 2 s and no other"),
        ("clap", "layer=1", "the layers of this model differ in width and hop"),
    ],
)
def test_settings_that_a_model_does_not_have(models: Path, model: str, settings: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        find_teacher(f"hf:{models}/{model}:{settings}")


@pytest.mark.parametrize("subject", ["/nowhere/model", "a b", "a/b/c", "lab/model@"])
def test_neither_a_folder_nor_a_model(subject: str, hub: Path) -> None:
    del hub
    with pytest.raises((SettingError, WeightsError), match=r"neither a folder that exists|could not be had"):
        find_teacher(f"hf:{subject}")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.json", None, "hubert has no config.json: not the folder of a transformers model"),
        ("config.json", "{", "hubert: config.json cannot be read as JSON"),
        ("config.json", "[]", "hubert: config.json is not a table of settings"),
        ("preprocessor_config.json", None, "hubert has no preprocessor_config.json, which says the sample rate"),
        ("preprocessor_config.json", "{}", "preprocessor_config.json has no sampling_rate"),
    ],
)
def test_small_files_that_are_missing_or_wrong(
    models: Path, tmp_path: Path, file: str, content: str | None, says: str
) -> None:
    folder = Path(shutil.copytree(models / "hubert", tmp_path / "hubert"))
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    with pytest.raises(WeightsError, match=says):
        find_teacher(f"hf:{folder}")


def test_settings_of_a_processor_are_read_too(models: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models / "hubert", tmp_path / "hubert"))
    inner = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").unlink()
    (folder / "processor_config.json").write_text(json.dumps({"feature_extractor": inner, "processor_class": "X"}))
    assert find_teacher(f"hf:{folder}").rate_hz == 16_000
    build_model("", folder)


def test_a_card_is_made_without_torch(models: Path) -> None:
    code = (
        "import sys; from pipeline.registry import find_teacher\n"
        f"print(find_teacher('hf:{models}/ast').rate_hz, 'torch' in sys.modules, 'transformers' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["16000", "False", "False"]


def test_the_family_alone_cannot_be_built(models: Path) -> None:
    card: ExtractorCard = find_teacher(f"hf:{models}/hubert")
    assert subject_of(f"hf:{models}/hubert:layer=1") == f"{models}/hubert"
    with pytest.raises(SettingError, match=r"hf needs a model: hf:MODEL\[@REVISION\]"):
        find_teacher("hf")
    assert card.subject
