"""Thresholds, probabilities, licences and names of runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.distillation.judging import choose_thresholds, probabilities
from pipeline.distillation.runfolder import RunFolder, automatic_name
from pipeline.errors import RunError
from pipeline.licences import strictest


def test_thresholds_have_the_highest_f1_on_known_labels() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((200, 3)) < 0.3).astype(np.int8)
    scores = np.clip(0.5 * labels + 0.6 * rng.random((200, 3)), 0, 1)
    labels[150:] = -1
    for column, chosen in enumerate(choose_thresholds(scores, labels)):
        y, s = labels[:150, column] == 1, scores[:150, column]

        def f1(threshold: float, y: np.ndarray = y, s: np.ndarray = s) -> float:
            return 2 * int((y & (s >= threshold)).sum()) / int(y.sum() + (s >= threshold).sum())

        assert f1(chosen) == pytest.approx(max(f1(value) for value in s))


def test_no_threshold_lies_between_equal_scores() -> None:
    labels = np.array([[1], [1], [1], [0], [0], [0], [0]], np.int8)
    tied = np.array([[0.9], [0.5], [0.5], [0.5], [0.5], [0.5], [0.5]], np.float32)
    assert choose_thresholds(tied, labels) == [0.5]  # all: 2 x 3 / (3 + 7) > 2 x 1 / (3 + 1) only with some of them
    near = np.array([[0.5], [np.nextafter(np.float32(0.5), np.float32(0))]], np.float32)
    (chosen,) = choose_thresholds(near, np.array([[1], [0]], np.int8))
    assert near[1, 0] < chosen <= near[0, 0]


def test_classes_of_one_kind_keep_the_usual_threshold() -> None:
    labels = np.array([[1, 0, -1], [1, 0, -1]], np.int8)
    assert choose_thresholds(np.full((2, 3), 0.3), labels) == [0.5, 0.5, 0.5]


def test_probabilities_fit_the_task() -> None:
    logits = np.array([[2.0, 0.0, -2.0]], np.float32)
    np.testing.assert_allclose(probabilities(logits, "multi-label"), 1 / (1 + np.exp(-logits)), rtol=1e-6)
    assert probabilities(logits, "single-label").sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        ([], "unknown (nothing is recorded)"),
        ([("MIT", "code"), ("", "weights")], "unknown (weights)"),
        ([("CC-BY-4.0", "data"), ("CC-BY-NC-SA-4.0", "weights")], "CC-BY-NC-SA-4.0 (weights)"),
        ([("GPL-2.0", "sounds"), ("CC-BY-SA-4.0", "data"), ("Apache-2.0", "weights")], "GPL-2.0 (sounds)"),
    ],
)
def test_the_strictest_licence_is_named(licences: list[tuple[str, str]], expected: str) -> None:
    assert strictest(licences) == expected


def test_names_say_what_was_run_and_are_safe_as_folders() -> None:
    config = {"student": "cnn-small", "loss": "kd", "teacher": ["a/b", "c/d"], "store": [], "labelled": 9, "seed": 2}
    assert automatic_name(config) == "cnn-small-kd-a-b+c-d-9-labels-seed2"


def test_damaged_run_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path))
    path = tmp_path / "set" / "runs" / "mine" / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        RunFolder("set", "mine", {}, {})
    path.write_text(json.dumps({"config_hash": "other", "config": {"a": 1}}))
    with pytest.raises(RunError, match="a was 1, now 2"):
        RunFolder("set", "mine", {"a": 2}, {})
