"""Exported students: the same scores as PyTorch, on everything, and files that say what they are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from extracting import ROOT
from fakeruns import make_run, make_table
from lively import CLASSES, lively_run, music

from cli import main
from pipeline import registry
from pipeline.audio.extractor import build_extractor
from pipeline.audio.mel import LogMel
from pipeline.deployment import export
from pipeline.deployment.about import describe_model
from pipeline.deployment.export import export_onnx
from pipeline.deployment.onnx_tagger import load_onnx_tagger, open_session, run_session
from pipeline.deployment.proof import LOGIT_TOLERANCE, TOLERANCE, difference, prove, signals
from pipeline.deployment.tagger import load_tagger
from pipeline.deployment.waveform import ExportableMel, WaveformStudent
from pipeline.errors import EastError, RunError, SettingError

GOLDEN = ROOT / "tests" / "golden" / "student"
LENGTHS_S = (0.05, 0.3, 1.0, 2.0, 7.7)
#: One of each family in the default tests, all of them in the slow ones.
QUICK = {"cnn-small", "cp-resnet", "mobile-fcn", "tcnext-small"}
STUDENTS = [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in registry.students()]


@pytest.fixture(scope="module")
def model() -> bytes:
    return (GOLDEN / "student.onnx").read_bytes()


@pytest.mark.parametrize("name", registry.front_ends())
def test_the_front_end_of_matrices_is_the_front_end(name: str) -> None:
    front_end = build_extractor(registry.find_front_end(name))
    assert isinstance(front_end, LogMel)
    ours = ExportableMel(front_end).eval()
    for duration_s in LENGTHS_S[:4]:
        audio = torch.from_numpy(music(front_end.card.rate_hz, clips=2, duration_s=duration_s))
        expected = front_end(audio, torch.full((2,), audio.shape[1]))["logmel"]
        torch.testing.assert_close(ours(audio), expected.features, rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_hears_waveforms_of_any_length(name: str, tmp_path: Path) -> None:
    """The network that is exported, in PyTorch."""
    tagger = load_tagger(lively_run(tmp_path / "run", name))
    network = WaveformStudent(tagger.front_end, tagger.student, single_label=False).eval()
    for duration_s in LENGTHS_S[:4]:
        audio = music(tagger.rate_hz, clips=1, duration_s=duration_s)
        with torch.inference_mode():
            scores, logits = network(torch.from_numpy(audio))
        np.testing.assert_allclose(scores, tagger.run(audio), atol=TOLERANCE)
        torch.testing.assert_close(torch.sigmoid(logits), scores)
    with torch.inference_mode():
        assert torch.isfinite(network(torch.zeros(2, 1)).scores).all()


def test_scores_are_pytorchs_on_music_and_on_what_broke_exports_before(model: bytes) -> None:
    tagger, session = load_tagger(GOLDEN), open_session(model, "student")
    proof = prove(session, tagger, "student")
    assert proof.n_signals == 13
    for duration_s in LENGTHS_S:
        audio = music(tagger.rate_hz, clips=3, duration_s=duration_s, seed=4)
        of_scores, of_logits = difference(session, tagger, audio)
        assert of_scores < TOLERANCE
        assert of_logits < LOGIT_TOLERANCE
    spread = run_session(session, music(tagger.rate_hz, seed=4))[0]
    assert np.ptp(spread, axis=0).min() > 0.2, "scores that all agree prove nothing"


def test_an_export_that_differs_or_is_not_a_number_is_not_written(tmp_path: Path, monkeypatch, model: bytes) -> None:
    folder = shutil.copytree(GOLDEN, tmp_path / "run", ignore=shutil.ignore_patterns("*.onnx"))
    for change, words in ((1.0, r"on digital silence \(32,000 samples\) .* differs from PyTorch by 0\.\d+ in scores"),
                          (np.nan, "differs from PyTorch by nan")):  # fmt: skip
        changed = onnx.load_model_from_string(model)
        bias = next(i for i in changed.graph.initializer if i.name == "student.classify.1.bias")
        bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(change), bias.name))
        content = changed.SerializeToString()
        monkeypatch.setattr(export, "build_graph", lambda network, texts, content=content: content)
        with pytest.raises(EastError, match=words):
            export_onnx(folder, tmp_path / "out.onnx")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_the_file_says_what_it_is(model: bytes) -> None:
    proto = onnx.load_model_from_string(model)
    texts = {prop.key: prop.value for prop in proto.metadata_props}
    assert json.loads(texts["classes"]) == CLASSES
    assert json.loads(texts["thresholds"]) == [0.4, 0.5, 0.6]
    assert (texts["task"], texts["rate_hz"], texts["clip_s"]) == ("multi-label", "16000", "2.0")
    assert texts["licence"] == "CC-BY-4.0 (audio of tests)"
    assert texts["licence_demands"] == "Name the author."
    assert json.loads(texts["licences"])[0] == ["MIT", "code of mel-small"]
    assert re.fullmatch("[0-9a-f]{64}", texts["weights_sha256"])
    assert {value.name: value.doc_string for value in proto.graph.input} == {"waveform": texts["waveform"]}
    assert "16000 Hz" in texts["waveform"]
    assert [dim.dim_param for dim in proto.graph.input[0].type.tensor_type.shape.dim] == ["batch", "samples"]
    for word in (b"/work", b"/home", b"/root", b".py", b"site-packages"):
        assert word not in model


def test_views_are_no_teachers_of_their_own(tmp_path: Path) -> None:
    folder = shutil.copytree(GOLDEN, tmp_path / "run")
    mel, teacher = {"extractor": "mel64", "output": "logmel"}, {"extractor": "musicnn", "output": "pools"}
    views = [mel | {"extractor": "mel64-view1"}, teacher | {"extractor": "musicnn-view1"}]
    made = make_run(tmp_path, make_table(tmp_path / "demo"), "east-kd", 1, stores=[mel, teacher, *views])
    shutil.copy(made / "run.json", folder)
    assert json.loads(describe_model(folder, load_tagger(folder))["provenance"])["teachers"] == ["musicnn/pools"]


def test_models_of_others_are_refused(tmp_path: Path, model: bytes) -> None:
    path = tmp_path / "m.onnx"
    with pytest.raises(RunError, match="cannot be read"):
        load_onnx_tagger(path)
    path.write_bytes(b"")
    with pytest.raises(RunError, match="holds 0 bytes"):
        load_onnx_tagger(path)
    path.write_bytes(model[:5_000])
    with pytest.raises(RunError, match="is not an ONNX model that can be run"):
        load_onnx_tagger(path)
    proto = onnx.load_model_from_string(model)
    for key, value, words in (
        ("east_format", "9", "says east_format '9'; this program reads 1"),
        ("classes", "[1]", "classes must be names"),
        ("classes", "{", "classes is missing or damaged"),
        ("rate_hz", "-1", "rate_hz must be above 0"),
        ("thresholds", "[1]", "must be 3 numbers"),
    ):
        changed = onnx.ModelProto()
        changed.CopyFrom(proto)
        next(prop for prop in changed.metadata_props if prop.key == key).value = value
        path.write_bytes(changed.SerializeToString())
        with pytest.raises(RunError, match=words):
            load_onnx_tagger(path)
    proto.graph.input[0].name = "audio"
    for node in proto.graph.node:
        node.input[:] = ["audio" if name == "waveform" else name for name in node.input]
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(RunError, match="takes audio and gives scores, logits"):
        load_onnx_tagger(path)


def test_nothing_is_written_over_by_accident(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"student\.onnx is there already\. Give --replace"):
        export_onnx(GOLDEN, GOLDEN / "student.onnx")
    with pytest.raises(SettingError, match=r"must end in \.onnx"):
        export_onnx(GOLDEN, tmp_path / "student.bin")
    with pytest.raises(SettingError, match="is a folder"):
        export_onnx(GOLDEN, tmp_path)
    with pytest.raises(RunError, match="not a finished student"):
        export_onnx(tmp_path, tmp_path / "a.onnx")


def test_the_example_of_the_page_runs_without_this_project(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "deployment.md").read_text(), flags=re.S)[0]
    shutil.copy(GOLDEN / "student.onnx", tmp_path)
    soundfile.write(tmp_path / "song.wav", music(16_000, clips=1, duration_s=5.0)[0], 16_000, subtype="FLOAT")
    guard = "import sys\nsys.modules['torch'] = sys.modules['pipeline'] = None\n"
    done = subprocess.run(
        [sys.executable, "-c", guard + code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    (audio,) = music(16_000, clips=1, duration_s=5.0)
    parts = [audio[:32_000], audio[32_000:64_000], audio[64_000:]]
    scores = load_tagger(GOLDEN).score([(part, 16_000) for part in parts])
    expected = (2 * scores[0] + 2 * scores[1] + scores[2]) / 5
    assert eval(done.stdout) == pytest.approx(dict(zip(CLASSES, expected, strict=True)), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.students())
def test_every_student_is_exported(name: str, tmp_path: Path) -> None:
    folder = lively_run(tmp_path / "run", name)
    done = export_onnx(folder, tmp_path / "out" / "s.onnx")
    assert done.proof.largest <= TOLERANCE
    tagger, session = load_tagger(folder), open_session(done.path.read_bytes(), name)
    for duration_s in LENGTHS_S:
        for clips in (1, 3):
            audio = music(tagger.rate_hz, clips=clips, duration_s=duration_s, seed=clips)
            assert difference(session, tagger, audio)[0] <= TOLERANCE, (duration_s, clips)


@pytest.mark.slow
def test_the_command_writes_the_file_that_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(GOLDEN, tmp_path / "student", ignore=shutil.ignore_patterns("*.onnx"))
    main(["-q", "export", str(folder)])
    assert "checked against PyTorch on 13 signals" in capsys.readouterr().out
    made, kept = (onnxruntime.InferenceSession(path / "student.onnx") for path in (folder, GOLDEN))
    assert made.get_modelmeta().custom_metadata_map == kept.get_modelmeta().custom_metadata_map
    for _, audio in signals(16_000, 2.0):
        np.testing.assert_allclose(run_session(made, audio)[0], run_session(kept, audio)[0], atol=1e-5)


@pytest.mark.slow
def test_single_label_scores_add_up_to_one(tmp_path: Path) -> None:
    folder = lively_run(tmp_path / "run", task="single-label")
    tagger = load_onnx_tagger(export_onnx(folder, tmp_path / "s.onnx").path)
    audio = music(16_000)
    np.testing.assert_allclose(tagger.run(audio).sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(tagger.run(audio), load_tagger(folder).run(audio), atol=TOLERANCE)
