"""Real processes, killed and interrupted: what was finished counts, the end is the same, nobody stays behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from extracting import ROOT, command, run, table_of, tidy, write_clips
from killing import family, require_gone, workers

from pipeline import layout
from pipeline.events import Event, ShardDone
from pipeline.manifest import ClipTable, write_table
from pipeline.stores import State, open_store
from pipeline.stores.target import working_path

N, TEACHER = 80, "fake-slow/frames"
SHARDS = set(range(5))
DONE = re.compile(r"fake-slow/frames: shard (\d+), ")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ClipTable:
    folder = tmp_path_factory.mktemp("music")
    return table_of(write_clips(folder, N, suffix="wav"), folder)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EAST_WEIGHTS", str(tmp_path_factory.getbasetemp() / "weights"))
    monkeypatch.setenv("EAST_PLUGINS", "plugins")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


@pytest.fixture(scope="module")
def right(table: ClipTable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Content digest of a run that was never interrupted; ``fake`` gives the same numbers without delay."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EAST_HOME", str(tmp_path_factory.mktemp("right")))
        patch.setenv("EAST_WEIGHTS", str(tmp_path_factory.getbasetemp() / "weights"))
        patch.setenv("EAST_PLUGINS", "plugins")
        run(table, "fake/frames")
        with open_store(layout.store_path("tiny", "fake", "frames")) as reader:
            yield reader.meta.content_digest


def store(format: layout.Format) -> Path:
    return layout.store_path("tiny", "fake-slow", "frames", format)


def digest(format: layout.Format) -> str:
    with open_store(store(format)) as reader:
        assert reader.meta.complete
        return reader.meta.content_digest


def finished_shards(format: layout.Format) -> set[int]:
    with open_store(working_path(store(format))) as reader:
        return set((np.flatnonzero(reader.state != State.PENDING) // reader.meta.shard_clips).tolist())


def start(table: ClipTable, format: layout.Format) -> subprocess.Popen[str]:
    """``east -v extract`` with two workers over the table in its file."""
    path = layout.table_path("tiny")
    if not path.exists():
        write_table(table, path)
    common = ("--teacher", TEACHER, "--student", "none", "--workers", "2", "--format", format)
    return command("-v", "extract", "--data", path, *common)


def read_until(process: subprocess.Popen[str], n_shards: int) -> str:
    """What it says until so many more shards are done."""
    assert process.stderr is not None
    said = ""
    while len(DONE.findall(said)) < n_shards:
        line = process.stderr.readline()
        assert line, f"ended with {process.poll()} after saying: {said}"
        said += line
    return said


def require_quiet(said: str) -> None:
    for word in ("Traceback", "distributed", "Error", "tornado", "Warning", "Killed", "nanny"):
        assert word not in said, said


def interrupt(process: subprocess.Popen[str], *, again_s: float | None = None) -> str:
    """Ctrl-C as a terminal does it, to all processes of the command at once; perhaps once more."""
    os.killpg(process.pid, signal.SIGINT)
    if again_s is not None:
        time.sleep(again_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode in ((130,) if again_s is None else (130, -signal.SIGINT)), err
    assert "Interrupted. What was finished is kept; the same command goes on from there." in err
    assert out == ""
    return err


def test_interrupted_then_killed(table: ClipTable, right: str) -> None:
    with tidy(start(table, "zarr")) as process:
        said = read_until(process, 1)
        children = family(process)
        assert len(workers(process)) == 2
        said += interrupt(process)
    require_gone(children)
    require_quiet(said)
    first = finished_shards("zarr")
    assert first >= {int(shard) for shard in DONE.findall(said)}
    assert not list(store("zarr").rglob("lease.json"))

    with tidy(start(table, "zarr")) as process:
        said = read_until(process, 1)
        children = family(process)
        process.kill()
        said += process.communicate()[1]
    require_gone(children)
    require_quiet(said)
    second = finished_shards("zarr")
    assert second > first
    assert first.isdisjoint({int(shard) for shard in DONE.findall(said)})

    events: list[Event] = []
    run(table, TEACHER, listener=events.append)
    assert {event.shard for event in events if isinstance(event, ShardDone)} == SHARDS - second
    assert digest("zarr") == right


@pytest.mark.slow
@pytest.mark.parametrize("format", ["zarr", "hdf5"])
@pytest.mark.parametrize("how", ["worker", "driver", "interrupt", "twice"])
def test_the_same_command_goes_on(table: ClipTable, right: str, how: str, format: layout.Format) -> None:
    with tidy(start(table, format)) as process:
        said = read_until(process, 2)
        children = family(process)
        if how == "worker":
            workers(process)[1].kill()
            said += process.communicate(timeout=120)[1]
            assert process.returncode == 0, said
            assert "its worker died. Looking for the clip that kills it" in said
        elif how == "driver":
            process.kill()
            said += process.communicate()[1]
        else:
            said += interrupt(process, again_s=0.2 if how == "twice" else None)
    require_gone(children)
    require_quiet(said)
    if how != "worker":
        before = finished_shards(format)
        with tidy(start(table, format)) as process:
            said = process.communicate(timeout=120)[1]
            assert process.returncode == 0, said
        require_quiet(said)
        assert {int(shard) for shard in DONE.findall(said)} == SHARDS - before
    assert digest(format) == right
    assert [path.name for path in store(format).parent.iterdir()] == [store(format).name]
