"""Recipes are strict; cells run side by side, are skipped when there, and say why they failed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil
import pytest
from fakeruns import make_run, make_table
from killing import require_gone

from pipeline.commands.train import _split_lists, probe, train
from pipeline.errors import SettingError, TrainingError, UnknownNameError
from pipeline.events import TaskAdvanced, TaskStarted
from pipeline.experiments.children import Forked, Spawned, can_fork
from pipeline.experiments.grid import arguments, command, experiment_by_name, run_experiment
from pipeline.experiments.local import _Job, _tell_progress, run_all
from pipeline.experiments.recipe import Recipe, load_recipe, plan, recipes
from pipeline.layout import HOME_VARIABLE, dataset_dir
from pipeline.manifest import read_table

SMALL = """
format = 1
title = "Small"
data = "demo"
seeds = [1, 2]

[common]
steps = 40
labelled = 20

[[row]]
title = "labels only"
loss = "labels"
teacher = ["none"]

[[row]]
title = "with a teacher"
loss = "kd"
teacher = ["musicnn"]
"""

CHILD = """
import json, os, shutil, sys, time
row, made, runs, sleep = sys.argv[1:5]
if row == "fails":
    print("loading")
    sys.exit("error: the teacher has left the building")
there = shutil.move(made, runs)
path = os.path.join(there, "run.json")
run = json.load(open(path)) | {"provenance": {"threads": os.environ["OMP_NUM_THREADS"]}}
json.dump(run, open(path, "w"))
time.sleep(float(sleep))
json.dump(run | {"complete": True}, open(path, "w"))
"""

WAITING = """
import os, sys, time
from pathlib import Path
with Path(sys.argv[1]).open("a") as handle:
    handle.write(f"{os.getpid()} ")
time.sleep(60)
"""

PARENT = """
import sys
from pipeline.experiments.children import Forked, can_fork
from pipeline.experiments.grid import run_experiment
from pipeline.experiments.recipe import load_recipe
recipe, child, marker = sys.argv[1:]
run_experiment(load_recipe(recipe), workers=2, make_command=lambda cell: [sys.executable, child, marker])
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    make_table(tmp_path / "demo")
    return tmp_path


def recipe(tmp_path: Path, text: str = SMALL, **options) -> Recipe:
    path = tmp_path / "small.toml"
    path.write_text(text)
    return load_recipe(str(path), **options)


def test_our_recipe_is_a_table_of_four_rows_and_three_seeds():
    assert "demo" in recipes()
    demo = load_recipe("demo")
    cells = plan(demo)
    assert [row.kind for row in demo.rows] == ["probe", "student", "student", "student"]
    assert len(cells) == 12
    assert {cell.settings.seed for cell in cells[:4]} == {1}
    assert all(cell.settings.labelled == 200 for cell in cells)
    assert {cell.settings.group for cell in cells} == {row.title for row in demo.rows}


def test_every_option_of_a_cell_is_one_of_the_commands():
    known = {option for verb in (train, probe) for parameter in verb.params for option in parameter.opts}
    for cell in plan(load_recipe("demo", changes=["lam=0.2", "specaugment=false", "kd_share=0.1"])):
        given = {text for text in arguments(cell) if text.startswith("--") and not text.startswith("--no-")}
        assert given <= known
        assert command(cell)[1:4] == ["-P", "-m", "cli"]


