"""Processes of our own run none of the code that lies in the current folder, and find ours wherever they start."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.experiments.children import Spawned
from pipeline.experiments.grid import command
from pipeline.experiments.recipe import load_recipe, plan
from pipeline.extraction.isolate import find_killers
from pipeline.extraction.jobs import ClipJob
from pipeline.interpreter import python, python_path
from pipeline.stores import hdf5_probe


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with modules named like Python's and ours that leave a mark."""
    folder = tmp_path / "download"
    folder.mkdir()
    for name in ("json", "signal", "cli", "pipeline", "h5py"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("EAST_STORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "ran"


def test_a_look_at_an_hdf5_file(trapped: Path) -> None:
    with h5py.File("a.h5", "w") as file:
        file["features"] = np.zeros((2, 3), "f4")
    hdf5_probe._stop()
    hdf5_probe.require_safe(Path("a.h5"))
    assert not trapped.exists()


def test_clips_decoded_apart(trapped: Path) -> None:
    assert find_killers([ClipJob("a", "none.wav", 0.0, 1.0)], 1.0) == {}
    assert not trapped.exists()


def test_a_run_of_an_experiment(trapped: Path) -> None:
    line = command(plan(load_recipe("demo"))[0])
    child = Spawned([*line[: line.index("-q")], "--version"], 1)
    try:
        assert child.wait(60)
        assert child.exit_code() == 0, child.output()
    finally:
        child.kill()
        child.close()
    assert not trapped.exists()


def test_what_the_user_adds_to_the_path_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugins_of_mine.py").write_text("print('found')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code = "import plugins_of_mine, pipeline; print(pipeline.__file__)"
    said = subprocess.run(
        python("-c", code), env=os.environ | python_path(), capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["found", hdf5_probe.__file__.replace("stores/hdf5_probe.py", "__init__.py")]
