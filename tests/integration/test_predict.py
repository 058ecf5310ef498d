"""A tiny student over good and bad files; no teacher is ever imported."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from click.testing import CliRunner
from extracting import ROOT

from cli import east
from pipeline.deployment.listening import ahead
from pipeline.deployment.predict import Asked, predict, tag_file
from pipeline.deployment.tagger import load_tagger
from pipeline.distillation.students.contract import build_student, save_card, save_weights
from pipeline.errors import AudioError, RunError, SettingError
from pipeline.events import ClipFailed, ClipShort, TaskAdvanced

GOLDEN = ROOT / "tests" / "golden" / "student"
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
    (tmp_path / "song.wav").touch()
    with pytest.raises(RunError, match=r"song.wav is a file, neither .* Give the run first"):
        load_tagger(tmp_path / "song.wav")


def test_no_teacher_network_is_imported(run, tmp_path):
    code = (
        "import sys; from pathlib import Path; from pipeline.deployment.predict import predict;"
        f"predict(Path({str(run)!r}), [{write(tmp_path / 'a.wav', 2.0)!r}]);"
        "bad = [m for m in sys.modules if m.startswith('pipeline.extraction') and m.endswith(('network', 'layers'))];"
        "assert not bad, bad; assert 'zarr' not in sys.modules and 'dask' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def invoke(*arguments: str, given: bytes = b""):
    return CliRunner().invoke(east, ["-q", "predict", *arguments], input=given)


def lines(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_an_exported_model_says_what_its_run_says(tmp_path):
    paths = [write(tmp_path / "a.wav", 5.3), write(tmp_path / "b.flac", 3.0, rate_hz=44_100, channels=2)]
    run, model = predict(GOLDEN, paths), predict(GOLDEN / "student.onnx", paths)
    assert (model.classes, model.thresholds, model.licence) == (run.classes, run.thresholds, run.licence)
    assert model.licences == run.licences
    for a, b in zip(run.files, model.files, strict=True):
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
        assert a.n_clips == b.n_clips


@pytest.mark.parametrize(
    ("hop_s", "starts"), [(None, [0, 2, 4]), (0.7, [0, 0.7, 1.4, 2.1, 2.8, 3.5]), (2.0, [0, 2, 4])]
)
def test_windows_are_the_samples_they_name(run, tmp_path, hop_s, starts):
    path = write(tmp_path / "long.wav", 5.0, rate_hz=11_025)
    samples, rate_hz = soundfile.read(path, dtype="float32")
    (file,) = predict(run, [path], asked=Asked(over_time=True, hop_s=hop_s)).files
    assert [window.start_s for window in file.windows] == pytest.approx(starts, abs=1e-4)
    assert file.windows[-1].end_s == pytest.approx(5.0)
    tagger = load_tagger(run)
    for window in file.windows:
        part = samples[round(window.start_s * rate_hz) : round(window.end_s * rate_hz)]
        np.testing.assert_allclose(window.scores, tagger.score([(part, rate_hz)])[0], atol=1e-6)
    lengths = [window.end_s - window.start_s for window in file.windows]
    expected = np.average([window.scores for window in file.windows], axis=0, weights=lengths)
    np.testing.assert_allclose(file.scores, expected, atol=1e-6)


def test_a_hop_beyond_a_clip_is_refused(run, tmp_path):
    with pytest.raises(SettingError, match=r"--hop is 3 s; tiny-s1 hears clips of 2 s"):
        predict(run, [write(tmp_path / "a.wav", 2.0)], asked=Asked(hop_s=3.0))


def test_files_keep_their_scores_in_batches_that_mix_them(run, tmp_path):
    paths = [write(tmp_path / f"{k}.wav", 0.5 + 1.3 * k, tone_hz=100 * (k + 1)) for k in range(6)]
    paths.insert(2, str(tmp_path / "gone.wav"))
    together = predict(run, paths)
    assert [file.path for file in together.files] == paths[:2] + paths[3:]
    for file in together.files:
        np.testing.assert_allclose(file.scores, predict(run, [file.path]).files[0].scores, atol=1e-6)


def test_a_folder_is_its_audio_and_each_file_is_a_line(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    names = [write(tmp_path / "in" / name, 2.0) for name in ("b.wav", "deep/a.flac")]
    (tmp_path / "in" / "notes.txt").write_text("no audio")
    (tmp_path / "in" / "c.mp3").write_bytes(b"damaged")
    result = invoke(str(GOLDEN), str(tmp_path / "in"), "--jsonl", "--over-time", "--hop", "1")
    assert result.exit_code == 1
    found = lines(result)
    assert [line["path"] for line in found] == [names[0], str(tmp_path / "in" / "c.mp3"), names[1]]
    assert found[1]["kind"] == "format"
    assert [window["start_s"] for window in found[0]["windows"]] == [0.0]
    assert found[0]["present"] == [name for name, passes in zip(CLASSES, np.array(list(found[0]["scores"].values()))
                                                                >= [0.4, 0.5, 0.6], strict=True) if passes]  # fmt: skip
    assert {line["licence"] for line in found} == {"CC-BY-4.0 (audio of tests)"}
    assert invoke(str(GOLDEN), str(tmp_path / "in"), "--jsonl", "--allow-failures").exit_code == 0
    (tmp_path / "none").mkdir()
    assert "holds no audio files" in str(invoke(str(GOLDEN), str(tmp_path / "none")).exception)


def test_standard_input_is_names_or_audio(tmp_path):
    path = write(tmp_path / "ä b.ogg", 2.5)
    direct = lines(invoke(str(GOLDEN), path, "--jsonl"))[0]
    named = lines(invoke(str(GOLDEN), "-", "--jsonl", given=f"{path}\n\n{path}\r\n".encode()))
    assert [line["path"] for line in named] == [path, path]
    for kind in ("wav", "flac", "ogg", "mp3"):
        file = write(tmp_path / f"x.{kind}", 2.5)
        (heard,) = lines(invoke(str(GOLDEN), "-", "--jsonl", given=Path(file).read_bytes()))
        assert heard["path"] == "-"
        assert heard["scores"] == lines(invoke(str(GOLDEN), file, "--jsonl"))[0]["scores"]
    assert named[0]["scores"] == pytest.approx(direct["scores"], abs=1e-5)  # another batch
    assert "standard input is empty" in str(invoke(str(GOLDEN), "-").exception)
    assert "given twice" in str(invoke(str(GOLDEN), "-", "-").exception)


def test_a_threshold_hides_what_is_below(tmp_path):
    path = write(tmp_path / "a.wav", 4.0)
    scores = lines(invoke(str(GOLDEN), path, "--jsonl"))[0]["scores"]
    middle = sorted(scores.values())[1]
    printed = invoke(str(GOLDEN), path, "--threshold", str(middle - 1e-9), "--over-time").stdout.splitlines()
    assert [line.split()[-1] for line in printed[1:3]] == sorted(scores, key=scores.get, reverse=True)[:2]
    assert "0.00 to      2.00 s" in printed[3]
    assert printed[-1].startswith("licence of student: CC-BY-4.0")


def test_windows_are_rows_of_the_csv(tmp_path):
    path = write(tmp_path / "a.wav", 5.0)
    assert invoke(str(GOLDEN), path, "gone.wav", "--over-time", "--csv", str(tmp_path / "t.csv")).exit_code == 1
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert [(row["start_s"], row["end_s"]) for row in rows] == [
        ("0.000", "2.000"), ("2.000", "4.000"), ("4.000", "5.000"), ("", "")]  # fmt: skip
    assert rows[-1]["problem"].startswith("no such file")


def test_reading_ahead_ends_when_nobody_listens_and_passes_errors_on():
    made = []
    for item in ahead((made.append(k) or k for k in range(1_000)), 2):
        if item == 3:
            break
    assert len(made) < 20
    with pytest.raises(ZeroDivisionError, match="division"):
        list(ahead((1 // k for k in (1, 0)), 2))
    assert not [thread for thread in threading.enumerate() if thread.name == "decoding ahead"]


@pytest.mark.slow
@pytest.mark.parametrize("model", [GOLDEN, GOLDEN / "student.onnx"], ids=["run", "onnx"])
def test_an_hour_takes_no_more_memory_than_a_minute(tmp_path, model):
    """The hour is a header and a hole: no byte of it is written."""
    peaks = []
    for seconds in (60, 3_600):
        path = tmp_path / f"{seconds}.wav"
        write(path, 1.0)
        header = bytearray(path.read_bytes()[:44])
        n_bytes = 2 * RATE_HZ * seconds
        header[4:8], header[40:44] = ((n + n_bytes).to_bytes(4, "little") for n in (36, 0))
        path.write_bytes(header)
        with path.open("r+b") as handle:
            handle.truncate(44 + n_bytes)
        code = (
            "import resource, torch; torch.set_num_threads(1); from pathlib import Path\n"
            "from pipeline.deployment.predict import Asked, predict\n"
            f"found = predict(Path({str(model)!r}), [{str(path)!r}], asked=Asked(over_time=True))\n"
            f"assert len(found.files[0].windows) == {seconds // 2}, found\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout) / 1024)
    assert peaks[1] < peaks[0] + 16, f"{peaks} MiB"
