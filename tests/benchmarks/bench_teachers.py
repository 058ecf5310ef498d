"""Teachers from file to embeddings: ours over the original package, on the same files and cores.

Each side runs as its users run it: the originals file after file in one process with as many
threads as there are cores, ours as ``east extract`` with one worker per core, store included.  Files
are WAV at 44,100 Hz.  Both sides run in turn on the otherwise idle machine.  Loading
the weights is not counted: originals run one file before, and of ours the first shard of each worker
does not count.  Originals run in the environments of the parity table, which are built
on demand; ``make bench`` leaves this one out, ``make bench-teachers`` runs it.
"""
# ruff: noqa: E402

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(Path(__file__).parent), str(TESTS)]

import badfiles
import narrow_openl3
import narrow_panns
import narrow_passt
import narrow_vggish
from extracting import run as run_extraction
from extracting import table_of
from parity import environments

from pipeline import weights
from pipeline.events import Event, ShardDone
from pipeline.manifest import ClipTable
from pipeline.registry import find_teacher

ALONE = True
"""Runs only when asked for by name."""

RATE_HZ, N_FILES, DISTINCT, TURNS = 44_100, 64, 8, 1
SCRIPTS = Path(__file__).parent / "originals"


@dataclass(frozen=True)
class Case:
    """A teacher on both sides; ``least`` is the ratio it is held to, files have ``clip_s`` seconds."""

    request: str
    script: str
    environment: str
    weights: Callable[[Path], Path]
    least: float
    clip_s: float = 10.0
    arguments: tuple[str, ...] = ()


def _panns(folder: Path) -> Path:
    narrow_panns.make_random_checkpoint(folder / "Cnn14_mAP=0.431.pth")
    return folder / "Cnn14_mAP=0.431.pth"


def _vggish(folder: Path) -> Path:
    narrow_vggish.make_random_checkpoint(folder)
    return folder


def _passt(folder: Path) -> Path:
    path = folder / "passt-s-f128-p16-s10-ap.476-swa.pt"
    narrow_passt.make_random_checkpoint(path)
    return path


def _openl3(folder: Path) -> Path:
    return narrow_openl3.make_random_weights(folder / "openl3_audio_mel128_music-v0_4_0.h5")


def _musicnn(folder: Path) -> Path:
    del folder
    return weights.fetch(find_teacher("musicnn").weights[0]).parent


CASES: dict[str, Case] = {
    "panns": Case("panns", "panns_original.py", "torch", _panns, 2.0),
    "vggish": Case("vggish-relu", "vggish_original.py", "torch", _vggish, 3.0),
    "passt": Case("passt:hop=0.96:window=0.96", "passt_original.py", "torch", _passt, 2.0),
    "musicnn": Case("musicnn", "musicnn_original.py", "tensorflow", _musicnn, 1.2),
    "openl3 hop 0.96": Case("openl3:hop=0.96", "openl3_original.py", "tensorflow", _openl3, 3.0, 10.0, ("0.96",)),
    "openl3 hop 0.1": Case("openl3", "openl3_original.py", "tensorflow", _openl3, 3.0, 1.0, ("0.1",)),
}
TARGETS = {f"{name}: ours / original": case.least for name, case in CASES.items()}


def run(*names: str) -> dict[str, float]:
    """Audio-seconds per second of both sides, their ratio, peak memory of one process."""
    found: dict[str, float] = {}
    for name in names or CASES:
        with tempfile.TemporaryDirectory() as folder:
            measured = _measure(CASES[name], Path(folder))
        ratio = measured["ours, audio-s/s"] / measured["original, audio-s/s"]
        found |= {f"{name}: {key}": value for key, value in measured.items()} | {f"{name}: ours / original": ratio}
        print(f"  {name}: {ratio:.2f} times the original; {measured}", flush=True)
    return found


def _measure(case: Case, folder: Path) -> dict[str, float]:
    path = case.weights(folder)
    table = _write_table(folder / "audio", case.clip_s)
    environment = environments.build(case.environment)
    rates: dict[str, list[float]] = {"ours": [], "original": []}
    peaks: dict[str, list[int]] = {"ours": [], "original": []}
    for turn in range(TURNS):
        for side, measure in (
            ("original", lambda: _original(case, environment, path, folder / "audio")),
            ("ours", lambda home=folder / f"home{turn}": _ours(case, path, table, home)),
        ):
            seconds, peak = measure()
            rates[side].append(case.clip_s / seconds)
            peaks[side].append(peak)
    speeds = {f"{side}, audio-s/s": max(values) for side, values in rates.items()}
    return speeds | {f"{side}, peak GB of a process": max(values) / 1e9 for side, values in peaks.items()}


def _write_table(folder: Path, clip_s: float) -> ClipTable:
    folder.mkdir()
    paths = [folder / f"{row:03d}.wav" for row in range(N_FILES)]
    for row, path in enumerate(paths):
        if row < DISTINCT:
            badfiles.write(path, badfiles.music(RATE_HZ, clip_s, seed=row), RATE_HZ, "WAV", "PCM_16")
        else:
            shutil.copyfile(paths[row % DISTINCT], path)
    return table_of(paths, folder, clip_s=clip_s, name="bench")


def _original(case: Case, environment: environments.Environment, path: Path, audio: Path) -> tuple[float, int]:
    variables = os.environ | ({"PYTHONPATH": str(environment.path)} if environment.path else {})
    command = [str(environment.python), "-P", str(SCRIPTS / case.script), str(path), str(audio), *case.arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{case.script}:\n{done.stderr[-2000:]}")
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return float(told["seconds_per_file"]), int(told["peak_bytes"])


def _ours(case: Case, path: Path, table: ClipTable, home: Path) -> tuple[float, int]:
    """Seconds per clip at the rate after the first shard of each worker, and peak bytes of a worker."""
    workers = os.cpu_count() or 1
    marks: list[tuple[float, int]] = []

    def listen(event: Event) -> None:
        if isinstance(event, ShardDone):
            marks.append((time.perf_counter(), event.n_done))

    before = os.environ.get("EAST_HOME")
    os.environ["EAST_HOME"] = str(home)
    try:
        report = run_extraction(table, case.request, listener=listen, n_workers=workers, weights=path, preflight=False)
    finally:
        os.environ.pop("EAST_HOME") if before is None else os.environ.update(EAST_HOME=before)
    counted = marks[workers:]
    seconds = counted[-1][0] - marks[workers - 1][0]
    return seconds / sum(n_done for _, n_done in counted), report.peak_bytes


if __name__ == "__main__":
    for key, value in run(*sys.argv[1:]).items():
        print(f"{key:<44} {value:,.2f}")
