"""`east sweep`: what is searched, going on to the same trials, the best recipe, and what is refused."""

from __future__ import annotations

import csv
import json
import sys
from math import log10
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakeruns import make_run, make_table
from filelock import FileLock

from cli import east, main
from pipeline.distillation.settings import TrainSettings
from pipeline.errors import MissingExtraError, RunError, SettingError, TrainingError, UnknownNameError
from pipeline.evaluation.runs import list_runs
from pipeline.experiments.recipe import Cell, student_settings
from pipeline.experiments.space import parse_space
from pipeline.experiments.sweep import sweep
from pipeline.layout import HOME_VARIABLE
from pipeline.manifest import read_table

RECIPE = 'format = 1\ntitle = "KD"\ndata = "demo"\nseeds = [1]\nsteps = 40\nlabelled = 20\nteacher = ["musicnn"]\n'
SPACE = ["lr=1e-4..1e-2:log", "loss=kd,east-kd"]


@pytest.fixture
def recipe(tmp_path, monkeypatch) -> str:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    make_table(tmp_path / "demo")
    path = tmp_path / "kd.toml"
    path.write_text(RECIPE)
    return str(path)


class Training:
    """Leaves the run of a cell, best at a rate of 1e-3 with east-kd; stops like Ctrl-C, or fails, when told to."""

    def __init__(self, home: Path, *, stop_at: int = -1, fail_at: tuple[int, ...] = ()) -> None:
        self.home, self.stop_at, self.fail_at, self.done = home, stop_at, fail_at, 0

    def __call__(self, cell: Cell) -> list[str]:
        self.done += 1
        if self.done - 1 == self.stop_at:
            raise KeyboardInterrupt
        if self.done - 1 in self.fail_at:
            return [sys.executable, "-c", "raise SystemExit('error: the loss is not finite')"]
        settings = cell.settings
        config = json.loads(json.dumps(settings.config())) | {"teacher": ["musicnn/pools"]}
        value = 0.8 - 0.1 * abs(log10(settings.lr) + 3) + 0.05 * (settings.loss == "east-kd") + 0.01 * settings.seed
        made = make_run(
            self.home / "demo" / "runs", read_table(self.home / "demo" / "clips.parquet"), "east-kd",
            1000 * settings.seed + len(list((self.home / "demo" / "runs").glob("*"))), config=config, stores=[],
            best={"step": 40, "valid_map": value},
        )  # fmt: skip
        assert made.is_dir()
        return ["true"]


def trials(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))


def test_trials_are_runs_and_the_best_becomes_a_recipe(recipe, tmp_path):
    found = sweep(recipe, params=SPACE, trials=5, make_command=Training(tmp_path))
    told = trials(found.folder)
    assert found.folder == tmp_path / "demo" / "sweeps" / "kd"
    assert [row["trial"] for row in told] == list("01234")
    assert all(1e-4 <= float(row["lr"]) <= 1e-2 for row in told)
    assert len(list_runs(tmp_path / "demo" / "runs")[0]) == 5
    best = max(told, key=lambda row: float(row["valid_map"]))
    settings = student_settings(str(found.folder / "best.toml"), {}, set())
    assert (settings.lr, settings.loss) == (pytest.approx(float(best["lr"])), best["loss"])
    assert (settings.steps, settings.labelled, settings.seed, settings.teacher) == (40, 20, 1, ("musicnn",))
    assert f"trial {best['trial']}" in found.text()
    again = sweep(recipe, params=SPACE, trials=5, make_command=Training(tmp_path, stop_at=0))
    assert trials(again.folder) == told


