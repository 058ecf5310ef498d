"""A tiny student over good and bad files; no teacher is ever imported."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from pipeline.deployment.predict import predict, tag_file
from pipeline.deployment.tagger import load_tagger
from pipeline.distillation.students.contract import build_student, save_card, save_weights
from pipeline.errors import AudioError, RunError
from pipeline.events import ClipFailed, ClipShort, TaskAdvanced

CLASSES = ["low", "middle", "high"]
RATE_HZ = 16_000


def make_student(folder, **change):
    torch.manual_seed(0)
    student = build_student("cnn-small", n_classes=3, n_mels=64, width=0.25).eval()
    folder.mkdir(parents=True)
    save_weights(folder, student)
    about = {"classes": CLASSES, "task": "multi-label", "front_end": "mel-small", "clip_s": 2.0, "licence": "MIT"}
    save_card(folder, student, about | change)
    return folder


def write(path, duration_s, *, rate_hz=RATE_HZ, channels=1, tone_hz=440.0):
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    signal = 0.3 * np.sin(2 * np.pi * tone_hz * time_s) + 0.01 * np.random.default_rng(0).normal(size=len(time_s))
    soundfile.write(path, np.stack([signal] * channels, axis=1), rate_hz)
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_student(tmp_path_factory.mktemp("runs") / "tiny-s1")


def test_good_files_are_tagged_and_bad_ones_named(run, tmp_path):
    good, stereo = write(tmp_path / "good.wav", 5.0), write(tmp_path / "s.flac", 2.0, rate_hz=44_100, channels=2)
    noise = tmp_path / "noise.mp3"
    noise.write_bytes(b"not audio at all" * 64)
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    heard = []
    found = predict(run, [good, str(noise), str(tmp_path / "none.wav"), str(empty), stereo], listener=heard.append)
    assert [file.path for file in found.files] == [good, stereo]
    assert [file.n_clips for file in found.files] == [3, 1]
    assert [failure.kind for failure in found.failures] == ["format", "missing", "empty"]
    assert sum(isinstance(event, TaskAdvanced) for event in heard) == 5
    assert sum(isinstance(event, ClipFailed) for event in heard) == 3
    assert all(((file.scores > 0) & (file.scores < 1)).all() for file in found.files)


def test_clips_are_weighted_by_their_seconds(run, tmp_path):
    tagger = load_tagger(run)
    path = write(tmp_path / "long.wav", 5.0)
    samples, _ = soundfile.read(path, dtype="float32")
    parts = [samples[:32_000], samples[32_000:64_000], samples[64_000:]]
    scores = tagger.score([(part, RATE_HZ) for part in parts])
    expected = (2 * scores[0] + 2 * scores[1] + scores[2]) / 5
    np.testing.assert_allclose(tag_file(tagger, path).scores, expected, atol=1e-5)


def test_padding_does_not_change_a_short_clip(run):
    tagger = load_tagger(run)
    samples = np.random.default_rng(1).normal(0, 0.1, 20_000).astype(np.float32)
    alone = tagger.score([(samples, RATE_HZ)])
    beside = tagger.score([(samples, RATE_HZ), (np.tile(samples, 2)[:32_000], RATE_HZ)])
    np.testing.assert_allclose(alone[0], beside[0], atol=1e-6)


def test_a_file_too_short_for_a_frame_is_refused(run, tmp_path):
    with pytest.raises(AudioError, match="is too short: the front end needs"):
        tag_file(load_tagger(run), write(tmp_path / "click.wav", 0.01))


def test_a_file_cut_off_is_tagged_as_far_as_it_goes(run, tmp_path):
    path = tmp_path / "cut.wav"
    write(path, 8.0)
    path.write_bytes(path.read_bytes()[: 5 * RATE_HZ * 2])
    heard = []
    found = predict(run, [str(path)], listener=heard.append)
    assert found.files[0].n_clips >= 2
    assert "cut off" in found.files[0].short
    assert any(isinstance(event, ClipShort) for event in heard)


def test_silence_gives_numbers(run, tmp_path):
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(RATE_HZ * 3), RATE_HZ)
    assert np.isfinite(predict(run, [str(path)]).files[0].scores).all()


def test_csv_and_json_hold_every_file(run, tmp_path):
    good = write(tmp_path / "a, b.wav", 2.0)
    found = predict(run, [good, "missing.wav"])
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [row["file"] for row in rows] == [good, "missing.wav"]
    assert float(rows[0]["high"]) == pytest.approx(found.files[0].scores[2], abs=1e-6)
    assert rows[1]["low"] == ""
    facts = json.loads(json.dumps(found.as_dict()))
    assert facts["files"][0]["scores"].keys() == set(CLASSES)
    assert facts["failures"][0]["kind"] == "missing"


def test_top_is_sorted_and_knows_thresholds(tmp_path):
    folder = make_student(tmp_path / "t", thresholds={"low": 0.0, "middle": 1.0, "high": 0.0})
    found = predict(folder, [write(tmp_path / "a.wav", 2.0)])
    top = found.top(found.files[0], 3)
    assert [score for _, score, _ in top] == sorted((score for _, score, _ in top), reverse=True)
    assert {name: present for name, _, present in top} == {"low": True, "middle": False, "high": True}


def test_single_label_scores_add_up_to_one(tmp_path):
    folder = make_student(tmp_path / "t", task="single-label")
    scores = predict(folder, [write(tmp_path / "a.wav", 3.0)]).files[0].scores
    assert scores.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"front_end": "mel-nowhere"}, "front end 'mel-nowhere', which this installation lacks"),
        ({"front_end": {"name": "mel-small", "version": 9}}, "of version 9; this program has 1"),
        ({"front_end": None}, "does not say which front end"),
        ({"classes": "low"}, "classes is 'low'"),
        ({"clip_s": -1}, "clip_s seconds above 0"),
        ({"thresholds": [0.5]}, r"thresholds must be 3 numbers, found \[0\.5\]"),
    ],
)
def test_students_that_do_not_fit_are_refused(tmp_path, change, message):
    with pytest.raises(RunError, match=message):
        load_tagger(make_student(tmp_path / "t", **change))


def test_a_folder_without_a_student_is_refused(tmp_path):
    with pytest.raises(RunError, match="not a finished student"):
        load_tagger(tmp_path)


def test_no_teacher_network_is_imported(run, tmp_path):
    code = (
        "import sys; from pathlib import Path; from pipeline.deployment.predict import predict;"
        f"predict(Path({str(run)!r}), [{write(tmp_path / 'a.wav', 2.0)!r}]);"
        "bad = [m for m in sys.modules if m.startswith('pipeline.extraction') and m.endswith(('network', 'layers'))];"
        "assert not bad, bad; assert 'zarr' not in sys.modules and 'dask' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