def test_arguments_come_back_as_the_same_settings():
    for cell in plan(load_recipe("demo", changes=["lam=0.25", "specaugment=false", "teacher=musicnn,panns/clip"])):
        verb = train if cell.row.kind == "student" else probe
        given = _split_lists(verb.make_context(verb.name, arguments(cell)).params)
        assert type(cell.settings)(**given) == cell.settings


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (("steps = 40", "stpes = 40"), UnknownNameError, "no setting named 'stpes'. Did you mean 'steps'"),
        (('title = "Small"', 'titel = "Small"'), UnknownNameError, "no recipe key named 'titel'"),
        (('loss = "kd"', 'loss = "kdd"'), UnknownNameError, "no loss named 'kdd'. Did you mean 'kd'"),
        (("steps = 40", 'steps = "many"'), SettingError, "steps must be a whole number, found 'many'"),
        (("steps = 40", "steps = true"), SettingError, "steps must be a whole number, found true"),
        (("steps = 40", "steps = 0"), SettingError, "steps is 0, but must lie between 1"),
        (("seeds = [1, 2]", "seeds = [1, 1]"), SettingError, "different whole numbers"),
        (("format = 1", "format = 9"), SettingError, "has format 9"),
        (("labelled = 20", "seed = 20"), UnknownNameError, "no setting named 'seed'"),
        (('title = "with a teacher"', 'title = "labels only"'), SettingError, "rows with different titles"),
        (("[common]", "[common"), SettingError, "is not TOML"),
    ],
)
def test_recipes_are_strict(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        plan(recipe(tmp_path, SMALL.replace(*change)))


def test_changes_win_over_rows_and_keep_their_types(tmp_path):
    changes = ["steps=7", "seeds=5", "student=cnn-small", "teacher=a,b", "lam=0.5", "labelled=all"]
    found = recipe(tmp_path, changes=changes)
    assert found.seeds == (5,)
    settings = found.rows[1].settings
    assert (settings["steps"], settings["lam"], settings["labelled"]) == (7, 0.5, None)
    assert settings["teacher"] == ("a", "b")
    assert recipe(tmp_path, changes=["seeds=[3, 4]"]).seeds == (3, 4)
    with pytest.raises(SettingError, match="is not KEY=VALUE"):
        recipe(tmp_path, changes=["steps"])


def test_losses_replace_the_students_with_a_teacher_or_are_added(tmp_path):
    assert [row.title for row in recipe(tmp_path, losses=["dcor,cosine"]).rows] == ["labels only", "dcor", "cosine"]
    assert [row.title for row in recipe(tmp_path, losses=["+dcor"]).rows] == ["labels only", "with a teacher", "dcor"]
    assert len(recipe(tmp_path, losses=["labels"]).rows) == 1
    with pytest.raises(UnknownNameError, match="no loss named 'dcr'"):
        recipe(tmp_path, losses=["dcr"])


def child(cell, *, failing: str = "", sleep: float = 0.0) -> list[str]:
    """Puts a run folder in its place as training would, or fails, or waits."""
    folder = dataset_dir("demo")
    config = cell.settings.config()
    config["teacher"] = [f"{name}/pools" for name in config["teacher"] if name != "none"]
    row = "labels only" if cell.row.title == "labels only" else "east-kd"
    made = make_run(
        Path(tempfile.mkdtemp(dir=folder)), read_table(folder / "clips.parquet"), row, cell.settings.seed,
        complete=False, group=cell.row.title, config=config, stores=[],
    )  # fmt: skip
    what = "fails" if cell.row.title == failing else "works"
    (folder / "runs").mkdir(exist_ok=True)
    target = folder / "runs" / f"{made.name}-{uuid.uuid4().hex[:4]}"
    return [sys.executable, "-c", CHILD, what, str(made), str(target), str(sleep)]


def test_cells_run_and_are_skipped_the_second_time(home, tmp_path):
    small, heard = recipe(tmp_path), []
    outcome = run_experiment(small, workers=2, listener=heard.append, make_command=lambda cell: child(cell, sleep=0.8))
    outcome.require()
    assert sorted(outcome.made) == sorted(cell.label for cell in plan(small))
    assert "4 runs made" in outcome.text()
    assert heard[0] == TaskStarted("Experiment small", 160, "steps")
    advanced = [event.amount for event in heard if isinstance(event, TaskAdvanced)]
    assert sum(advanced) == pytest.approx(160)
    threads = json.loads(next((home / "demo" / "runs").glob("*/run.json")).read_text())["provenance"]["threads"]
    assert int(threads) == max(1, len(os.sched_getaffinity(0)) // 2)
    again = run_experiment(small, make_command=lambda cell: ["false"])
    assert again.made == ()
    assert len(again.skipped) == 4


def test_a_changed_clip_table_makes_the_runs_again(home, tmp_path):
    small = recipe(tmp_path, changes=["seeds=1"])
    run_experiment(small, make_command=child).require()
    assert len(experiment_by_name(str(tmp_path / "small.toml"), changes=["seeds=1"], dry_run=True).skipped) == 2
    make_table(home / "demo", seed=5)
    left = experiment_by_name(str(tmp_path / "small.toml"), changes=["seeds=1"], dry_run=True)
    assert left.skipped == ()
    assert left.text().splitlines()[0].startswith("east train --data demo --teacher none --loss labels")


def test_a_failed_cell_is_told_with_its_last_words_and_the_others_run(home, tmp_path):
    outcome = run_experiment(
        recipe(tmp_path, changes=["seeds=1"]),
        workers=1,
        make_command=lambda cell: child(cell, failing="with a teacher"),
    )
    assert outcome.made == ("labels only, seed 1",)
    with pytest.raises(
        TrainingError, match=r"(?s)with a teacher, seed 1 \(exit status 1\):.*loading.*left the building"
    ):
        outcome.require()


def test_when_all_fail_no_more_are_started(home, tmp_path):
    heard = []
    small = recipe(tmp_path, changes=["seeds=1,2,3,4"])
    outcome = run_experiment(small, workers=1, listener=heard.append, make_command=lambda cell: ["false"])
    assert len(outcome.failures) == 2
    assert any("other 6 are not started" in getattr(event, "text", "") for event in heard)


@pytest.mark.slow
def test_a_forked_run_ends_like_the_command_would(home):
    cell = plan(load_recipe("demo", data="demo", changes=["seeds=1"]))[0]
    child = Forked(cell.settings, 1)
    try:
        assert child.wait(120)
        assert child.exit_code() == 1
        assert "error: There is no store of musicnn" in "\n".join(child.output())
    finally:
        child.close()
    assert not child.log.exists()


def test_only_runs_that_touch_no_gpu_are_forked():
    cells = plan(load_recipe("demo", changes=["seeds=1", "device=cpu"]))
    assert all(can_fork(cell.settings) == (sys.platform == "linux") for cell in cells)
    assert not can_fork(plan(load_recipe("demo", changes=["seeds=1", "device=cuda"]))[1].settings)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, "in the background"])
