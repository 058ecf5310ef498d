"""Stage one from a clip table to finished stores, with mels and fake teachers (see tests/plugins.py)."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import badfiles
import numpy as np
import plugins
import pytest
import soundfile as sf
import soxr
from extracting import ROOT, command, meta_of, run, table_of, tidy, write_clips

from pipeline import layout
from pipeline.errors import (
    ClipsFailedError,
    PlanError,
    SettingError,
    StoreBusyError,
    StoreError,
    UnknownNameError,
)
from pipeline.events import ClipFailed, ClipShort, Event, ShardDone, Warned
from pipeline.manifest import ClipTable
from pipeline.stores import State, open_store

N = 40


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    write_clips(folder, N)
    return folder


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EAST_WEIGHTS", str(tmp_path_factory.getbasetemp() / "weights"))
    monkeypatch.setenv("EAST_PLUGINS", "plugins")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


@pytest.fixture
def table(music: Path) -> ClipTable:
    return table_of(sorted(music.iterdir()), music)


def digests(table: ClipTable) -> dict[str, str]:
    found = {}
    for path in layout.list_stores(table.name):
        with open_store(path) as reader:
            assert reader.meta.complete
            found[reader.meta.name] = reader.meta.content_digest
    return found


@pytest.mark.parametrize("front_end", [(), pytest.param(("mel-small",), marks=pytest.mark.slow)])
def test_serial_dask_and_hdf5_give_the_same_content(
    table: ClipTable, front_end: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = (*front_end, "fake")
    assert run(table, *requests).n_done == N
    serial = digests(table)
    assert set(serial) == {"fake/frames", "fake/clip"} | {f"{name}/logmel" for name in front_end}
    monkeypatch.setenv("EAST_HOME", str(layout.home().parent / "dask"))
    report = run(table, *requests, n_workers=2, format="hdf5")
    assert (report.n_done, report.n_failed) == (N, 0)
    assert digests(table) == serial
    folders = {path.suffix for path in (layout.dataset_dir(table.name) / "stores").rglob("*") if path.parent.is_dir()}
    assert folders == {"", ".h5"}


def test_numbers_are_those_of_the_extractor(table: ClipTable) -> None:
    run(table, "fake", dtype="float32")
    rows = np.arange(N)
    with open_store(layout.store_path("tiny", "fake", "frames")) as reader:
        frames = reader.read(rows)
        assert reader.n_frames.tolist() == [10] * N
    with open_store(layout.store_path("tiny", "fake", "clip")) as reader:
        level, peak = reader.read(rows)[:, 0].T
    for row in (0, 17, 39):
        samples, rate_hz = sf.read(table.audio_path(row), dtype="float32")
        at_rate = soxr.resample(samples, rate_hz, plugins.RATE_HZ, quality="HQ").reshape(10, plugins.HOP)
        assert level[row] == pytest.approx(np.sqrt((at_rate**2).mean(1)).mean(), rel=1e-5)
        assert peak[row] == pytest.approx(np.abs(at_rate).max(1).mean(), rel=1e-5)
    weights = np.linspace(-1.0, 1.0, 12).reshape(2, 6)
    assert np.allclose(frames.mean(1), np.stack([level, peak], 1) @ weights, atol=1e-6)


def test_one_decode_pass_fills_all_stores(table: ClipTable) -> None:
    events: list[Event] = []
    run(table, "mel-small", "fake", listener=events.append)
    by_shard = Counter(event.shard for event in events if isinstance(event, ShardDone))
    assert by_shard == {0: 3, 1: 3, 2: 3}
    run(table, "mel-small", "fake", listener=events.append)
    assert sum(isinstance(event, ShardDone) for event in events) == 9


def test_interrupted_run_goes_on_where_it_stopped(table: ClipTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, ShardDone) and event.shard == 1 and event.store == "fake/frames":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(table, "fake", listener=stop)
    with open_store(layout.store_path("tiny", "fake", "frames")) as reader:
        assert not reader.meta.complete
        assert (reader.state == State.DONE).sum() == 32
    events: list[Event] = []
    run(table, "fake", listener=events.append)
    made = [(event.store, event.shard) for event in events if isinstance(event, ShardDone)]
    assert sorted(made) == [("fake/clip", 1), ("fake/clip", 2), ("fake/frames", 2)]
    resumed = digests(table)
    monkeypatch.setenv("EAST_HOME", str(layout.home().parent / "once"))
    run(table, "fake")
    assert digests(table) == resumed


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_new_clips_are_added(table: ClipTable, format: layout.Format, monkeypatch: pytest.MonkeyPatch) -> None:
    run(table.select(np.arange(20)), "fake/frames", format=format)
    events: list[Event] = []
    assert run(table, "fake/frames", format=format, listener=events.append).n_clips == N
    assert [event.shard for event in events if isinstance(event, ShardDone)] == [1, 2]
    grown = digests(table)
    monkeypatch.setenv("EAST_HOME", str(layout.home().parent / "once"))
    run(table, "fake/frames", format=format)
    assert digests(table) == grown


def test_packing_that_was_interrupted_is_done_again(table: ClipTable) -> None:
    """Killed after the last shard was folded, before the HDF5 file was there."""

    def stop(event: Event) -> None:
        if getattr(event, "task", "").startswith("pack"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(table, "fake/frames", format="hdf5", listener=stop)
    path = layout.store_path("tiny", "fake", "frames", "hdf5")
    assert [place.name for place in path.parent.iterdir()] == ["frames.h5.partial"]
    assert run(table, "fake/frames", format="hdf5").n_done == N
    assert list(path.parent.iterdir()) == [path]


def test_zoo_good_files_are_done_and_each_bad_one_is_named(tmp_path: Path) -> None:
    zoo = badfiles.write_zoo(tmp_path / "zoo")
    table = table_of([path for path, _ in zoo.values()], tmp_path / "zoo", clip_s=badfiles.CLIP_S)
    events: list[Event] = []
    report = run(table, "mel-small", listener=events.append)
    bad = {name: kind for name, (_, kind) in zoo.items() if kind}
    assert {event.clip_id: event.kind for event in events if isinstance(event, ClipFailed)} == bad
    assert {event.clip_id for event in events if isinstance(event, ClipShort)} == badfiles.SHORT
    assert (report.n_failed, report.n_done) == (len(bad), len(zoo) - len(bad))
    assert dict(report.failures).keys() == bad.keys()
    with open_store(layout.store_path("tiny", "mel-small", "logmel")) as reader:
        columns = (reader.clip_id, reader.state, reader.failure, reader.n_frames)
        for clip_id, state, failure, n in zip(*columns, strict=True):
            if clip_id in bad:
                assert (state, n) == (State.FAILED, 0)
                assert failure.startswith(f"{bad[clip_id]}: ")
                assert str(tmp_path) not in failure
            else:
                assert state == State.DONE
                assert n > 0
                assert failure.startswith("short: ") == (clip_id in badfiles.SHORT)
    with pytest.raises(ClipsFailedError, match=rf"{len(bad)} of {len(zoo)} clips failed.*--retry-failed"):
        report.require(len(bad) - 1)
    report.require(len(bad))


def test_neighbours_of_a_bad_clip_keep_their_numbers(music: Path, tmp_path: Path) -> None:
    good = sorted(music.iterdir())[:12]
    for path in good:
        (tmp_path / path.name).symlink_to(path)
    run(table_of(good, music), "fake/frames")
    bad = [tmp_path / path.name for path in good]
    bad[5].unlink()
    bad[5].write_bytes(b"not audio")
    other = table_of(bad, tmp_path, name="other")
    assert run(other, "fake/frames").n_failed == 1
    left, right = (open_store(layout.store_path(name, "fake", "frames")) for name in ("tiny", "other"))
    rows = np.delete(np.arange(12), 5)
    assert np.array_equal(left.read(rows), right.read(rows))


def test_files_that_were_missing_are_made_once_they_are_there(music: Path, tmp_path: Path) -> None:
    paths = write_clips(tmp_path / "some", 3)
    paths[1].rename(tmp_path / "away")
    paths[2].rename(tmp_path / "other")
    table = table_of(paths, tmp_path / "some")
    assert run(table, "fake/clip").n_failed == 2
    paths[1].mkdir()
    (tmp_path / "other").rename(paths[2])
    assert run(table, "fake/clip").n_failed == 1
    events: list[Event] = []
    assert run(table, "fake/clip", listener=events.append).n_failed == 1  # a folder is no file, and is not tried again
    assert not [event for event in events if isinstance(event, ClipFailed)]
    assert run(table, "fake/clip", listener=events.append, retry_failed=True).n_failed == 1
    assert [event.clip_id for event in events if isinstance(event, ClipFailed)] == [table.clip_id[1]]


def test_a_clip_that_failed_in_any_store_counts_as_failed(tmp_path: Path) -> None:
    paths = write_clips(tmp_path / "some", 4)
    table = table_of(paths, tmp_path / "some")
    assert run(table, "mel-small").n_done == 4
    paths[2].unlink()
    report = run(table, "mel-small", "fake/clip")
    assert (report.n_clips, report.n_done, report.n_failed) == (4, 3, 1)
    assert [clip_id for clip_id, _ in report.failures] == [table.clip_id[2]]
    assert report.failed_in == layout.store_path("tiny", "fake", "clip")
    with pytest.raises(ClipsFailedError, match="1 of 4 clips failed"):
        report.require(0)


def test_a_table_without_any_of_its_audio_is_refused_with_the_folder(tmp_path: Path) -> None:
    table = table_of(write_clips(tmp_path / "some", 3), tmp_path / "some")
    (tmp_path / "some").rename(tmp_path / "elsewhere")
    with pytest.raises(PlanError, match=f"None of the 3 audio files .* lie in {tmp_path / 'some'}, for example"):
        run(table, "fake/clip")
    assert not layout.store_path("tiny", "fake", "clip").parent.exists()


def test_a_run_that_needs_no_audio_goes_to_its_end_without_any(table: ClipTable) -> None:
    """It was interrupted, what it had not made left the table, and the audio is put away."""

    def stop(event: Event) -> None:
        if isinstance(event, ShardDone):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(table, "fake/frames", listener=stop)
    away = replace(table, root=str(Path(table.root) / "away"))
    report = run(away.select(np.arange(16)), "fake/frames")
    assert (report.n_done, report.n_failed, report.n_absent) == (16, 0, N - 16)
    with pytest.raises(PlanError, match=f"None of the {N} audio files"):
        run(away, "fake/frames")


def test_command_ends_with_one_when_clips_fail(tmp_path: Path) -> None:
    folder = tmp_path / "some"
    write_clips(folder, 3)
    (folder / "bad.wav").write_bytes(b"this is not audio")
    common = ("extract", "--data", folder, "--teacher", "none", "--workers", "0")
    strict, lenient = command(*common), command(*common, "--allow-failures", "1", EAST_HOME=str(tmp_path / "other"))
    with tidy(strict), tidy(lenient):
        out, err = strict.communicate(timeout=120)
        assert strict.returncode == 1, err
        assert "3 clips done, 1 failed" in out
        assert re.search(r"failed bad\.wav@0 \(format\): ", err)
        assert "error: 1 of 4 clips failed" in err
        assert "Traceback" not in err
        out, err = lenient.communicate(timeout=120)
        assert (lenient.returncode, "error" in err) == (0, False), err


def test_decoder_with_a_bug_fails_its_clip_alone(tmp_path: Path) -> None:
    paths = write_clips(tmp_path / "some", 4, suffix="wav")
    paths[2] = paths[2].rename(paths[2].with_suffix(".odd"))
    report = run(table_of(paths, tmp_path / "some"), "fake/clip")
    assert report.n_done == 3
    assert report.failures == (("002.odd", "format: its decoder failed with RuntimeError: buffer of music.odd is odd"),)


@pytest.mark.parametrize(("killers", "n_workers"), [((18,), 1), pytest.param((3, 5, 18), 2, marks=pytest.mark.slow)])
def test_decoder_that_kills_its_process_is_found(tmp_path: Path, killers: tuple[int, ...], n_workers: int) -> None:
    paths = write_clips(tmp_path / "some", 20, suffix="wav")
    for row in killers:
        paths[row] = paths[row].rename(paths[row].with_suffix(".killer"))
    events: list[Event] = []
    table = table_of(paths, tmp_path / "some")
    report = run(table, "fake/clip", n_workers=n_workers, listener=events.append)
    assert report.n_done == 20 - len(killers)
    died = {event.clip_id for event in events if isinstance(event, ClipFailed) and event.kind == "died"}
    assert died == {f"{row:03d}.killer" for row in killers}
    assert all("killed by SIGKILL" in reason for _, reason in report.failures)
    warned = [event.text for event in events if isinstance(event, Warned)]
    assert all("Looking for the clip that kills it" in text for text in warned)
    suspected = {int(text.split("-")[1]) for text in warned}  # a shard that waits on the same worker may be, too
    assert suspected >= {row // 16 for row in killers}


def test_other_numbers_than_before_are_refused(table: ClipTable, monkeypatch: pytest.MonkeyPatch) -> None:
    run(table.select(np.arange(20)), "fake-drift/clip")
    monkeypatch.setenv("FAKE_DRIFT", "1.01")
    with pytest.raises(StoreError, match=r"canaries differ by 1\.\d+e-02 of their range, the card allows 1e-03"):
        run(table, "fake-drift/clip")
    monkeypatch.setenv("FAKE_DRIFT", "1.0001")
    assert run(table, "fake-drift/clip").n_done == N


def test_other_settings_are_refused(table: ClipTable) -> None:
    run(table.select(np.arange(4)), "fake/clip")
    with pytest.raises(StoreError, match=r"made with other settings: mode is 'fast' there and 'exact' here"):
        run(table, "fake/clip", mode="exact")


def test_second_run_is_told_that_the_store_is_busy(table: ClipTable) -> None:
    def again(event: Event) -> None:
        if isinstance(event, ShardDone):
            with pytest.raises(StoreBusyError, match=rf"clip\.zarr is being written by process {os.getpid()} on this"):
                run(table, "fake/clip")

    assert run(table, "fake/clip", listener=again).n_done == N


def test_dry_run_writes_nothing(table: ClipTable) -> None:
    report = run(table, "mel-small", "fake", dry_run=True)
    assert report.text().startswith(f"Plan: {N} clips (0.01 h of audio) in 3 shards; to write: mel-small/logmel ")
    assert not layout.home().exists()


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ("fak", UnknownNameError, "no extractor named 'fak'. Did you mean 'fake'"),
        ("fake/framez", SettingError, "fake has no output 'framez'; it has frames, clip"),
    ],
)
def test_unknown_names_are_settings_errors(table: ClipTable, request_: str, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        run(table, request_)
    assert not layout.home().exists()


def test_values_beyond_float16_name_clip_and_float32(table: ClipTable) -> None:
    with pytest.raises(StoreError, match=r"fake-big/frames: clip '0\d\d\.flac' .*cannot hold.*--dtype float32"):
        run(table, "fake-big/frames")
    assert run(table, "fake-big/clip", dtype="float32").n_done == N


def test_values_that_are_no_numbers_are_refused(table: ClipTable) -> None:
    with pytest.raises(StoreError, match=r"fake-nan/clip: clip '000\.flac' has a feature that is nan"):
        run(table, "fake-nan/clip", preflight=False)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_memory_does_not_grow_with_the_length_of_a_file(tmp_path: Path, table: ClipTable) -> None:
    """Three hours in stereo, 345 MB; clips from its start, middle and end."""
    path = badfiles.write_long(tmp_path / "long.wav", n_channels=2)
    starts = {"start": 0.0, "middle": 5_400.0, "end": 10_799.0}
    long = replace(
        table_of([path] * 3, tmp_path, name="long"),
        clip_id=np.array(list(starts), object),
        start_s=np.array(list(starts.values())),
    )
    run(table, "fake/clip")
    before = reset_peak()
    assert run(long, "fake/clip").n_done == 3
    assert peak() - before < 50_000


def peak() -> int:
    """Largest resident size since the last reset, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def test_full_disk_is_said_and_the_run_goes_on_later(table: ClipTable) -> None:
    """Files may not grow beyond a size after the first shard: what a full disk does, without filling one."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event: Event) -> None:
        if isinstance(event, ShardDone):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))

    try:
        with pytest.raises(StoreError, match=r"Shard 1 of fake/frames cannot be written: file too large\. What was"):
            run(table, "fake/frames", listener=fill)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    with open_store(layout.store_path("tiny", "fake", "frames")) as reader:
        assert (reader.state == State.DONE).sum() == 16
    assert run(table, "fake/frames").n_done == N


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or not sys.platform.startswith("linux"), reason="mounting a small disk needs root"
)
@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_really_full_disk(table: ClipTable, format: layout.Format, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk of two megabytes, filled when the first shard is done; free again, the run goes on."""
    home = layout.home().parent / "small"
    home.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", home], check=False).returncode:
        pytest.skip("this machine does not let us mount")
    monkeypatch.setenv("EAST_HOME", str(home))

    def fill(event: Event) -> None:
        done = isinstance(event, ShardDone) if format == "zarr" else getattr(event, "task", "").startswith("pack")
        if done and not (home / "filler").exists():
            with contextlib.suppress(OSError):
                (home / "filler").write_bytes(bytes(3 << 20))

    try:
        with pytest.raises(StoreError, match=r"cannot be written: no space left on device.*free some space"):
            run(table, "fake/frames", format=format, listener=fill)
        (home / "filler").unlink()
        assert run(table, "fake/frames", format=format).n_done == N
        assert len(list((home / "tiny" / "stores" / "fake").iterdir())) == 1
    finally:
        subprocess.run(["umount", home], check=True)


def test_plan_that_does_not_fit_is_refused_before_anything_is_written(table: ClipTable) -> None:
    with pytest.raises(PlanError, match=r"workers need about .* of memory and .* are free"):
        run(table, "fake", n_workers=100_000)
    assert not layout.home().exists()


def test_batch_partition_is_recorded(table: ClipTable) -> None:
    run(table, "fake/clip")
    (entry,) = meta_of(table, "fake", "clip").runs
    assert entry["batch_clips"] == {"fake": 4}
    assert entry["n_workers"] == 0
