"""Stores that follow their audio: changed, renamed, added; and features taken from other stores."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import badfiles
import numpy as np
import pytest
import soundfile as sf
from extracting import CLIP_S, ROOT, run, table_of, write_clips

from pipeline import layout
from pipeline.errors import StoreError
from pipeline.events import Event, ShardDone, TaskStarted
from pipeline.manifest import ClipTable
from pipeline.stores import open_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.codecs import PLAIN, stored_codec
from pipeline.stores.dropping import change_places, drop_clips, exchange, settle
from pipeline.stores.making.convert import convert_store
from pipeline.stores.pending import look
from pipeline.stores.shards import write_shard
from pipeline.stores.shrinking import Smaller, shrink

N = 40


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EAST_WEIGHTS", str(tmp_path_factory.getbasetemp() / "weights"))
    monkeypatch.setenv("EAST_PLUGINS", "plugins")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


@pytest.fixture
def music(tmp_path: Path) -> Path:
    write_clips(tmp_path / "music", N)
    return tmp_path / "music"


def table(music: Path, name: str = "tiny") -> ClipTable:
    return table_of(sorted(music.iterdir()), music, name=name)


def computed(table: ClipTable, *requests: str, **changes: object) -> tuple[float, list[str]]:
    """Clips that were decoded for the networks, and the names of all countable work."""
    events: list[Event] = []
    run(table, *requests, listener=events.append, **changes)
    started = {event.task: event.total for event in events if isinstance(event, TaskStarted)}
    return started.get("extract") or 0.0, sorted(started)


def store(name: str = "tiny", output: str = "frames", format: layout.Format = "zarr") -> Path:
    return layout.store_path(name, "fake", output, format)


def digest(path: Path) -> str:
    with open_store(path) as reader:
        assert reader.meta.complete
        return reader.meta.content_digest


def fresh_digest(table: ClipTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, teacher: str = "fake") -> str:
    with monkeypatch.context() as patch:
        patch.setenv("EAST_HOME", str(tmp_path / "fresh"))
        run(table, f"{teacher}/frames", preflight=False)
        return digest(layout.store_path("tiny", teacher, "frames"))


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
@pytest.mark.parametrize("n_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_changed_audio_is_computed_again_and_nothing_else(
    music: Path, format: layout.Format, n_workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"format": format, "n_workers": n_workers}
    run(table(music), "fake/frames", **options)
    assert computed(table(music), "fake/frames", **options) == (0, [])
    rate_hz = badfiles.CODECS["flac"][0]
    for row in (3, 20):
        sf.write(music / f"{row:03d}.flac", badfiles.music(rate_hz, CLIP_S, seed=99 + row), rate_hz)
    n, tasks = computed(table(music), "fake/frames", **options)
    assert n == 2
    assert "check audio" in tasks
    assert digest(store(format=format)) == fresh_digest(table(music), monkeypatch, tmp_path)
    assert computed(table(music), "fake/frames", **options) == (0, [])


def test_touched_audio_is_read_and_left(music: Path) -> None:
    run(table(music), "fake/frames")
    os.utime(music / "004.flac", (1, 1))
    assert computed(table(music), "fake/frames") == (0, ["check audio"])
    assert computed(table(music), "fake/frames") == (0, [])


def test_without_its_index_audio_is_read_and_not_computed(music: Path) -> None:
    run(table(music), "fake/frames")
    layout.index_path("tiny").write_bytes(b"not a database")
    assert computed(table(music), "fake/frames") == (0, ["check audio"])
    layout.index_path("tiny").unlink()
    assert computed(table(music), "fake/frames") == (0, ["check audio"])


def test_new_clips_alone_are_computed(music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shard that was not full keeps its clips; the last batch (of four) is made again."""
    whole = table(music)
    run(whole.select(np.arange(22)), "fake")
    assert computed(whole, "fake") == (20, ["extract"])
    assert digest(store()) == fresh_digest(whole, monkeypatch, tmp_path)


