"""Stores that follow their audio: changed, renamed, added; and features taken from other stores."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import badfiles
import numpy as np
import pytest
import soundfile as sf
from extracting import CLIP_S, ROOT, run, table_of, write_clips

from pipeline import layout
from pipeline.errors import StoreError
from pipeline.events import Event, TaskStarted
from pipeline.manifest import ClipTable
from pipeline.stores import open_store
from pipeline.stores.shards import write_shard

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


def fresh_digest(table: ClipTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    with monkeypatch.context() as patch:
        patch.setenv("EAST_HOME", str(tmp_path / "fresh"))
        run(table, "fake/frames")
        return digest(store())


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
    run(table(music, "theirs"), "fake-drift/frames")
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
