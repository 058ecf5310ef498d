"""Run folders in, numbers out; damaged or foreign ones are refused in words."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace

import numpy as np
import pytest
from fakeruns import CLASSES, make_dataset, make_run, make_table
from sklearn.metrics import average_precision_score

from pipeline.errors import RunError
from pipeline.evaluation.comparison import compare
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.judge import find_table
from pipeline.evaluation.runs import list_runs, read_history, read_predictions, read_run, splits_of
from pipeline.events import Warned
from pipeline.manifest import read_table, write_table


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("home"), seeds=(1, 2))


@pytest.fixture
def one(tmp_path):
    return make_run(tmp_path / "demo" / "runs", make_table(tmp_path / "demo"), "labels only", 1)


def test_reads_what_training_writes(folder):
    runs, problems = list_runs(folder / "runs")
    assert not problems
    assert len(runs) == 8
    assert splits_of(runs[0]) == ("valid", "test", "test-unseen")
    assert read_history(runs[0])["valid_map"].shape == (7,)


def test_evaluate_writes_metrics_that_scikit_learn_confirms(one):
    found = evaluate([one], n_resamples=50)["labels-only-s1"]
    assert json.loads((one / "metrics.json").read_text()) == found
    run = read_run(one)
    table, predictions = find_table(run), read_predictions(run, "test")
    labels = table.select(table.split == "test").labels
    reference = []
    for column in range(len(CLASSES)):
        known = labels[:, column] >= 0
        reference.append(average_precision_score(labels[known, column], predictions.scores[known, column]))
    test = found["splits"]["test"]
    assert test["map"] == pytest.approx(np.mean(reference))
    assert test["map_ci"][0] < test["map"] < test["map_ci"][1]
    assert [entry["name"] for entry in test["per_class"]] == list(CLASSES)
    assert test["n_known"] == int((labels >= 0).sum())


def test_songs_of_several_clips_are_judged_whole_too(tmp_path):
    table = make_table(tmp_path / "demo", clips_per_file=3)
    folder = make_run(tmp_path / "demo" / "runs", table, "labels only", 1)
    splits = evaluate([folder], n_resamples=20)["labels-only-s1"]["splits"]
    assert splits["test by file"]["n_clips"] == 50
    assert splits["test by file"]["map"] > splits["test"]["map"]


def test_drawing_groups_widens_the_interval(tmp_path):
    table = make_table(tmp_path / "demo", clips_per_file=10)
    folder = make_run(tmp_path / "demo" / "runs", table, "labels only", 1)
    widths = []
    for unit in ("clip", "group"):
        low, high = evaluate([folder], n_resamples=200, unit=unit)["labels-only-s1"]["splits"]["test"]["roc_auc_ci"]
        widths.append(high - low)
    assert widths[1] > 0
    assert widths[1] != widths[0]


def test_clips_without_a_group_are_drawn_by_their_files(tmp_path):
    table = make_table(tmp_path / "demo", clips_per_file=10)
    write_table(replace(table, group=np.full(len(table), "", object)), tmp_path / "demo" / "clips.parquet")
    bare = read_table(tmp_path / "demo" / "clips.parquet")
    folder = make_run(tmp_path / "demo" / "runs", bare, "labels only", 1)
    for found in evaluate([folder], n_resamples=50, unit="group")["labels-only-s1"]["splits"].values():
        assert found["map_ci"][0] < found["map"] < found["map_ci"][1]


def test_rows_are_compared_on_the_clips_that_all_runs_know(folder, tmp_path):
    table, plain = read_table(folder / "clips.parquet"), read_run(folder / "runs" / "labels-only-s1")
    probe = make_run(tmp_path, table, "teacher probe", 1)
    path = probe / "predictions" / "test.npz"
    arrays = dict(np.load(path))
    np.savez(path, **{name: values[3:] for name, values in arrays.items()})
    told = []
    found = compare([plain, read_run(probe)], table, n_resamples=20, listener=told.append)
    assert [row.sets["test"].n_items for row in found.rows] == [147, 147]
    assert [row.sets["test-unseen"].n_items for row in found.rows] == [150, 150]
    warned = [event.text for event in told if isinstance(event, Warned)]
    assert warned == [
        "demo, split test: 3 of 150 clips are left out of all rows, since some runs lack scores of them: "
        "'teacher-probe-s1'."
    ]
    np.savez(path, **{name: values[:0] for name, values in arrays.items()})
    with pytest.raises(RunError, match=r"150 of 150 clips .*'teacher-probe-s1'.* no clip to compare"):
        compare([plain, read_run(probe)], table)


def test_without_another_a_student_on_labels_and_views_is_the_baseline(folder, tmp_path):
    table, mel = read_table(folder / "clips.parquet"), {"extractor": "mel64", "output": "logmel"}
    views = [mel, mel | {"extractor": "mel64-view1"}]
    heard = read_run(make_run(tmp_path, table, "labels only", 1, group="labels, views", stores=views))
    others = [read_run(folder / "runs" / f"{name}-s1") for name in ("east-kd", "labels-only")]
    alone = compare([heard, others[0]], table, n_resamples=10)
    assert {row.baseline for row in alone.rows} == {"labels, views"}
    both = compare([replace(heard, name="views"), *others], table, n_resamples=10)
    assert {row.baseline for row in both.rows} == {"cnn-small labels only 200 labels"}


def test_rows_are_compared_with_labels_only_seed_by_seed(folder):
    runs, _ = list_runs(folder / "runs")
    found = compare(runs, read_table(folder / "clips.parquet"), n_resamples=100)
    assert found.sets == ("test", "test-unseen")
    assert [row.group for row in found.rows] == [
        "cnn-small labels only 200 labels",
        "teacher probe 200 labels",
        "cnn-small kd on all clips 200 labels",
        "cnn-small east-kd 200 labels",
    ]
    base, probe = found.rows[0].sets["test"], found.rows[1].sets["test"]
    assert found.rows[0].is_baseline
    assert base.difference is None
    assert probe.difference.mean == pytest.approx(probe.map.mean - base.map.mean)
    assert probe.difference_ci.low < probe.difference.mean < probe.difference_ci.high
    assert probe.difference.seeds == (1, 2)
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_baseline_can_be_chosen(folder):
    runs, _ = list_runs(folder / "runs")
    table = read_table(folder / "clips.parquet")
    found = compare(runs, table, baseline="teacher probe 200 labels", n_resamples=20)
    assert found.rows[0].group == "teacher probe 200 labels"
    assert found.rows[-1].sets["test"].difference.mean < 0
    with pytest.raises(RunError, match="no row 'x' to be the baseline"):
        compare(runs, table, baseline="x")


def test_the_order_of_clips_in_a_file_does_not_matter(folder, tmp_path):
    runs, _ = list_runs(folder / "runs")
    table = read_table(folder / "clips.parquet")
    before = compare(runs[:1], table, n_resamples=20)
    shuffled = make_run(tmp_path, table, "east-kd", 1)
    for path in (shuffled / "predictions").glob("*.npz"):
        arrays = dict(np.load(path))
        np.savez(path, **{name: values[::-1] for name, values in arrays.items()})
    after = compare([read_run(shuffled)], table, n_resamples=20)
    assert before.rows[0].sets == after.rows[0].sets


def test_labels_that_changed_are_refused(one):
    table = read_table(one.parent.parent / "clips.parquet")
    labels = table.labels.copy()
    labels[0, 0] = 1 if labels[0, 0] != 1 else 0
    write_table(replace(table, labels=labels), one.parent.parent / "clips.parquet")
    with pytest.raises(RunError, match="another version of 'demo'"):
        evaluate([one])


def test_runs_of_different_data_are_not_compared(one, tmp_path):
    other = make_run(tmp_path / "b" / "runs", make_table(tmp_path / "b", seed=1), "labels only", 2)
    with pytest.raises(RunError, match="trained on different data"):
        compare([read_run(one), read_run(other)], read_table(tmp_path / "b" / "clips.parquet"))


def test_unfinished_runs_are_refused_or_listed(one):
    facts = json.loads((one / "run.json").read_text())
    (one / "run.json").write_text(json.dumps(facts | {"complete": False}))
    with pytest.raises(RunError, match="is unfinished"):
        read_run(one)
    assert not read_run(one, unfinished=True).complete
    assert list_runs(one.parent)[1] == ["Run 'labels-only-s1' is unfinished. The command that trains it goes on from "
                                        "where it stopped."]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has format 2; this program reads 1"),
        ({"seed": "one"}, "seed must be int, found 'one'"),
        ({"seed": True}, "seed must be int, found True"),
        ({"dataset": []}, r"dataset must be dict, found \[\]"),
        ({"config": None}, "config must be dict"),
    ],
)
def test_facts_of_the_wrong_kind_are_named(one, change, message):
    facts = json.loads((one / "run.json").read_text())
    (one / "run.json").write_text(json.dumps(facts | change))
    with pytest.raises(RunError, match=message):
        read_run(one)


def test_damaged_folders_are_named(one, tmp_path):
    with pytest.raises(RunError, match=r"has no run\.json"):
        read_run(tmp_path)
    run = read_run(one)
    with pytest.raises(RunError, match="no predictions for split 'blind', only valid, test"):
        read_predictions(run, "blind")
    (one / "history.csv").write_text("step,valid_map\n1,high\n")
    with pytest.raises(RunError, match="not a table of numbers"):
        read_history(run)
    (one / "run.json").write_text("[" * 10)
    with pytest.raises(RunError, match="cannot be read as JSON"):
        read_run(one)


class _Trap:
    def __reduce__(self):
        return os.mkdir, ("trap-was-run",)


def test_a_pickle_in_predictions_is_not_opened(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = one / "predictions" / "test.npz"
    np.savez(path, clip_id=np.array(["a"]), scores=np.array([_Trap()], dtype=object))
    with pytest.raises(RunError, match="cannot be read as arrays"):
        read_predictions(read_run(one), "test")
    path.write_bytes(pickle.dumps(_Trap()))
    with pytest.raises(RunError, match="cannot be read as arrays"):
        read_predictions(read_run(one), "test")
    assert not (tmp_path / "trap-was-run").exists()


@pytest.mark.parametrize(
    ("ids", "scores", "message"),
    [
        (["a", "a"], np.zeros((2, 8)), "is there twice"),
        (["a", "b"], np.full((2, 8), np.nan), "must be probabilities"),
        (["a", "b"], np.full((2, 8), 1.5), "must be probabilities"),
        (["a", "b"], np.zeros((2, 3)), "2 clips, 8 classes"),
        ([1, 2], np.zeros((2, 8)), "must hold clip_id"),
    ],
)
def test_predictions_are_checked(one, ids, scores, message):
    np.savez(one / "predictions" / "test.npz", clip_id=np.array(ids), scores=scores.astype(np.float32))
    with pytest.raises(RunError, match=message):
        read_predictions(read_run(one), "test")


def test_predictions_of_foreign_clips_are_refused(one):
    np.savez(one / "predictions" / "test.npz", clip_id=np.array(["x"]), scores=np.zeros((1, 8), np.float32))
    with pytest.raises(RunError, match="are not in the clip table, the first is 'x'"):
        evaluate([one])
