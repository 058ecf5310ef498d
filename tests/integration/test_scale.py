"""What must not grow with the square of the clips, and what must not be read again."""

from __future__ import annotations

import hashlib
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from extracting import ROOT, run, table_of, write_clips

from pipeline import layout
from pipeline.errors import StoreError
from pipeline.events import Event, TaskStarted
from pipeline.manifest.index import AudioIndex, Stamp
from pipeline.stores import example_meta, open_store, write_store
from pipeline.stores.digests import digest_clips, digest_content
from pipeline.stores.guard import TextBudget
from pipeline.stores.making.deriving import Derivation, descent, write_derived
from pipeline.stores.reader import ClipArrays, all_differ
from pipeline.stores.target import are_storable


def test_digests_of_many_clips_are_those_that_the_format_says() -> None:
    """Written down here once more, clip by clip, after docs/store-format.md."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((7, 3, 5)).astype(">f4")
    ids, failure = [f"clip \u00e9 {row}" for row in range(7)], ["", "", "absent: \u00fc", "", "short: x", "", ""]
    state, n_frames = np.array([1, 1, 2, 0, 1, 1, 1], np.uint8), np.array([3, 1, 0, 0, 2, 3, 0], np.int32)
    found = digest_clips(ids, state, failure, n_frames, features)
    for row in range(7):
        expected = hashlib.sha256()
        for text in (ids[row].encode(), failure[row].encode()):
            expected.update(len(text).to_bytes(8, "little") + text)
        expected.update(bytes([state[row]]) + int(n_frames[row]).to_bytes(8, "little"))
        expected.update(features[row, : n_frames[row]].astype("<f4").tobytes())
        assert found[row].tobytes() == expected.digest(), row
    assert digest_clips([], state[:0], [], n_frames[:0], features[:0]).shape == (0, 32)
    assert digest_clips(["a"], state[:1], [""], np.array([-1]), features[:1]).shape == (1, 32)


def test_content_is_digested_in_the_order_of_the_ids_bytes() -> None:
    ids = ["b", "\U0001f3b5", "a", "\uffee", "aa", ""]
    digests = np.random.default_rng(0).integers(0, 256, (len(ids), 32), np.uint8)
    order = sorted(range(len(ids)), key=lambda row: ids[row].encode())
    assert digest_content(ids, digests) == hashlib.sha256(digests[order].tobytes()).hexdigest()
    half = ["b", "\udc80", "\U0001f3b5"]  # a damaged store may hold half a character
    order = sorted(range(3), key=lambda row: half[row].encode("utf-8", "surrogateescape"))
    assert digest_content(half, digests[:3]) == hashlib.sha256(digests[order].tobytes()).hexdigest()


def test_ids_that_stand_twice_are_found() -> None:
    assert all_differ([f"{row}" for row in range(1000)])
    assert not all_differ([*map(str, range(1000)), "7"])
    assert all_differ([])
    budget = TextBudget("here", "clip_id", 6, unique=True)
    budget.add(["a", "b"])
    with pytest.raises(StoreError, match=r"stand twice"):
        budget.add(["c", "c"])
    with pytest.raises(StoreError, match=r"stand twice"):
        budget.add(["a", "b"])
    with pytest.raises(StoreError, match=r"no text"):
        budget.add([b"c"])  # type: ignore[list-item]


@pytest.mark.parametrize("odd", ["", "a\0b", "\ud800", "x" * 70_000])
def test_ids_that_no_store_can_keep_are_seen_among_many(odd: str) -> None:
    assert are_storable(["a", "\u00e9"])
    assert not are_storable(["a", odd, "b"])


def test_an_unfinished_or_damaged_id_in_the_middle_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"the clip_id 'a\\x00b' is not text"):
        write_store(tmp_path / "a.zarr", meta=example_meta(), clip_id=["a", "a\0b"], features=np.zeros((2, 3, 4)),
                    n_frames=np.full(2, 3))  # fmt: skip


def test_memory_of_a_derived_store_does_not_grow_with_shards_times_clips(tmp_path: Path) -> None:
    """A million clips once took 30 GB here: each shard's rows held the numbers of all rows."""
    n = 6_000
    meta = example_meta(frames=1, channels=2, dtype="float16", chunk_clips=4, shard_clips=16)
    arrays = ClipArrays.pending(np.array([f"{row:05d}" for row in range(n)], object))
    arrays.state[:], arrays.n_frames[:] = 1, 1
    with open_store(_tiny(tmp_path, meta)) as source:
        new = example_meta(**{**vars(meta), "fingerprint": "", "derived": descent("subset", source)})
    tracemalloc.start()
    try:
        write_derived(tmp_path / "b.zarr", Derivation(new, arrays, lambda rows: np.ones((len(rows), 1, 2), np.float16)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < n // 16 * n * 8 / 2
    with open_store(tmp_path / "b.zarr") as reader:
        assert (reader.read(np.arange(n)) == 1).all()


def _tiny(folder: Path, meta: object) -> Path:
    features = np.ones((1, 1, 2), np.float32)
    write_store(folder / "a.zarr", meta=meta, clip_id=["a"], features=features, n_frames=np.ones(1))  # type: ignore[arg-type]
    return folder / "a.zarr"


def test_a_dry_run_reads_no_audio_that_the_index_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EAST_PLUGINS", "plugins")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    music = table_of(write_clips(tmp_path / "music", 6), tmp_path / "music")
    run(music, "fake")
    index, events = layout.index_path("tiny"), list[Event]()
    before = index.read_bytes()
    for path in (tmp_path / "music").iterdir():
        stamp = path.stat()
        path.write_bytes(path.read_bytes()[::-1])  # only who reads it can see it
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    report = run(music, "fake", dry_run=True, listener=events.append)
    assert report.plan.startswith("0 clips")
    assert not [event for event in events if isinstance(event, TaskStarted)]
    assert index.read_bytes() == before
    shutil.rmtree(tmp_path / "home" / "tiny" / "stores")
    run(music, "fake", dry_run=True)
    assert not (tmp_path / "home" / "tiny" / "stores").exists()


def test_an_index_that_is_only_read_learns_in_memory(tmp_path: Path) -> None:
    old, new = Stamp(1, 2), Stamp(3, 4)
    with AudioIndex(tmp_path / "a.sqlite") as index:
        index.remember([("old", old, bytes(32))])
    before = (tmp_path / "a.sqlite").read_bytes()
    with AudioIndex(tmp_path / "a.sqlite", read_only=True) as index:
        index.remember([("new", new, b"1" * 32)], [((b"1", 0.0, 1.0), b"2" * 32)])
        assert index.file_digests({"old": old, "new": new}) == {"old": bytes(32), "new": b"1" * 32}
        assert index.samples_digests([(b"1", 0.0, 1.0)]) == {(b"1", 0.0, 1.0): b"2" * 32}
    assert (tmp_path / "a.sqlite").read_bytes() == before
    with AudioIndex(tmp_path / "none.sqlite", read_only=True) as index:
        index.remember([("new", new, b"1" * 32)])
        assert index.file_digests({"new": new})
    assert not (tmp_path / "none.sqlite").exists()
