"""`east table`: what is done and missing, the filled table in three formats, runs here and on a cluster."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from distributed import LocalCluster
from fakeruns import make_run, make_table

from cli import east, main
from pipeline.distillation.runfolder import describe_store
from pipeline.errors import SettingError, TrainingError, UnknownNameError
from pipeline.experiments.grid import run_cells
from pipeline.experiments.recipe import Cell, cells_of, expand, load_recipe
from pipeline.experiments.table import fill_table
from pipeline.layout import HOME_VARIABLE
from pipeline.manifest import read_table
from pipeline.reporting.sheets import make_sheet, to_latex
from pipeline.stores import example_meta, open_store, write_store

BASE = """
format = 1
data = "demo"
seeds = [1, 2, 3]
steps = 700
labelled = 200
teacher = ["musicnn"]
"""
ROWS = {
    "labels": 'title = "labels only"\nloss = "labels"\nteacher = ["none"]',
    "east-kd": 'title = "EAsT_KD & co"\nloss = "east-kd"',
    "kd": 'title = "KD"\nloss = "kd"',
}
MADE_AS = {"labels only": "labels only", "EAsT_KD & co": "east-kd", "KD": "kd on all clips"}


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    make_table(tmp_path / "demo")
    folder = tmp_path / "paper"
    folder.mkdir()
    (folder / "base.toml").write_text(BASE)
    for name, text in ROWS.items():
        (folder / f"{name}.toml").write_text(f'extends = "base.toml"\n{text}\n')
    return tmp_path


def cells(home: Path, *changes: str) -> tuple[Cell, ...]:
    return cells_of([load_recipe(name, changes=changes) for name in expand([str(home / "paper")])])


def put(home: Path, cell: Cell) -> Path:
    """The run of a cell, as training leaves it, under a row of its own name."""
    config = json.loads(json.dumps(cell.settings.config()))
    config["teacher"] = [f"{name}/pools" for name in config["teacher"] if name != "none"]
    table = read_table(home / "demo" / "clips.parquet")
    mel = {"extractor": "mel64", "output": "logmel"}
    stores = [mel, {"extractor": "musicnn", "output": "pools"}] if config["teacher"] else [mel]
    row = MADE_AS[cell.row.title]
    return make_run(home / "demo" / "runs", table, row, cell.settings.seed, config=config, stores=stores)


def invoke(*arguments: str):
    return CliRunner().invoke(east, ["-q", *arguments], catch_exceptions=False)


def test_an_empty_table_names_what_is_missing(home):
    done = invoke("table", str(home / "paper"))
    assert done.exit_code == 0
    assert "0 of 9 runs are done, 9 are missing. Make them with: --run" in done.output
    assert "No run is there yet." in (home / "demo" / "tables" / "paper" / "table.md").read_text()


def test_a_dataset_by_its_path_is_the_one_of_that_name(home):
    put(home, cells(home)[0])
    for path in (home / "demo", home / "demo" / "clips.parquet"):
        filled = fill_table([str(home / "paper")], data=str(path))
        assert (filled.data, filled.n_missing) == ("demo", 8)
    (home / "other.csv").write_text("clip_id\n")
    for path in (home / "other.csv", home / "paper"):
        with pytest.raises(SettingError, match=r"is not a dataset of .*there are: demo"):
            fill_table([str(home / "paper")], data=str(path))


def test_a_filled_table_in_three_formats(home):
    made = cells(home)
    for cell in made:
        if cell.label != "KD, seed 3":
            put(home, cell)
    done = invoke("table", str(home / "paper"), "--resamples", "50", "--out", str(home / "out"))
    assert "8 of 9 runs are done, 1 are missing" in done.output
    text = (home / "out" / "table.md").read_text()
    head, rule, *lines = [line for line in text.splitlines() if line.startswith("|")]
    assert "p (paired t over seeds)" in head
    assert rule.count("---") == head.count("|") - 1
    assert [line.split(" | ")[0].strip("| ") for line in lines[::2]] == ["EAsT_KD & co", "KD", "labels only"]
    assert "against 'labels only', paired by seed" in text
    assert "- 2 seeds: too few to tell; no star is given." in text
    assert "+" in lines[0].split(" | ")[5]
    assert "*" in lines[0].split(" | ")[5]
    assert "*" not in lines[2].split(" | ")[5]
    rows = list(csv.DictReader((home / "out" / "table.csv").read_text().splitlines()))
    assert [(row["row"], row["set"], row["seeds"]) for row in rows][:2] == [
        ("EAsT_KD & co", "test", "1 2 3"), ("EAsT_KD & co", "test-unseen", "1 2 3")]  # fmt: skip
    best = rows[0]
    assert float(best["map_difference"]) > 0
    assert float(best["map_ci_low"]) < float(best["map_mean"]) < float(best["map_ci_high"])
    assert float(best["map_p"]) <= float(best["map_p_holm"])
    assert (best["map_test"], best["roc_auc_n"]) == ("paired t over seeds", "3")
    assert rows[2]["map_note"] == "2 seeds: too few to tell"
    assert rows[4]["map_test"] == ""
    tex = (home / "out" / "table.tex").read_text()
    assert r"EAsT\_KD \& co" in tex
    assert tex.count(r"\\") == 7


def test_figures_lie_beside_the_table(home):
    for cell in cells(home, "seeds=1"):
        put(home, cell)
    invoke("table", str(home / "paper"), "--set", "seeds=1", "--resamples", "50", "--out", str(home / "out"))
    made = {path.name for path in (home / "out" / "figures").iterdir()}
    assert {"scores.svg", "scores.png", "differences.svg", "learning.png"} <= made
    assert "budget.svg" not in made, "all rows have the same labels"


def test_with_one_seed_the_clips_are_tested(home):
    for cell in cells(home, "seeds=1"):
        put(home, cell)
    filled = fill_table([str(home / "paper")], changes=["seeds=1"], n_resamples=50)
    sheet = make_sheet(filled.comparison, [row.title for row in filled.rows])
    assert "p (paired bootstrap over clips†)" in sheet.columns
    assert any("it says nothing of other seeds" in note for note in sheet.notes)
    assert all(len(line) == len(sheet.columns) for line in sheet.lines)
    assert r"p (paired bootstrap over clips$^\dagger$)" in to_latex(sheet)


def _pools(path: Path, value: float) -> tuple[str, dict[str, str]]:
    """A store of a teacher, and what a run that read it says of it."""
    meta = example_meta(extractor="musicnn", output="pools", frames=2, channels=3, dtype="float16")
    write_store(path, meta=meta, clip_id=["a"], features=np.full((1, 2, 3), value), n_frames=np.array([2]))
    with open_store(path) as store:
        return str(path), describe_store(store)


def test_stores_of_one_name_in_different_places_are_different_rows(home):
    (here, one), (there, other) = (_pools(home / name / "musicnn" / "pools.zarr", v) for v, name in enumerate("ab"))
    text = BASE.replace('teacher = ["musicnn"]', "") + 'loss = "kd"\n'
    for name, path in (("here", here), ("there", there)):
        (home / f"{name}.toml").write_text(f'{text}title = "{name}"\nstore = ["{path}"]\n')
    recipes = [str(home / name) for name in ("here.toml", "there.toml")]
    first, second = (cells_of([load_recipe(name, changes=["seeds=1"])])[0] for name in recipes)
    table = read_table(home / "demo" / "clips.parquet")
    config = json.loads(json.dumps(first.settings.config())) | {"teacher": ["musicnn/pools"], "store": []}
    stores = [{"extractor": "mel64", "output": "logmel"}, one]
    make_run(home / "demo" / "runs", table, "kd on all clips", 1, config=config, stores=stores)
    assert one["content_digest"] != other["content_digest"]
    filled = fill_table(recipes, changes=["seeds=1"], n_resamples=10)
    assert [(row.title, row.done) for row in filled.rows] == [("here", (1,)), ("there", ())]
    assert first.identity != second.identity


def test_the_baseline_is_a_row(home):
    with pytest.raises(UnknownNameError, match="row to be the baseline named 'labels'"):
        fill_table([str(home / "paper")], baseline="labels")
    put(home, cells(home, "seeds=1")[0])
    assert fill_table([str(home / "paper")], baseline="KD", changes=["seeds=1"], n_resamples=5).comparison is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"again": 'extends = "base.toml"\ntitle = "KD, again"\nloss = "kd"'}, "Two rows have the same settings"),
        (
            {"again": 'extends = "base.toml"\ntitle = "KD"\nloss = "dcor"'},
            "Two rows have the same title: 'KD' and 'KD'",
        ),
        ({"again": 'extends = "base.toml"\ndata = "x"\nloss = "dcor"'}, "about several: demo, x"),
    ],
)
def test_rows_of_one_table_differ_and_are_of_one_dataset(home, files, message):
    for name, text in files.items():
        (home / "paper" / f"{name}.toml").write_text(text)
    with pytest.raises(SettingError, match=message):
        fill_table([str(home / "paper")])


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_the_exit_status_says_so(home, capsys, monkeypatch):
    with pytest.raises(SystemExit) as stopped:  # there is no store of musicnn
        main(["-q", "table", str(home / "paper" / "kd.toml"), "--run", "--set", "seeds=1", "--set", "device=cuda:9"])
    assert stopped.value.code == 1
    found = capsys.readouterr()
    assert "0 of 1 runs are done" in found.out
    assert "KD, seed 1 (exit status" in found.err


def test_runs_on_a_cluster(home, tmp_path, monkeypatch):
    few = cells(home, "seeds=1")
    script = tmp_path / "child.py"
    script.write_text(
        "import os, sys\nprint(os.environ['OMP_NUM_THREADS'])\nsys.exit(sys.argv[1] == 'KD' and 'error: no')"
    )
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        outcome = run_cells(
            "Table", few, scheduler=cluster.scheduler_address,
            make_command=lambda cell: [sys.executable, str(script), cell.row.title],
        )  # fmt: skip
    assert sorted(outcome.made) == ["EAsT_KD & co, seed 1", "labels only, seed 1"]
    assert [failure.tail.splitlines()[-1] for failure in outcome.failures] == ["error: no"]
    with pytest.raises(TrainingError, match=r"KD, seed 1 \(exit status 1\)"):
        outcome.require()