def test_a_sweep_that_was_interrupted_goes_on_to_the_same_trials(recipe, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        sweep(recipe, params=SPACE, trials=3, title="cut", make_command=Training(tmp_path, stop_at=1))
    assert len(trials(tmp_path / "demo" / "sweeps" / "cut")) == 1
    cut = sweep(recipe, params=SPACE, trials=2, title="cut", make_command=Training(tmp_path))
    assert [row["trial"] for row in trials(cut.folder)] == ["0", "1"]
    longer = sweep(recipe, params=SPACE, trials=3, title="cut", make_command=Training(tmp_path))
    # Its settings are those of the first: the runs are there, and nothing is trained.
    whole = sweep(recipe, params=SPACE, trials=3, title="whole", make_command=Training(tmp_path, stop_at=0))
    assert trials(longer.folder) == trials(whole.folder)
    other = sweep(recipe, params=SPACE, trials=1, title="other", seed=1, make_command=Training(tmp_path))
    assert trials(other.folder)[0]["lr"] != trials(whole.folder)[0]["lr"]


def test_a_grid_takes_every_combination_and_seeds_are_averaged(recipe, tmp_path):
    found = sweep(
        recipe, params=["loss=kd,east-kd", "lam=0.5,0.9"], sampler="grid", workers=2, changes=["seeds=1,2"],
        make_command=Training(tmp_path),
    )  # fmt: skip
    told = {(row["loss"], row["lam"]): float(row["valid_map"]) for row in trials(found.folder)}
    assert set(told) == {("kd", "0.5"), ("kd", "0.9"), ("east-kd", "0.5"), ("east-kd", "0.9")}
    lr_term = 0.1 * abs(log10(TrainSettings("demo").lr) + 3)
    assert told["east-kd", "0.5"] == pytest.approx(0.8 - lr_term + 0.05 + 0.015)
    assert found.best.params["loss"] == "east-kd"


def test_trials_that_fail_are_counted_and_hopeless_sweeps_end(recipe, tmp_path):
    found = sweep(recipe, params=SPACE, trials=2, make_command=Training(tmp_path, fail_at=(0,)))
    assert [row["valid_map"] == "" for row in trials(found.folder)] == [True, False]
    assert "2 trials, 1 of them failed" in found.text()
    with pytest.raises(TrainingError, match=r"(?s)first 3 trials all failed.*the loss is not finite"):
        sweep(
            recipe,
            params=SPACE,
            title="bad",
            seed=5,
            trials=9,
            workers=3,
            make_command=Training(tmp_path, fail_at=(0, 1, 2)),
        )


def test_another_sweep_in_the_folder_or_at_work_is_refused(recipe, tmp_path):
    sweep(recipe, params=SPACE, trials=1, make_command=Training(tmp_path))
    with pytest.raises(RunError, match="holds another sweep: its params and seed differ"):
        sweep(recipe, params=SPACE[:1], seed=3, trials=1)
    with FileLock(tmp_path / "demo" / "sweeps" / "kd" / ".lock"), pytest.raises(RunError, match="Another process"):
        sweep(recipe, params=SPACE, trials=1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (["lr"], "is neither NAME=LOW..HIGH"),
        (["lrr=1..2"], "no setting to sweep named 'lrr'. Did you mean 'lr'"),
        (["lr=0.1..0.01"], "LOW must be below HIGH"),
        (["lr=0..0.1:log"], "for which LOW must be above 0"),
        (["lr=0.1..0.2:ln"], "only ':log' may follow"),
        (["steps=1.5..3"], "must be whole numbers"),
        (["loss=a..b"], "loss is no number but str. List choices"),
        (["loss=kd,kdd"], "no loss named 'kdd'. Did you mean 'kd'"),
        (["lam=0.5..1.5"], "lam is 1.5, but must lie between"),
        (["lr=1e-3..1e-2", "lr=1e-4,1e-3"], "needs different parameters"),
        (["seed=1..3"], "no setting to sweep named 'seed'"),
    ],
)
def test_parameters_are_checked_before_anything_runs(recipe, tmp_path, params, message):
    with pytest.raises(SettingError, match=message):
        sweep(recipe, params=params, trials=1)
    assert not (tmp_path / "demo" / "sweeps").exists()


def test_parameters_have_the_types_of_the_settings():
    space = parse_space(
        ["steps=10..20", "lr=1e-4..1e-2:log", "teacher=[a,b],c", "mixup=true,false", "lam=0.1,0.2"],
        "student",
        {"data": "x"},
    )  # fmt: skip
    found = [[one.setting("student", value) for value in one.extremes()] for one in space]
    assert found == [[10, 20], [1e-4, 1e-2], [("a", "b"), ("c",)], [True, False], [0.1, 0.2]]
    assert [one.log for one in space] == [False, True, False, False, False]


def test_what_a_sweep_cannot_start_from(recipe):
    with pytest.raises(SettingError, match="has 4 rows; a sweep starts from a recipe of one row"):
        sweep("demo", params=SPACE)
    with pytest.raises(SettingError, match="A grid has choices, no ranges"):
        sweep(recipe, params=SPACE, sampler="grid")
    with pytest.raises(UnknownNameError, match="no sampler named 'tpee'"):
        sweep(recipe, params=SPACE, sampler="tpee")


def test_without_optuna_the_extra_is_named(recipe, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'east-music\[sweep\]'"):
        sweep(recipe, params=SPACE)


def test_the_command_ends_with_the_message_of_the_error(recipe, capsys):
    assert "my-kd.toml" in CliRunner().invoke(east, ["sweep", "--help"]).output
    with pytest.raises(SystemExit) as stopped:
        main(["-q", "sweep", recipe, "--param", "lam=0.5..1.5"])
    assert stopped.value.code == 2
    assert "in --param lam=0.5..1.5" in capsys.readouterr().err
