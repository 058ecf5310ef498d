"""The two lines most users type first, with a CNN14 checkpoint in the official format."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from badfiles import music, write
from narrow_panns import make_random_checkpoint

from pipeline.stores import open_store

ROOT = Path(__file__).parents[2]
RATE_HZ = 32_000


def _make(target: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    tools = [f"BIN={Path(sys.executable).parent}", "READY="]
    outer = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKEOVERRIDES", "ARGS")}
    return subprocess.run(
        ["make", target, *tools, *words],
        cwd=ROOT,
        env=outer | {"EAST_HOME": str(home), "EAST_WEIGHTS": str(home / "weights")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_extract_with_panns_then_train(tmp_path: Path) -> None:
    audio, home, checkpoint = tmp_path / "songs", tmp_path / "home", tmp_path / "cnn14.pth"
    for label in ("loud", "quiet"):
        (audio / label).mkdir(parents=True)
        for row in range(6):
            write(audio / label / f"{row}.wav", music(RATE_HZ, 4.0, seed=row), RATE_HZ, "WAV", "PCM_16")
    make_random_checkpoint(checkpoint)
    found = _make("extract", home, f"DATA={audio}", "TEACHER=panns", f"ARGS=--weights {checkpoint}")
    assert found.returncode == 0, found.stderr
    with open_store(home / "songs/stores/panns/clip.zarr") as store:
        assert store.meta.complete
        assert store.shape == (12, 1, 2048)
    found = _make("train", home, f"DATA={audio}", "STUDENT=cnn-small", "ARGS=--steps 4 --batch 4")
    assert found.returncode == 0, found.stderr
    assert len(list((home / "songs/runs").glob("*/student.safetensors"))) == 1


def test_train_without_a_store_names_the_command_that_makes_it(tmp_path: Path) -> None:
    audio = tmp_path / "songs"
    audio.mkdir()
    write(audio / "a.wav", music(RATE_HZ, 4.0, seed=0), RATE_HZ, "WAV", "PCM_16")
    found = _make("train", tmp_path / "home", f"DATA={audio}", "TEACHER=panns", "STUDENT=cnn-small")
    assert found.returncode != 0
    assert "make extract TEACHER=panns" in found.stderr
    assert "Traceback" not in found.stderr
