"""The exported student against PyTorch eager on one thread, and `east predict` against the bare network.

``run()`` gives PyTorch's time over onnxruntime's, waveform to scores, for a clip of 10 s and for a
minute; what share of the speed of network and front end on ready samples a file reaches through
``predict``; and audio-seconds per second of each.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from lively import lively_run, music

from pipeline.deployment.about import describe_model
from pipeline.deployment.graph import build_graph
from pipeline.deployment.onnx_tagger import open_session, run_session
from pipeline.deployment.predict import predict
from pipeline.deployment.tagger import StudentTagger, load_tagger
from pipeline.deployment.waveform import WaveformStudent

TARGETS = {"PyTorch / onnxruntime, 10 s": 1.0}  # longer ones are cut into clips by `east predict`


def run(*, student: str = "cnn-small", width: float = 1.0, minutes: int = 10, rounds: int = 15) -> dict[str, float]:
    """Each pair is timed in turn and the shortest of ``rounds`` counts, so that a busy machine disturbs both alike."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tagger = load_tagger(lively_run(Path(folder) / "run", student, width=width, clip_s=10.0))
        network = WaveformStudent(tagger.front_end, tagger.student, single_label=False)
        content = build_graph(network, describe_model(Path(folder) / "run", tagger))
        found = _against_pytorch(tagger, content, rounds)
        return found | _through_predict(tagger, Path(folder), minutes)


def _against_pytorch(tagger: StudentTagger, content: bytes, rounds: int) -> dict[str, float]:
    session, found = open_session(content, "student", threads=1), {}
    for seconds in (10, 60):
        audio = music(tagger.rate_hz, clips=1, duration_s=seconds)
        ways: tuple[Callable[[], object], ...] = (lambda: tagger.run(audio), lambda: run_session(session, audio))  # noqa: B023
        eager, exported = _in_turn(ways, rounds)
        found[f"PyTorch / onnxruntime, {seconds} s"] = eager / exported
        found[f"onnxruntime, audio s/s, {seconds} s"] = seconds / exported
    return found


def _through_predict(tagger: StudentTagger, folder: Path, minutes: int) -> dict[str, float]:
    """A FLAC at 44.1 kHz; batches of eight clips as ``predict`` makes them for the bare network."""
    audio = np.tile(music(44_100, clips=1, duration_s=60.0)[0], minutes)
    soundfile.write(folder / "long.flac", audio, 44_100)
    clips = np.tile(music(tagger.rate_hz, clips=1, duration_s=10.0), (8, 1))
    (bare,) = _in_turn((lambda: tagger.run(clips),), 5)
    started = time.perf_counter()
    predict(folder / "run", [str(folder / "long.flac")])
    rate = 60 * minutes / (time.perf_counter() - started)
    return {"predict / bare network": rate * bare / 80, "predict, audio s/s": rate, "bare, audio s/s": 80 / bare}


def _in_turn(ways: tuple[Callable[[], object], ...], rounds: int) -> list[float]:
    """Shortest seconds of each."""
    best = [float("inf")] * len(ways)
    for _ in range(rounds):
        for k, way in enumerate(ways):
            started = time.perf_counter()
            way()
            best[k] = min(best[k], time.perf_counter() - started)
    return best


def test_targets_are_measured() -> None:
    """Without the export, which takes seconds: the golden one."""
    torch.set_num_threads(1)
    folder = Path(__file__).parents[1] / "golden" / "student"
    found = _against_pytorch(load_tagger(folder), (folder / "student.onnx").read_bytes(), 1)
    assert found.keys() >= TARGETS.keys()
    assert all(value > 0 for value in found.values())


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
