"""Ranking teachers: evidence against brute force, folds that hold groups out, and the order."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.optimize import minimize
from scipy.stats import multivariate_normal

sys.path.insert(0, str(Path(__file__).parent))

from synthetic import Sizes, make_dataset

from cli import east
from pipeline import layout
from pipeline.distillation.ranking import _out_of_fold, log_evidence, rank_teachers
from pipeline.errors import SettingError, StoreError
from pipeline.evaluation.metrics import macro, rank
from pipeline.manifest import read_table, write_table
from pipeline.stores import open_store, write_store


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(layout.HOME_VARIABLE, str(home))
        make_dataset(home, sizes=Sizes(train=120), teachers=("teach/clip", "other/clip"))
    return home


@pytest.mark.parametrize("shape", [(40, 7), (15, 30)], ids=["tall", "wide"])
def test_logme_is_the_largest_evidence(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape)
    y = (x[:, 0] + 0.5 * rng.normal(size=len(x)) > 0).astype(np.int8)

    def negative(logs: np.ndarray) -> float:
        alpha, beta = np.exp(logs)
        covariance = np.eye(len(x)) / beta + x @ x.T / alpha
        return -float(multivariate_normal.logpdf(y.astype(float), np.zeros(len(x)), covariance)) / len(x)

    best = min(minimize(negative, start, method="Nelder-Mead").fun for start in ([0.0, 0.0], [2.0, 2.0]))
    assert log_evidence(x, y[:, None]) == pytest.approx(-best, abs=2e-3)


def test_a_teacher_that_knows_more_comes_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(home))
    path = layout.find_store("tiny", "other", "clip")
    assert path is not None
    with open_store(path) as store:
        meta, ids, shape, n_frames = store.meta, store.clip_id, store.shape, store.n_frames
    noise = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    meta = replace(meta, uuid="", content_digest="")
    write_store(home / "noise.zarr", meta=meta, clip_id=ids, features=noise, n_frames=n_frames)
    rows = rank_teachers(["teach/clip", str(home / "noise.zarr")], data="tiny")
    names = [row.name for row in rows]
    assert names == ["teach/clip", "all together", "other/clip"] or names[0] == "all together"
    assert rows[-1].map < rows[0].map - 0.2
    assert rows[-1].logme < rows[0].logme
    assert rows[-1].gain_interval is not None
    assert rows[-1].gain_interval.high is not None
    assert rows[-1].gain_interval.high < 0


def test_out_of_fold_scores_never_saw_the_group(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips of one group share a random code and random labels: only leaking would rank them."""
    monkeypatch.setenv(layout.HOME_VARIABLE, str(home))
    rng = np.random.default_rng(0)
    groups = np.repeat([f"g{k}" for k in range(40)], 4)
    code = np.repeat(rng.normal(size=(40, 60)), 4, axis=0) + 0.01 * rng.normal(size=(160, 60))
    labels = np.repeat(rng.integers(0, 2, (40, 3)), 4, axis=0).astype(np.int8)
    scores = _out_of_fold(code, labels, np.ones(160, bool), groups, folds=5, seed=0, task="multi-label")
    assert macro(rank(labels, scores).roc_auc)[0] < 0.7


def test_the_command_prints_a_table_and_json(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(home))
    asked = ["-q", "teachers", "rank", "teach/clip", "other/clip", "--data", "tiny", "--labelled", "60"]
    shown = CliRunner().invoke(east, asked)
    assert shown.exit_code == 0, shown.output
    assert "all together" in shown.output
    assert "60 labelled clips, 5 folds" in shown.output
    rows = json.loads(CliRunner().invoke(east, [*asked, "--json"]).stdout)
    assert {row["name"] for row in rows} == {"teach/clip", "other/clip", "all together"}
    assert rows[0]["gain"] is None


def test_what_cannot_be_ranked_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(home))
    with pytest.raises(SettingError, match="at least one store and two folds"):
        rank_teachers([], data="tiny")
    with pytest.raises(StoreError, match="no store of absent/clip"):
        rank_teachers(["absent/clip"], data="tiny")
    table = read_table(layout.table_path("tiny"))
    one_group = replace(table, group=np.where(table.split == "train", "song", table.group).astype(object))
    write_table(one_group, home / "one.parquet")
    in_train = one_group.group == "song"
    path = np.where(in_train, "song.wav", table.path).astype(object)
    write_table(replace(table, group=np.full(len(table), "", object), path=path), home / "one-file.parquet")
    for name in ("one", "one-file"):
        with pytest.raises(SettingError, match="1 groups of labelled clips cannot make 5 folds"):
            rank_teachers(["teach/clip"], data=str(home / f"{name}.parquet"))
