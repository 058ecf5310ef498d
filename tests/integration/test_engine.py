"""How a run is driven: early stopping, the same bits again, TensorBoard, what is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))

from synthetic import make_dataset

from pipeline import layout
from pipeline.distillation.settings import TrainSettings
from pipeline.distillation.trainer import train
from pipeline.distillation.watching import Watcher
from pipeline.errors import SettingError, UnknownNameError
from pipeline.evaluation.runs import read_history, read_run
from pipeline.events import EpochDone, Event, Note


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(layout.HOME_VARIABLE, str(home))
        make_dataset(home)
    return home


@pytest.fixture
def home(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(made))
    return made


def _settings(**changes: object) -> TrainSettings:
    base = {"data": "tiny", "steps": 8, "batch": 16, "loss": "labels", "device": "cpu", "validate_every": 2}
    return TrainSettings(**(base | changes))  # type: ignore[arg-type]


def _killed_at(step: int, settings: TrainSettings) -> Path:
    def die(event: Event) -> None:
        if isinstance(event, EpochDone) and event.step == step:
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="pulled the plug"):
        train(settings, die)
    return layout.runs_dir("tiny") / settings.name


def _same(a: Path, b: Path) -> bool:
    one, two = (load_file(folder / "student.safetensors") for folder in (a, b))
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def _rows(folder: Path) -> list[dict[str, float]]:
    history = read_history(read_run(folder))
    names = [name for name in history if name != "seconds"]
    return [dict(zip(names, map(float, row), strict=True)) for row in zip(*map(history.get, names), strict=True)]  # type: ignore[arg-type]


# --- early stopping -----------------------------------------------------------------------------------


def _stale(stop_on: str, maps: list[float], losses: list[float]) -> bool:
    watcher = Watcher(None, (), every=1, patience=2, stop_on=stop_on, steps_per_epoch=1, listener=print)  # type: ignore[arg-type]
    return watcher.is_stale([{"valid_map": a, "valid_loss": b} for a, b in zip(maps, losses, strict=True)])


def test_patience_counts_from_the_best_of_what_was_asked_for() -> None:
    rising, falling, back = [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.1, 0.4, 0.3, 0.4]
    assert not _stale("map", rising, rising)
    assert _stale("loss", rising, rising)
    assert not _stale("loss", falling, falling)
    assert _stale("map", back, falling)  # as good is not better
    assert not _stale("map", back[:3], falling[:3])
    assert not _stale("map", [], [])


def test_a_run_that_stopped_early_goes_on_to_the_same_end(home: Path) -> None:
    """Also where the kill comes after the validation that stops it, before it says that it is complete."""
    stops = {"steps": 100, "lr": 0.3, "patience": 2, "stop_on": "loss", "schedule": "plateau"}
    whole = train(_settings(name="stopped", **stops))
    last = int(_rows(whole)[-1]["step"])
    assert last < 100
    for step in (2, last):
        parts = _settings(name=f"stopped-{step}", **stops)
        folder = _killed_at(step, parts)
        train(parts)
        assert _rows(folder) == _rows(whole)
        assert read_run(folder).best == read_run(whole).best
        assert _same(folder, whole)


# --- the same bits ------------------------------------------------------------------------------------


def test_a_deterministic_run_gives_the_same_bits_and_puts_the_setting_back(home: Path) -> None:
    changes = {"loss": "east-kd-all", "labelled": 24, "mixup": True}
    seen: list[bool] = []
    one, two = (
        train(
            _settings(name=name, deterministic=True, **changes),
            lambda event: seen.append(torch.are_deterministic_algorithms_enabled()),
        )
        for name in ("bits-1", "bits-2")
    )
    plain = train(_settings(name="bits-3", **changes))
    assert any(seen)
    assert not torch.are_deterministic_algorithms_enabled()
    assert _rows(one) == _rows(two) == _rows(plain)
    assert _same(one, two)
    assert _same(one, plain)


# --- settings -----------------------------------------------------------------------------------------


def test_settings_that_came_later_leave_the_identity_of_older_runs() -> None:
    later = {"stop_on", "deterministic", "data_on", "tensorboard"}
    assert not later & _settings(deterministic=True, data_on="host", tensorboard=True).config().keys()
    assert _settings(stop_on="loss").config()["stop_on"] == "loss"


def test_values_that_are_none_are_refused(home: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"no stop_on named 'mpa'.*'map'"):
        _settings(stop_on="mpa")
    with pytest.raises(SettingError, match="16-mixed needs a GPU"):
        train(_settings(precision="16-mixed"))


def test_bf16_on_a_cpu_says_so(home: Path) -> None:
    events: list[Event] = []
    folder = train(_settings(precision="bf16-mixed", steps=2), events.append)
    assert any(isinstance(event, Note) and event.text.endswith("on cpu in bf16-mixed") for event in events)
    assert all(
        value.dtype in (torch.float32, torch.int64) for value in load_file(folder / "student.safetensors").values()
    )


# --- TensorBoard ----------------------------------------------------------------------------------------


def test_tensorboard_gets_each_validation_once_also_after_a_kill(home: Path) -> None:
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    settings = _settings(name="board", tensorboard=True)
    folder = _killed_at(4, settings)
    train(settings)
    files = list((folder / "tensorboard").iterdir())
    assert [file.name for file in files] == ["events.out.tfevents.history"]  # no name of a machine
    found: dict[str, dict[int, float]] = {}
    for event in loading.LegacyEventFileLoader(str(files[0])).Load():
        for value in event.summary.value:
            assert event.step not in found.setdefault(value.tag, {})
            found[value.tag][event.step] = value.simple_value
    history = _rows(folder)
    assert {"train/total", "valid/map", "valid/loss", "lr"} <= found.keys()
    assert found["valid/map"] == pytest.approx({int(row["step"]): row["valid_map"] for row in history})


def test_without_tensorboard_the_extra_is_named_before_any_work(home: Path) -> None:
    code = (
        "import sys; sys.modules['tensorboard'] = None\n"
        "from pipeline.distillation.settings import TrainSettings\n"
        "from pipeline.distillation.scalars import check_tensorboard\n"
        "from pipeline.errors import MissingExtraError\n"
        "try: check_tensorboard()\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'east-music[tensorboard]'" in done.stdout
