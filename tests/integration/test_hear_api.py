"""HEAR's functions over a student that was trained, over real weights, and before HEAR's own validator."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from extracting import ROOT
from narrow_panns import make_random_checkpoint
from synthetic import CLASSES, make_dataset

from pipeline import hear, layout, weights
from pipeline.deployment.tagger import load_tagger
from pipeline.distillation.settings import TrainSettings
from pipeline.distillation.trainer import train
from pipeline.errors import WeightsError
from pipeline.registry import find_teacher

#: Stands in for the package that the validator imports to tell its models from torch's.
NO_TENSORFLOW = "import sys, types; sys.modules['tensorflow'] = types.SimpleNamespace(Module=type('Module', (), {}))\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(layout.HOME_VARIABLE, str(home))
        make_dataset(home)
        folder = train(TrainSettings(data="tiny", steps=10, batch=16, device="cpu", loss="east-kd"), lambda _: None)
    about = json.loads((folder / "student.json").read_text("utf-8"))
    about["front_end"] = "mel-small"  # the made-up store has a card without parameters
    (folder / "student.json").write_text(json.dumps(about), "utf-8")
    return folder


@pytest.fixture(scope="module")
def musicnn() -> hear.HearModel:
    try:
        weights.fetch_all(find_teacher("musicnn").weights)
    except WeightsError as error:
        pytest.skip(f"MusiCNN's weights are not to be had here: {error}")
    return hear.load_model()


def test_a_trained_student_s_scene_leads_to_its_scores(run: Path) -> None:
    model, tagger = hear.load_model(str(run)), load_tagger(run)
    audio = torch.rand(3, round(tagger.clip_s * 16_000), generator=torch.Generator().manual_seed(0)) - 0.5
    scenes = hear.get_scene_embeddings(audio, model)
    scores = torch.sigmoid(tagger.student.get_submodule("classify")(scenes))
    assert scores.shape == (3, len(CLASSES))
    wanted = tagger.score([(clip, 16_000) for clip in audio.numpy()])
    np.testing.assert_allclose(scores.numpy(), wanted, atol=1e-5)


def test_the_default_hears_when_a_sound_begins(musicnn: hear.HearModel) -> None:
    """Silence, then a tone at 3 s: embeddings move then, within the 50 ms that HEAR allows."""
    time = torch.arange(6 * 16_000) / 16_000
    audio = (0.5 * torch.sin(2 * torch.pi * 440 * time) * (time >= 3))[None]
    embeddings, timestamps = hear.get_timestamp_embeddings(audio, musicnn)
    timbral = embeddings[0, :, :408]  # kernels of seven frames; the temporal ones reach a second
    moved = (timbral - timbral[100]).norm(dim=1)
    onset_ms = float(timestamps[0, int((moved > 0.5 * moved.max()).nonzero()[0])])
    assert abs(onset_ms - 3000) < 50 + 3 * 16


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    narrow_hf = pytest.importorskip("narrow_hf", reason="needs transformers", exc_type=ImportError)
    folder = narrow_hf.save_model("wav2vec2-group", tmp_path)
    model = hear.load_model(f"hf:{folder}")
    embeddings, timestamps = hear.get_timestamp_embeddings(torch.rand(2, 32_000) - 0.5, model)
    assert embeddings.shape == (2, 99, narrow_hf.WAVE["hidden_size"])
    assert hear.get_scene_embeddings(torch.rand(2, 32_000) - 0.5, model).shape == (2, narrow_hf.WAVE["hidden_size"])
    np.testing.assert_allclose(torch.diff(timestamps), 20.0)


def test_settings_and_a_local_file_of_weights(tmp_path: Path) -> None:
    """A narrow network is not the card's, which the reader of the file says."""
    make_random_checkpoint(tmp_path / "net.pth", width=2)
    with pytest.warns(UserWarning, match="used as you asked"), pytest.raises(WeightsError, match="of width 64"):
        hear.load_model(f"panns,weights={tmp_path / 'net.pth'},mode=exact")


def validate(model: str) -> subprocess.CompletedProcess[str]:
    code = f"{NO_TENSORFLOW}from hearvalidator.validate import main; main()"
    command = [sys.executable, "-c", code, "pipeline.hear", "--device", "cpu", *(["--model", model] if model else [])]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.mark.skipif(importlib.util.find_spec("hearvalidator") is None, reason="needs hearvalidator (--no-deps)")
@pytest.mark.slow
def test_the_validator_of_hear_agrees(run: Path, musicnn: hear.HearModel, tmp_path: Path) -> None:
    make_random_checkpoint(tmp_path / "cnn14.pth")
    for model in ("", str(run), f"panns,weights={tmp_path / 'cnn14.pth'}"):
        done = validate(model)
        assert done.returncode == 0, f"{model}:\n{done.stdout[-500:]}{done.stderr[-2000:]}"
        assert done.stdout.rstrip().endswith("Looks good!")
