"""Two processes train one student: each its part of every batch, the same weights in both, none left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))

from synthetic import make_dataset

from pipeline import layout
from pipeline.distillation.choosing import resolve_devices
from pipeline.distillation.settings import TrainSettings
from pipeline.distillation.trainer import train
from pipeline.errors import SettingError, TrainingError
from pipeline.evaluation.runs import read_history, read_run
from pipeline.events import EpochDone, Event, Note, TaskAdvanced


def _settings(**changes: object) -> TrainSettings:
    base = {"data": "tiny", "steps": 8, "batch": 16, "labelled": 24, "device": "cpu", "validate_every": 2, "threads": 1}
    return TrainSettings(**(base | changes))  # type: ignore[arg-type]


def test_how_many_processes() -> None:
    assert _settings().processes == 1
    assert _settings(devices=2).processes == 2
    assert _settings(device="cuda:0,1").processes == 2
    assert "processes" not in _settings().config()
    assert _settings(devices=2).config()["processes"] == 2
    assert resolve_devices("cpu", 3) == ("cpu", "cpu", "cpu")
    with pytest.raises(SettingError, match="lists 2 devices, but --devices asks for 3"):
        _settings(device="cuda:0,1", devices=3)
    with pytest.raises(SettingError, match=r"--batch 16 cannot be shared by 3 processes.*such as 15"):
        _settings(devices=3)
    with pytest.raises(SettingError, match="mps is one device, but --devices asks for 2"):
        resolve_devices("mps", 2)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def _home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(home))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if not (home / "tiny").exists():
        make_dataset(home)


@pytest.mark.slow
def test_two_processes_train_and_go_on_to_the_same_numbers(home: Path) -> None:
    """That both hold the same weights is checked at each validation, by the run itself."""
    changes = {"loss": "east-kd-all", "schedule": "plateau", "ema": 0.9, "devices": 2}
    events: list[Event] = []
    whole = train(_settings(name="whole", **changes), events.append)
    assert any(isinstance(event, Note) and "on cpu in 2 processes of 8 clips" in event.text for event in events)
    assert sum(e.amount for e in events if isinstance(e, TaskAdvanced) and e.task == whole.name) == 8
    assert sum(e.amount for e in events if isinstance(e, TaskAdvanced) and e.task == f"{whole.name}: scores") == 100
    run = read_run(whole)
    assert read_history(run)["step"].tolist() == [2, 4, 6, 8]
    assert '"processes": 2' in (whole / "run.json").read_text()

    def die(event: Event) -> None:
        if isinstance(event, EpochDone) and event.step == 4:
            raise RuntimeError("pulled the plug")

    settings = _settings(name="parts", **changes)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train(settings, die)
    assert not _members()
    train(settings)
    a, b = (load_file(folder / "student.safetensors") for folder in (whole, layout.runs_dir("tiny") / "parts"))
    assert all(np.array_equal(a[key], b[key]) for key in a)
    one, two = (read_history(read_run(path)) for path in (whole, layout.runs_dir("tiny") / "parts"))
    assert one["train_total"].tolist() == two["train_total"].tolist()
    assert one["valid_map"].tolist() == two["valid_map"].tolist()


@pytest.mark.slow
def test_the_reason_comes_from_the_process_that_knows(home: Path) -> None:
    with pytest.raises(SettingError, match="no clips in that split, only in valid"):
        train(_settings(devices=2, validate_on=("valid-odd",)))
    assert not _members()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_end_ends_all_of_them(home: Path, how: signal.Signals) -> None:
    words = ["--data", "tiny", "--loss", "labels", "--steps", "100000", "--batch", "16", "--device", "cpu"]
    command = [sys.executable, "cli.py", "train", *words, "--devices", "2", "--validate-every", "2", "--name", how.name]
    child = subprocess.Popen(command, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True)
    _wait(lambda: (home / "tiny" / "runs" / how.name / "last.ckpt").exists() and len(_members()) == 2)
    child.send_signal(how)
    _, said = child.communicate(timeout=60)
    assert child.returncode != 0
    assert "Traceback" not in said
    _wait(lambda: not _members())


@pytest.mark.slow
def test_a_process_that_is_killed_is_named(home: Path) -> None:
    def kill(event: Event) -> None:
        if isinstance(event, EpochDone) and event.step == 2:
            os.kill(_members()[-1], signal.SIGKILL)

    with pytest.raises(TrainingError, match=r"Process \d of 2 was killed \(signal 9\)"):
        train(_settings(devices=2, steps=10_000, loss="labels", name="shot"), kill)
    assert not _members()


def _members() -> list[int]:
    """Processes of this dataset's runs that are alive."""
    import psutil

    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status", "environ"]):
        facts = process.info
        ours = (facts["environ"] or {}).get(layout.HOME_VARIABLE) == os.environ[layout.HOME_VARIABLE]
        if ours and "pipeline.distillation.member" in (facts["cmdline"] or []) and facts["status"] != "zombie":
            found.append(facts["pid"])
    return sorted(found)


def _wait(done: object, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not done():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.1)
