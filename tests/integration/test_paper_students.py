"""The paper's students from audio files to a trained run, at full size, with their own front ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from badfiles import music, write
from click.testing import CliRunner

from cli import east
from pipeline.evaluation.runs import read_history, read_run
from pipeline.stores import open_store

RATE_HZ, CLIP_S, N_CLIPS = 32_000, 2.0, 12
BANDS = {"cp-resnet": ("mel-openmic", 200, 128), "mobile-fcn": ("mel-mtat", 100, 96)}
PAPER = ("--schedule", "plateau", "--lr", "1e-4", "--weight-decay", "1e-4", "--clip-norm", "1.0", "--batch", "4")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(BANDS))
def test_from_audio_to_a_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    for label in ("loud", "quiet"):
        (tmp_path / "songs" / label).mkdir(parents=True)
        for row in range(N_CLIPS // 2):
            write(tmp_path / "songs" / label / f"{row}.wav", music(RATE_HZ, CLIP_S, seed=row), RATE_HZ, "WAV", "PCM_16")
    data = ("--data", "songs", "--student", name, "--teacher", "none")
    for words in (
        ("data", "from", str(tmp_path / "songs"), "--clip-s", str(CLIP_S)),
        ("extract", *data, "--workers", "0"),
        ("train", *data, "--loss", "labels", "--steps", "3", *PAPER),
    ):
        result = CliRunner().invoke(east, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    front_end, frames, mels = BANDS[name]
    with open_store(tmp_path / f"home/songs/stores/{front_end}/logmel.zarr") as store:
        assert store.shape == (N_CLIPS, frames, mels)
    (folder,) = (tmp_path / "home/songs/runs").iterdir()
    assert json.loads((folder / "student.json").read_text())["student"] == name
    assert read_run(folder).complete
    assert np.isfinite(read_history(read_run(folder))["train_total"]).all()
