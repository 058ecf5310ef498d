"""Reading a store in place: from web servers with and without byte ranges, and from object storage."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from servers import Web, s3_server, web_server

from pipeline.errors import StoreError
from pipeline.stores import example_meta, open_store, write_store
from pipeline.stores.remote import CACHE_VARIABLE

CHUNK, SHARD, FRAMES, CHANNELS, N = 2, 16, 3, 4, 40
CHUNK_BYTES = CHUNK * FRAMES * CHANNELS * 4 + 4
TAIL_BYTES = SHARD // CHUNK * 16 + 4
SHARD_BYTES = SHARD // CHUNK * CHUNK_BYTES + TAIL_BYTES


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    with web_server(tmp_path / "shared") as server:
        yield server


def make(path: Path, seed: int = 0) -> np.ndarray:
    features = np.random.default_rng(seed).standard_normal((N, FRAMES, CHANNELS)).astype(np.float32)
    meta = example_meta(frames=FRAMES, channels=CHANNELS, dtype="float32", chunk_clips=CHUNK, shard_clips=SHARD)
    ids = [f"c{i}" for i in range(N)]
    write_store(path, meta=meta, clip_id=ids, features=features, n_frames=np.full(N, FRAMES))
    return features


def sent_of_shards(web: Web) -> dict[str, int]:
    """Bytes by shard of ``features``; the chunks of other arrays have shorter names."""
    return {name: n for name, n in web.sent.items() if name.startswith("c.") and name.endswith(".0.0")}


def spoil(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_only_the_chunks_of_the_rows_travel(web: Web) -> None:
    features = make(web.folder / "a.zarr")
    with open_store(f"{web.url}/a.zarr") as reader:
        rows = np.array([33, 1, 0, 33])
        np.testing.assert_array_equal(reader.read(rows), features[rows])
        right = {"c.0.0.0": TAIL_BYTES + CHUNK_BYTES, "c.2.0.0": TAIL_BYTES + CHUNK_BYTES}
        assert sent_of_shards(web) == right
        np.testing.assert_array_equal(reader.read(rows), features[rows])
        assert sent_of_shards(web) == right
        np.testing.assert_array_equal(reader.read(np.arange(4)), features[:4])
        assert sent_of_shards(web) == right | {"c.0.0.0": TAIL_BYTES + 2 * CHUNK_BYTES}


def test_most_of_a_shard_is_fetched_at_once(web: Web) -> None:
    features = make(web.folder / "a.zarr")
    with open_store(f"{web.url}/a.zarr") as reader:
        np.testing.assert_array_equal(reader.read(np.arange(0, 12)), features[:12])
    assert sent_of_shards(web) == {"c.0.0.0": SHARD_BYTES}
    assert web.asked.count("c.0.0.0") == 1


@pytest.mark.parametrize(("ranges", "tell_size"), [(False, True), (True, False), (False, False)])
def test_servers_that_give_whole_files_only(web: Web, ranges: bool, tell_size: bool) -> None:
    features = make(web.folder / "a.zarr")
    web.ranges, web.tell_size = ranges, tell_size
    with open_store(f"{web.url}/a.zarr") as reader:
        rows = np.array([33, 1])
        np.testing.assert_array_equal(reader.read(rows), features[rows])


def test_second_reader_uses_the_cache(web: Web) -> None:
    features = make(web.folder / "a.zarr")
    for _ in range(2):
        with open_store(f"{web.url}/a.zarr") as reader:
            np.testing.assert_array_equal(reader.read(np.array([5])), features[5:6])
            np.testing.assert_array_equal(reader.read(np.arange(N)), features)
    assert sum(sent_of_shards(web).values()) <= 2 * SHARD_BYTES + SHARD_BYTES // 2 + 2 * TAIL_BYTES


def test_a_store_that_changed_at_its_address_is_fetched_anew(web: Web) -> None:
    make(web.folder / "a.zarr")
    with open_store(f"{web.url}/a.zarr") as reader:
        reader.read(np.arange(N))
    (web.folder / "a.zarr").rename(web.folder / "old.zarr")
    other = example_meta(frames=FRAMES, channels=CHANNELS, dtype="float32", chunk_clips=CHUNK, shard_clips=SHARD)
    write_store(
        web.folder / "a.zarr",
        meta=other,
        clip_id=["c0"],
        features=np.ones((1, FRAMES, CHANNELS), np.float32),
        n_frames=np.array([FRAMES]),
    )
    with open_store(f"{web.url}/a.zarr") as reader:
        assert (reader.read(np.array([0])) == 1).all()


@pytest.mark.parametrize("rows", [np.array([0]), np.arange(16)])
def test_damage_on_the_way_is_noticed_and_not_kept(web: Web, rows: np.ndarray) -> None:
    features = make(web.folder / "a.zarr")
    shard = web.folder / "a.zarr/features/c.0.0.0"
    spoil(shard, 5)
    with open_store(f"{web.url}/a.zarr") as reader, pytest.raises(StoreError, match=r"checksum of chunk 0"):
        reader.read(rows)
    spoil(shard, 5)
    with open_store(f"{web.url}/a.zarr") as reader:
        np.testing.assert_array_equal(reader.read(rows), features[rows])


@pytest.mark.parametrize("rows", [np.array([0]), np.arange(16)])
def test_a_damaged_index_is_noticed_and_not_kept(web: Web, rows: np.ndarray) -> None:
    features = make(web.folder / "a.zarr")
    shard = web.folder / "a.zarr/features/c.0.0.0"
    spoil(shard, SHARD_BYTES - 7)
    with open_store(f"{web.url}/a.zarr") as reader:
        with pytest.raises(StoreError, match=r"checksum of the shard's index"):
            reader.read(rows)
        spoil(shard, SHARD_BYTES - 7)
        np.testing.assert_array_equal(reader.read(rows), features[rows])


def test_what_is_there_is_not_overwritten_by_what_comes_with_its_neighbours(web: Web) -> None:
    features = make(web.folder / "a.zarr")
    with open_store(f"{web.url}/a.zarr") as reader:
        np.testing.assert_array_equal(reader.read(np.array([2])), features[2:3])
        spoil(web.folder / "a.zarr/features/c.0.0.0", CHUNK_BYTES + 3)
        rows = np.array([0, 4, 2])
        np.testing.assert_array_equal(reader.read(rows), features[rows])


def test_a_store_that_is_replaced_while_it_is_read(web: Web) -> None:
    """Its rows are other clips: an error, and nothing of it stays in the cache."""
    features = make(web.folder / "a.zarr")
    make(web.folder / "b.zarr", seed=1)
    with open_store(f"{web.url}/a.zarr") as reader:
        np.testing.assert_array_equal(reader.read(np.array([0])), features[:1])
        (web.folder / "a.zarr").rename(web.folder / "old.zarr")
        (web.folder / "b.zarr").rename(web.folder / "a.zarr")
        for rows in (np.array([20]), np.arange(16, 32), np.array([2])):
            with pytest.raises(StoreError, match=r"was replaced at its address since it was opened, or is damaged"):
                reader.read(rows)
    (web.folder / "a.zarr").rename(web.folder / "b.zarr")
    (web.folder / "old.zarr").rename(web.folder / "a.zarr")
    with open_store(f"{web.url}/a.zarr") as reader:
        np.testing.assert_array_equal(reader.read(np.arange(N)), features)


def test_two_readers_fill_one_cache(web: Web) -> None:
    features = make(web.folder / "a.zarr")
    with open_store(f"{web.url}/a.zarr") as first, open_store(f"{web.url}/a.zarr") as second:
        np.testing.assert_array_equal(first.read(np.array([0])), features[:1])
        for path in Path(os.environ[CACHE_VARIABLE]).rglob("c.0.0.0"):
            path.unlink()
        np.testing.assert_array_equal(second.read(np.array([4])), features[4:5])
        rows = np.array([0, 6, 5, 13])
        np.testing.assert_array_equal(first.read(rows), features[rows])
        np.testing.assert_array_equal(second.read(rows), features[rows])


@pytest.mark.parametrize("rows", [np.array([0]), np.arange(16)])
def test_a_shard_that_is_too_long_is_refused(web: Web, rows: np.ndarray) -> None:
    make(web.folder / "a.zarr")
    with (web.folder / "a.zarr/features/c.0.0.0").open("ab") as shard:
        shard.write(b"0" * 1000)
    with open_store(f"{web.url}/a.zarr") as reader, pytest.raises(StoreError, match=r"at most \d+: damaged or forged"):
        reader.read(rows)


@pytest.mark.parametrize("remote", [True, False])
def test_a_missing_shard_does_not_read_as_zeros(web: Web, remote: bool) -> None:
    features = make(web.folder / "a.zarr")
    (web.folder / "a.zarr/features/c.1.0.0").unlink()
    path = f"{web.url}/a.zarr" if remote else str(web.folder / "a.zarr")
    with open_store(path) as reader:
        np.testing.assert_array_equal(reader.read(np.array([3])), features[3:4])
        with pytest.raises(StoreError, match=r"c\.1\.0\.0 is missing, but its clips are said to be done"):
            reader.read(np.array([20]))


def test_a_connection_that_is_cut_goes_on(web: Web) -> None:
    features = make(web.folder / "a.zarr")
    web.cuts["c.0.0.0"] = [20, 50]
    with open_store(f"{web.url}/a.zarr") as reader:
        np.testing.assert_array_equal(reader.read(np.array([3])), features[3:4])


def test_a_forked_reader_has_a_connection_of_its_own(web: Web) -> None:
    """In a process of its own: forking one that has threads is what pytest must not do."""
    features = make(web.folder / "a.zarr")
    np.save(web.folder / "right.npy", features)
    code = (
        "import os, sys, numpy as np; from pipeline.stores import open_store\n"
        "reader, right = open_store(sys.argv[1]), np.load(sys.argv[2])\n"
        "assert (reader.read(np.array([0])) == right[:1]).all()\n"
        "child = os.fork()\n"
        "if not child: os._exit(0 if (reader.read(np.arange(40)) == right).all() else 1)\n"
        "sys.exit(os.waitpid(child, 0)[1])\n"
    )
    call = [sys.executable, "-c", code, f"{web.url}/a.zarr", str(web.folder / "right.npy")]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_there(web: Web) -> None:
    with pytest.raises(StoreError, match=r"none\.zarr cannot be opened"):
        open_store(f"{web.url}/none.zarr")


def test_a_cache_that_cannot_be_written(web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make(web.folder / "a.zarr")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    with (
        open_store(f"{web.url}/a.zarr") as reader,
        pytest.raises(StoreError, match=f"cannot be kept in .*{CACHE_VARIABLE} names another place"),
    ):
        reader.read(np.array([0]))


def test_object_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = make(tmp_path / "a.zarr")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    with s3_server(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        files = fsspec.filesystem("s3")
        files.mkdir("stores")
        files.put(f"{tmp_path}/a.zarr", "stores/a.zarr", recursive=True)
        with open_store("s3://stores/a.zarr") as reader:
            rows = np.array([33, 1])
            np.testing.assert_array_equal(reader.read(rows), features[rows])
            kept = sorted(path.name for path in (tmp_path / "cache").rglob("c.*.0.0"))
            assert kept == ["c.0.0.0", "c.2.0.0"]
            np.testing.assert_array_equal(reader.read(np.arange(N)), features)