def test_interrupting_stops_the_children(home, tmp_path, how):
    """Shells tell what they run in the background to ignore SIGINT, and so are its children told."""
    recipe(tmp_path)
    marker, waiting = tmp_path / "pids", tmp_path / "waiting.py"
    waiting.write_text(WAITING)
    call = [sys.executable, "-c", PARENT, str(tmp_path / "small.toml"), str(waiting), str(marker)]
    if how == "in the background":
        call, how = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *call], signal.SIGTERM
    parent = subprocess.Popen(call, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while (not marker.exists() or len(marker.read_text().split()) < 2) and time.monotonic() < deadline:
        time.sleep(0.1)
    parent.send_signal(how)
    assert parent.wait(timeout=20) != 0
    for pid in map(int, marker.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_steps_of_an_earlier_command_are_told_as_found(home, tmp_path):
    job = _Job(plan(recipe(tmp_path, changes=["seeds=1"]))[0], None, folder=tmp_path)
    history, said = tmp_path / "history.csv", []
    history.write_text("step\n10\n20\n")
    os.utime(history, (job.begun - 60, job.begun - 60))
    _tell_progress(job, "Small", said.append)
    history.write_text("step\n10\n20\n30\n")
    _tell_progress(job, "Small", said.append)
    _tell_progress(job, "Small", said.append)
    assert [(event.amount, event.found) for event in said] == [(20, True), (10, False)]


def test_an_interrupt_while_a_child_is_started_does_not_lose_it(home, tmp_path):
    cells = plan(recipe(tmp_path, changes=["seeds=1"]))
    started = []

    def start(cell) -> _Job:
        started.append(Spawned([sys.executable, "-c", "import time; time.sleep(60)"], 1))
        os.kill(os.getpid(), signal.SIGTERM)
        return _Job(cell, started[-1])

    with pytest.raises(KeyboardInterrupt):
        run_all(cells, 1, start, "Experiment", lambda event: None)
    try:
        assert len(started) == 1
        assert started[0].exit_code() is not None
    finally:
        started[0].kill()


ORPHAN = """
import multiprocessing, time
from pipeline.experiments.children import end_with_parent

def work(name):
    end_with_parent()
    open(name, "w").close()
    time.sleep(60)

if __name__ == "__main__":
    import sys
    child = multiprocessing.get_context("forkserver").Process(target=work, args=(sys.argv[1],))
    child.start()
    print(child.pid, flush=True)
    child.join()
"""


def test_a_forked_run_ends_with_an_experiment_that_is_killed(tmp_path):
    script, begun = tmp_path / "orphan.py", tmp_path / "begun"
    script.write_text(ORPHAN)
    parent = subprocess.Popen(
        [sys.executable, str(script), str(begun)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    child = psutil.Process(int(parent.stdout.readline()))
    deadline = time.monotonic() + 30
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    parent.stdout.close()  # the child holds its other end
    require_gone([child])