def test_renamed_audio_is_copied(music: Path) -> None:
    run(table(music), "fake")
    (music / "sub").mkdir()
    for row in (0, 5, 39):
        (music / f"{row:03d}.flac").rename(music / "sub" / f"moved {row}.flac")
    moved = table_of(sorted(music.rglob("*.flac")), music)
    n, _ = computed(moved, "fake")
    assert n == 0
    with open_store(store()) as reader:
        row_of = {clip_id: row for row, clip_id in enumerate(reader.clip_id.tolist())}
        assert len(row_of) == N + 3
        for row in (0, 5, 39):
            old, new = reader.read(np.array([row_of[f"{row:03d}.flac"], row_of[f"sub/moved {row}.flac"]]))
            assert np.array_equal(old, new)
            assert old.any()


def test_one_store_may_be_complete_while_another_is_not(music: Path) -> None:
    """A clip that is copied in one store and computed in the other."""
    run(table(music), "fake/frames")
    rate_hz = badfiles.CODECS["flac"][0]
    sf.write(music / "003.flac", badfiles.music(rate_hz, CLIP_S, seed=7), rate_hz)
    assert computed(table(music), "fake") == (N, ["check audio", "extract"])
    with open_store(store()) as frames, open_store(store(output="clip")) as clip:
        weights = np.linspace(-1.0, 1.0, 12).reshape(2, 6)
        means = frames.read(np.arange(N)).astype(np.float64).mean(1)
        assert np.allclose(means, clip.read(np.arange(N))[:, 0] @ weights, atol=2e-3)


@pytest.mark.parametrize("n_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_features_of_the_same_recordings_are_taken_from_another_store(
    music: Path, tmp_path: Path, n_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another team has the same recordings as WAV, under other names, and fewer of them."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    for row in range(0, N, 2):
        samples, rate_hz = sf.read(music / f"{row:03d}.flac", dtype="int16")
        sf.write(theirs / f"t{row}.wav", samples, rate_hz, subtype="PCM_16")
    run(table(theirs, "theirs"), "fake")
    shared = layout.dataset_dir("theirs") / "stores"
    report = run(table(music), "fake", reuse=(str(shared),), dry_run=True)
    assert "20 clips (0.01 h of audio)" in report.plan
    assert "copied, not computed: fake/frames 20 clips" in report.plan
    n, _ = computed(table(music), "fake", reuse=(str(shared),), n_workers=n_workers)
    assert n == 20
    assert digest(store()) == fresh_digest(table(music), monkeypatch, tmp_path)
    with open_store(store()) as reader:
        assert reader.arrays.file_digest.any(axis=1).all()
    assert computed(table(music), "fake", reuse=(str(shared),)) == (0, [])


def test_stores_that_do_not_fit_are_refused_by_name_of_the_field(music: Path, tmp_path: Path) -> None:
    run(table(music, "theirs"), "fake/frames", dtype="float32")
    with pytest.raises(StoreError, match=r"--reuse .*frames\.zarr was made with other settings: dtype is 'float32'"):
        run(table(music), "fake/frames", reuse=(str(store("theirs")),))
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError, match=r"there is no store below that folder"):
        run(table(music), "fake/frames", reuse=(str(tmp_path / "empty"),))
    assert not store().exists()


