"""`east evaluate`, `compare`, `report`, `predict`, `experiment` from the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from fakeruns import make_dataset
from test_predict import make_student, write

from cli import east, main
from pipeline.layout import HOME_VARIABLE


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    make_dataset(folder, seeds=(1, 2))
    make_student(folder / "demo" / "runs" / "tiny-s1")
    return folder


@pytest.fixture
def run(home, monkeypatch):
    monkeypatch.setenv(HOME_VARIABLE, str(home))

    def invoke(*arguments: str):
        return CliRunner().invoke(east, ["-q", *arguments], catch_exceptions=False)

    return invoke


def exit_of(capsys, *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["-q", *arguments])
    out = capsys.readouterr()
    return int(stopped.value.code or 0), out.out, out.err


def test_evaluate_by_name_writes_metrics(run, home):
    result = run("evaluate", "labels-only-s1", "--resamples", "20")
    assert result.exit_code == 0
    assert "test-unseen" in result.output
    facts = json.loads((home / "demo" / "runs" / "labels-only-s1" / "metrics.json").read_text())
    assert facts["bootstrap"] == {"n_resamples": 20, "seed": 0, "unit": "clip", "level": 0.95}


def test_compare_writes_no_page_and_report_does(run, tmp_path):
    assert run("compare", "--data", "demo", "--resamples", "20", "--out", str(tmp_path / "c")).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["comparison.csv", "comparison.json", "figures"]
    names = ("labels-only-s1", "east-kd-s1")
    result = run("report", *names, "--resamples", "20", "--out", str(tmp_path / "r"))
    assert "raised mAP from" in result.output
    assert (tmp_path / "r" / "index.html").is_file()


def test_runs_are_listed_with_their_state(run, home, tmp_path, monkeypatch):
    rows = json.loads(run("runs", "--json").output)
    row = next(row for row in rows if row["run"] == "east-kd-s1")
    assert (row["dataset"], row["seed"], row["complete"], row["step"]) == ("demo", 1, True, None)
    assert row["folder"] == str(home / "demo" / "runs" / "east-kd-s1")
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    assert "There are no runs yet" in run("runs").output
    make_dataset(tmp_path, seeds=(1,))
    folder = tmp_path / "demo" / "runs" / "east-kd-s1"
    facts = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(facts | {"complete": False}))
    (folder / "history.csv").write_text("step,valid_map\n50,0.1\n100,0.2\n")
    (tmp_path / "demo" / "runs" / "labels-only-s1" / "run.json").write_text("{")
    odd = folder.with_name("odd")
    odd.mkdir()
    (odd / "run.json").write_text(
        json.dumps(
            facts
            | {
                "name": "odd",
                "complete": False,
                "stores": [{}, {"name": "x"}],
                "config": facts["config"] | {"steps": "many"},
            }
        )
    )
    (odd / "history.csv").write_text("step,valid_map\n50,0.1\n,\n")
    result = run("runs", "--data", "demo")
    assert next(line for line in result.output.splitlines() if "east-kd-s1" in line).count("step 100") == 1
    assert "labels-only-s1" not in result.stdout
    assert next(line for line in result.output.splitlines() if "odd" in line).count("step 50") == 1
    assert "labels-only-s1/run.json" in result.stderr.replace("\n", "")
    assert run("runs", "--data", "other").output.startswith("There are no runs of other yet")


def test_an_unknown_run_names_the_nearest(run, capsys):
    code, _, err = exit_of(capsys, "evaluate", "label-only-s1")
    assert code == 1
    assert "Did you mean 'labels-only-s1'?" in err


def test_runs_and_data_together_are_refused(run, capsys):
    code, _, err = exit_of(capsys, "compare", "labels-only-s1", "--data", "demo")
    assert code == 2
    assert "not both" in err


def test_predict_prints_tags_names_bad_files_and_exits_with_1(run, capsys, tmp_path):
    good = write(tmp_path / "good.wav", 3.0)
    code, out, err = exit_of(
        capsys, "predict", "tiny-s1", good, str(tmp_path / "gone.wav"), "--top", "2", "--csv", str(tmp_path / "t.csv")
    )
    assert code == 1
    assert out.splitlines()[0] == f"{good} (3.0 s, 2 clips)"
    assert len(out.splitlines()) == 4
    assert out.splitlines()[3].startswith("licence of tiny-s1: MIT.")
    assert "1 of 2 files gave no tags" in err
    assert (tmp_path / "t.csv").read_text().startswith("file,duration_s,clips,low,middle,high,problem,licence\n")


def test_predict_prints_json(run, tmp_path):
    result = run("predict", "tiny-s1", write(tmp_path / "good.wav", 2.0), "--json")
    assert result.exit_code == 0
    assert json.loads(result.output)["files"][0]["n_clips"] == 1


def test_experiment_tells_what_is_left(run):
    result = run("experiment", "demo", "--data", "demo", "--loss", "dcor", "--set", "seeds=4", "--dry-run")
    lines = result.output.splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith("east train --data demo --teacher musicnn --loss dcor --labelled 200 --seed 4")


@pytest.mark.parametrize("name", ["evaluate", "compare", "report", "predict", "experiment"])
def test_help_says_what_is_read_and_written_with_an_example(name):
    text = east.commands[name].help
    assert "Example" in text
    assert f"east {name}" in text
    assert "rites" in text or "Reads" in text or "As `east compare`" in text
