"""SIGTERM at commands that run: one sentence, exit status 143, nobody left behind, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from extracting import ROOT
from killing import family, require_gone

pytestmark = pytest.mark.slow

CLIPS = 6


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    folder = tmp_path / "audio"
    folder.mkdir()
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, (CLIPS, 16000))
    for index, clip in enumerate(samples):
        soundfile.write(folder / f"{index}.wav", clip, 16000)
    return folder


def started(home: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = os.environ | {"EAST_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )


def terminate(process: subprocess.Popen[str], saying: str, *, group: bool) -> str:
    """SIGTERM once it has said that, to it alone or to all its processes at once; what it said."""
    assert process.stdout is not None
    watchdog = threading.Timer(90, process.kill)
    watchdog.start()
    said = ""
    while saying not in said:
        line = process.stdout.readline()
        assert line, f"ended with {process.wait()} after saying: {said}"
        said += line
    children = family(process)
    (os.killpg if group else os.kill)(process.pid, signal.SIGTERM)
    said += process.communicate()[0]
    watchdog.cancel()
    assert process.returncode == 143, said
    assert said.endswith("\nStopped by SIGTERM. What was finished is kept; the same command goes on from there.\n")
    for word in ("Traceback", "distributed", "nanny", "error:", "Error"):
        assert word not in said
    require_gone(children)
    return said


@pytest.mark.parametrize("group", [False, True])
def test_extraction_stops_and_goes_on(tmp_path: Path, audio: Path, group: bool) -> None:
    words = ("extract", "--data", str(audio), "--teacher", "none", "--workers", "1")
    said = terminate(started(tmp_path, *words), f"extract: 0/{CLIPS} clips", group=group)
    assert f"extract: {CLIPS}/{CLIPS}" not in said
    again = started(tmp_path, *words)
    said = again.communicate(timeout=90)[0]
    assert again.returncode == 0, said


def test_extraction_in_one_process_stops(tmp_path: Path, audio: Path) -> None:
    terminate(
        started(tmp_path, "extract", "--data", str(audio), "--teacher", "none", "--workers", "0"),
        f"extract: 0/{CLIPS} clips",
        group=False,
    )