def test_stores_whose_canaries_disagree_are_refused(music: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(table(music, "theirs"), "fake-drift/frames", preflight=False)
    monkeypatch.setenv("FAKE_DRIFT", "1.5")
    theirs = layout.store_path("theirs", "fake-drift", "frames")
    with pytest.raises(StoreError, match=r"gives other numbers here"):
        run(table(music), "fake-drift/frames", reuse=(str(theirs),), preflight=False)
    assert not layout.store_path("tiny", "fake-drift", "frames").exists()


def test_damaged_features_of_another_store_are_computed(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(table(music, "theirs"), "fake/frames")
    theirs = tmp_path / "copy.zarr"
    shutil.copytree(store("theirs"), theirs)
    shard = bytearray((theirs / "features/c.1.0.0").read_bytes())
    shard[7] ^= 1
    (theirs / "features/c.1.0.0").write_bytes(shard)
    run(table(music), "fake/frames", reuse=(str(theirs),))
    assert digest(store()) == fresh_digest(table(music), monkeypatch, tmp_path)


def test_features_that_do_not_give_their_digest_are_not_copied(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other numbers under right checksums, as a half-finished earlier run might leave them in a shard."""
    run(table(music), "fake/frames")
    with open_store(store()) as reader:
        meta, features = reader.meta, np.array(reader.read(np.arange(16)))
    features[5] += 1
    sizes = {"chunk_clips": meta.chunk_clips, "shard_clips": meta.shard_clips}
    write_shard(store() / "features/c.0.0.0", features, **sizes)
    rate_hz = badfiles.CODECS["flac"][0]
    sf.write(music / "003.flac", badfiles.music(rate_hz, CLIP_S, seed=7), rate_hz)
    run(table(music), "fake/frames")
    assert digest(store()) == fresh_digest(table(music), monkeypatch, tmp_path)


def without(music: Path, *rows: int) -> ClipTable:
    """The table after some files were taken away."""
    for row in rows:
        (music / f"{row:03d}.flac").unlink()
    return table(music)


def files_of(place: Path) -> dict[str, bytes]:
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    return {path.name if place.is_file() else str(path.relative_to(place)): path.read_bytes() for path in files}


def stop_after(n_shards: int) -> Callable[[Event], None]:
    """A listener that interrupts a run after so many shards; after none, its stores are open for writing."""
    done: list[Event] = []

    def stop(event: Event) -> None:
        if isinstance(event, ShardDone) if n_shards else getattr(event, "detail", "") == "first shards":
            done.append(event)
        if len(done) >= max(1, n_shards):
            raise KeyboardInterrupt

    return stop


def test_clips_that_leave_before_they_are_made_are_no_failures_and_may_come_back(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(table(music), "fake/frames", listener=stop_after(1))
    report = run(table(music).select(np.arange(16)), "fake/frames")
    report.require(0)
    assert (report.n_done, report.n_failed, report.n_absent) == (16, 0, 24)
    assert "24 clips left the table before they were made" in report.text()
    run(table(music), "mel-small")
    for requests in (("mel-small", "fake/frames"), ("fake/frames", "mel-small")):
        report = run(table(music).select(np.arange(16)), *requests)
        assert (report.n_clips, report.n_done, report.n_absent) == (N, 16, 24)
    again, _ = computed(table(music), "fake/frames")
    assert again == 24
    assert digest(store()) == fresh_digest(table(music), monkeypatch, tmp_path)


def test_a_clip_that_left_keeps_its_features_when_growth_is_interrupted(music: Path) -> None:
    """It lies in the last batch of the store before, whose clips are computed again where they are in the table."""
    run(table(music).select(np.arange(18)), "fake/frames")
    larger = table(music).select(np.array([row for row in range(N) if row != 17]))
    with pytest.raises(KeyboardInterrupt):
        run(larger, "fake/frames", listener=stop_after(0))
    report = run(larger, "fake/frames")
    assert (report.n_done, report.n_failed, report.n_absent) == (N, 0, 0)


@pytest.mark.parametrize("why", ["missing", "damaged"])
def test_a_failed_clip_that_is_mended_after_an_interrupted_run_is_made(music: Path, tmp_path: Path, why: str) -> None:
    """It is pending with its shard, and the store keeps why it failed."""
    whole, clip = table(music), music / "003.flac"
    clip.rename(tmp_path / "away.flac")
    if why == "damaged":
        clip.write_bytes(b"no audio")
    assert run(whole.select(np.arange(14)), "fake/frames").n_failed == 1
    with pytest.raises(KeyboardInterrupt):
        run(whole.select(np.arange(16)), "fake/frames", listener=stop_after(0))
    (tmp_path / "away.flac").replace(clip)
    assert run(whole.select(np.arange(16)), "fake/frames", retry_failed=why == "damaged").n_failed == 0


EVEN: tuple[str, tuple[int, ...], int] = ("fake", (0, 5, 17, 38), 0)
ODD: tuple[str, tuple[int, ...], int] = ("fake-sized", (0, 5, 17), 1)


@pytest.mark.parametrize(
    ("format", "case"),
    [("hdf5", EVEN), ("zarr", ODD), pytest.param("hdf5", ODD, marks=pytest.mark.slow)],
    ids=["hdf5-even", "zarr-odd", "hdf5-odd"],
)
def test_clips_that_left_the_table_are_dropped(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: tuple[str, tuple[int, ...], int],
    format: layout.Format,
) -> None:  # fmt: skip
    """Only clips whose batch has another size now are computed: with 37 clips, the one that is alone in the last."""
    teacher, gone, again = case
    name, options = f"{teacher}/frames", {"format": format, "preflight": False}
    path = layout.store_path("tiny", teacher, "frames", format)
    run(table(music), name, **options)
    smaller = without(music, *gone)
    assert computed(smaller, name, **options) == (0, [])
    before = files_of(path)
    report = run(smaller, name, removed="drop", dry_run=True, **options)
    assert f"dropped, since they left the table: {name} {len(gone)} clips; " in report.plan
    assert report.plan.startswith(f"{again} clips ")
    assert files_of(path) == before
    report = run(smaller, name, removed="drop", **options)
    assert f"{len(gone)} clips that left the table were dropped" in report.text()
    assert (report.n_clips, report.n_done) == (len(smaller), len(smaller))
    with open_store(path) as reader:
        assert reader.clip_id.tolist() == smaller.clip_id.tolist()
        assert len(reader.meta.runs) == 2
    assert digest(path) == fresh_digest(smaller, monkeypatch, tmp_path, teacher)
    assert not verify_store(path, VerifyOptions()).findings
    assert [place.name for place in path.parent.iterdir()] == [path.name]
    assert computed(smaller, name, removed="drop", **options) == (0, [])


@pytest.mark.parametrize("format", ["zarr", pytest.param("hdf5", marks=pytest.mark.slow)])
def test_dropped_renamed_changed_and_new_clips_in_one_run(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: layout.Format
) -> None:
    whole = table(music)
    for row in (1, 2):
        (music / f"{row:03d}.flac").rename(tmp_path / f"{row}.flac")
    run(table(music), "fake/frames", format=format)
    for row in (1, 2):
        (tmp_path / f"{row}.flac").rename(music / f"{row:03d}.flac")
    rate_hz = badfiles.CODECS["flac"][0]
    sf.write(music / "030.flac", badfiles.music(rate_hz, CLIP_S, seed=7), rate_hz)
    (music / "005.flac").rename(music / "renamed.flac")
    smaller = without(music, 7, 8, 39)
    report = run(smaller, "fake/frames", format=format, removed="drop", dry_run=True)
    assert "dropped, since they left the table: fake/frames 3 clips" in report.plan
    n, _ = computed(smaller, "fake/frames", format=format, removed="drop")
    assert n <= 3 + 3  # new, new, changed; the last batch was not full before
    path = store(format=format)
    assert digest(path) == fresh_digest(smaller, monkeypatch, tmp_path)
    with open_store(path) as reader:
        assert set(reader.clip_id.tolist()) == set(whole.clip_id.tolist()) - {
            "005.flac", "007.flac", "008.flac", "039.flac"
        } | {"renamed.flac"}  # fmt: skip
    assert computed(smaller, "fake/frames", format=format, removed="drop") == (0, [])


def test_an_unfinished_store_loses_clips_too(music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, ShardDone) and event.shard == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(table(music), "fake/frames", listener=stop)
    smaller = without(music, 3, 35)
    n, _ = computed(smaller, "fake/frames", removed="drop")
    assert n == N - 32 - 1 + 2 + 2 - 4  # the rest of the last shard; two batches of two are made of four
    assert digest(store()) == fresh_digest(smaller, monkeypatch, tmp_path)


def test_a_compressed_store_stays_compressed(music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(table(music), "fake/frames")
    convert_store(str(store()), tmp_path / "packed.zarr", codec="zstd:5")
    shutil.rmtree(store())
    (tmp_path / "packed.zarr").rename(store())
    codec, smaller = stored_codec(store()), without(music, 2, 3)
    assert codec != PLAIN
    run(smaller, "fake/frames", removed="drop")
    assert stored_codec(store()) == codec
    assert digest(store()) == fresh_digest(smaller, monkeypatch, tmp_path)


def test_a_table_of_other_clips_drops_nothing(music: Path, tmp_path: Path) -> None:
    run(table(music), "fake/frames")
    before = files_of(store())
    write_clips(tmp_path / "others", N + 3)
    others = table_of(sorted((tmp_path / "others").iterdir())[N:], tmp_path / "others")
    with pytest.raises(StoreError, match=r"None of the 40 clips of the store fake/frames is in the clip table"):
        run(others, "fake/frames", removed="drop")
    assert files_of(store()) == before


def test_damage_stops_dropping_before_anything_is_written(music: Path) -> None:
    run(table(music), "fake/frames")
    with open_store(store()) as reader:
        meta, features = reader.meta, np.array(reader.read(np.arange(16)))
    features[5] += 1
    write_shard(store() / "features/c.0.0.0", features, chunk_clips=meta.chunk_clips, shard_clips=meta.shard_clips)
    before, smaller = files_of(store()), without(music, 2)
    with pytest.raises(StoreError, match=r"the features of '005\.flac' are not those that were stored, so nothing is"):
        run(smaller, "fake/frames", removed="drop")
    assert files_of(store()) == before
    assert [place.name for place in store().parent.iterdir()] == ["frames.zarr"]


def test_dropping_is_refused_where_the_extractor_gives_other_numbers(
    music: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(table(music), "fake-drift/frames")
    path = layout.store_path("tiny", "fake-drift", "frames")
    before, smaller = files_of(path), without(music, 2)
    monkeypatch.setenv("FAKE_DRIFT", "1.5")
    with pytest.raises(StoreError, match=r"gives other numbers here"):
        run(smaller, "fake-drift/frames", removed="drop")
    assert files_of(path) == before


WRITES = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.listdir", "shutil.rmtree", "ctypes.dlsym"}


def killed(work: Callable[[], object], at: int) -> list[str] | None:
    """Do work in a child that is killed before its ``at``-th touch of the disk; all touches, if it was not."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        touches: list[str] = []

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event in WRITES:
                touches.append(event)
                if len(touches) == at:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            work()
            os.write(write, " ".join(touches).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        told = pipe.read()
    return None if os.WIFSIGNALED(os.waitpid(child, 0)[1]) else told.split()


def shrunk(path: Path, smaller: ClipTable) -> Smaller:
    """What a run with ``--removed drop`` would make of what is there."""
    found = look(path)
    assert found is not None
    made = shrink(found, found[0], smaller.clip_id, renamed={}, batch_clips=4)
    assert made is not None
    return made


@pytest.mark.parametrize("format", ["zarr", pytest.param("hdf5", marks=pytest.mark.slow)])
@pytest.mark.parametrize("n_random", [1, pytest.param(24, marks=pytest.mark.slow)])
def test_a_kill_at_any_moment_leaves_one_of_the_two(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_random: int, format: layout.Format
) -> None:
    """In the middle, just before the two change places, and just after."""
    path = store(format=format)
    run(table(music), "fake/frames", format=format)
    whole, copy = digest(path), tmp_path / f"copy{path.suffix}"
    path.rename(copy)
    smaller = without(music, 0, 17)
    right = fresh_digest(smaller, monkeypatch, tmp_path)

    def begin() -> None:
        shutil.rmtree(path.parent)
        path.parent.mkdir()
        shutil.copytree(copy, path) if copy.is_dir() else shutil.copy(copy, path)

    begin()
    touches = killed(lambda: drop_clips(path, shrunk(path, smaller)), 0)
    assert touches is not None
    assert len(touches) > 50
    place = len(touches) - touches[::-1].index("ctypes.dlsym" if format == "zarr" else "os.rename")
    moments, seen = {place, place + 1, *np.random.default_rng(0).integers(1, len(touches), n_random).tolist()}, set()
    for at in moments:
        begin()
        assert killed(lambda: drop_clips(path, shrunk(path, smaller)), at) is None
        with open_store(path) as reader:
            seen.add(len(reader))
            assert not reader.meta.complete or reader.meta.content_digest == whole
        run(smaller, "fake/frames", format=format, removed="drop")
        assert digest(path) == right
        assert [place.name for place in path.parent.iterdir()] == [path.name]
    assert seen == ({N, N - 2} if format == "zarr" else {N})


def test_half_a_store_that_was_replaced_never_comes_back(music: Path) -> None:
    """A kill while the old store is removed, then the new one is removed by hand."""
    run(table(music), "fake/frames")
    copy, smaller = store().with_name("copy"), without(music, 0, 17)
    shutil.copytree(store(), copy)
    touches = killed(lambda: drop_clips(store(), shrunk(store(), smaller)), 0)
    assert touches is not None
    assert {*touches[-9:]} <= {"open", "os.remove", "os.rmdir", "os.listdir", "shutil.rmtree"}
    shutil.rmtree(store())
    copy.rename(store())
    assert killed(lambda: drop_clips(store(), shrunk(store(), smaller)), len(touches) - 3) is None
    assert len(list(store().parent.iterdir())) == 2
    shutil.rmtree(store())
    assert look(store()) is None
    settle(store())
    assert not store().exists()
    assert computed(smaller, "fake/frames")[0] == N - 2
    assert [place.name for place in store().parent.iterdir()] == ["frames.zarr"]


def test_without_an_exchange_in_one_step(music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two renames; a kill between them leaves the new store beside the place, and the next run puts it there."""
    run(table(music), "fake/frames")
    aside = store().with_name("frames.zarr.smaller")
    shutil.copytree(store(), aside)
    (aside / "new").touch()
    change_places(aside, store(), lambda one, other: False)
    assert (store() / "new").exists()
    assert [place.name for place in store().parent.iterdir()] == ["frames.zarr"]
    (store() / "new").unlink()

    smaller = without(music, 0, 17)
    store().rename(tmp_path / "old.zarr")
    shutil.copytree(tmp_path / "old.zarr", store())
    drop_clips(store(), shrunk(store(), smaller))
    store().rename(aside)
    found = look(store())
    assert found is not None
    assert (found[0].complete, len(found[1].clip_id)) == (False, N - 2)
    assert computed(smaller, "fake/frames")[0] <= 4
    assert digest(store()) == fresh_digest(smaller, monkeypatch, tmp_path)
    assert not aside.exists()


def test_folders_are_exchanged_in_one_step_where_the_system_can(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("neither Linux nor macOS, or a file system that cannot")
    assert [[path.name for path in (tmp_path / name).iterdir()] for name in ("a", "b")] == [["b"], ["a"]]
    assert not exchange(tmp_path / "a", tmp_path / "nothing")


def test_a_store_that_grows_keeps_clips_whose_audio_is_gone(music: Path) -> None:
    """Also those in its last, not full, batch, which is computed again."""
    n = N - 3
    for row in range(n, N):
        (music / f"{row:03d}.flac").unlink()
    run(table(music), "fake/frames")
    with open_store(store()) as reader:
        before = reader.read(np.array([n - 1]))
    (music / f"{n - 1:03d}.flac").unlink()
    (music / f"{n - 3:03d}.flac").rename(music / "renamed.flac")
    report = run(table(music), "fake/frames")
    assert (report.n_failed, report.n_done) == (0, n + 1)
    with open_store(store()) as reader:
        assert np.array_equal(reader.read(np.array([n - 1])), before)
