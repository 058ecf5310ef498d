"""Stores on a server that speaks S3's API: push, pull, cuts, catalogue, reuse, and what goes wrong."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from servers import S3, Wire, s3_server, wire_to

from pipeline.errors import MissingExtraError, StoreError
from pipeline.stores import StoreMeta, example_meta, open_store, write_store
from pipeline.stores.remote import CACHE_VARIABLE
from pipeline.stores.sharing import places, remotes
from pipeline.stores.sharing.pull import pull_store
from pipeline.stores.sharing.push import push_store

s3fs = pytest.importorskip("s3fs")
N = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def s3(server: S3, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a new bucket; clients find the server by the usual variables."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(places, "PAUSE_S", 0.01)
    monkeypatch.setattr(remotes, "_CLIENT_TRIES", 1)
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    s3fs.S3FileSystem().mkdir(bucket)
    yield f"s3://{bucket}"
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def wire(s3: str, server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    with wire_to(server.port) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        s3fs.S3FileSystem.clear_instance_cache()
        yield wire


def make(path: Path, seed: int = 0, *, frames: int = 3, **changes: object) -> StoreMeta:
    features = np.random.default_rng(seed).standard_normal((N, frames, 4)).astype(np.float32)
    return write_store(
        path,
        meta=example_meta(frames=frames, clip_s=float(frames), **changes),
        clip_id=[f"c{row}" for row in range(N)],
        features=features,
        n_frames=np.full(N, frames),
    )


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def of_shard(requests: list[str], method: str) -> list[str]:
    return [line for line in requests if line.startswith(method) and "/features/c." in line]


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_there_and_back_is_the_same(tmp_path: Path, s3: str, server: S3, suffix: str) -> None:
    source, mine = tmp_path / f"s{suffix}", tmp_path / f"mine{suffix}"
    make(source)
    before = len(server.requests())
    address = push_store(source, f"{s3}/stores")
    assert address == f"{s3}/stores/example/features{suffix}"
    sent = [line for line in server.requests()[before:] if line.startswith("PUT")]
    assert "catalogue.json" in sent[-1]
    assert sent[-2].endswith("/features.zarr/zarr.json 200" if suffix == ".zarr" else "/features.h5 200")
    pull_store(address, mine)
    if suffix == ".zarr":
        assert files_of(mine) == files_of(source)
    else:
        assert mine.read_bytes() == source.read_bytes()


def test_pushed_again_nothing_travels(tmp_path: Path, s3: str, wire: Wire, server: S3) -> None:
    make(tmp_path / "s.zarr", frames=3000)
    push_store(tmp_path / "s.zarr", s3)
    n_bytes = sum(map(len, files_of(tmp_path / "s.zarr").values()))
    assert wire.up > n_bytes
    assert wire.down < 0.1 * n_bytes
    wire.mend()
    before = len(server.requests())
    push_store(tmp_path / "s.zarr", s3)
    assert wire.up + wire.down < 0.1 * n_bytes
    again = server.requests()[before:]
    assert not [line for line in again if line.startswith("PUT") and "catalogue" not in line]
    assert not of_shard(again, "GET")


def test_a_push_that_is_cut_goes_on_and_is_not_taken_for_whole(tmp_path: Path, s3: str, wire: Wire, server: S3) -> None:
    make(tmp_path / "s.zarr", frames=6000)
    n_bytes = sum(map(len, files_of(tmp_path / "s.zarr").values()))
    wire.cut_up = n_bytes * 6 // 10
    with pytest.raises(StoreError, match=r"features\.zarr/.*What came is kept; the same command goes on"):
        push_store(tmp_path / "s.zarr", f"{s3}/stores")
    wire.mend()
    for read in (open_store, lambda address: pull_store(address, tmp_path / "mine.zarr")):
        with pytest.raises(StoreError, match=r"holds no finished store|cannot be opened"):
            read(f"{s3}/stores/example/features.zarr")
    wire.mend()
    before = len(server.requests())
    push_store(tmp_path / "s.zarr", f"{s3}/stores")
    assert 0 < len(of_shard(server.requests()[before:], "PUT")) < 3
    assert wire.up < 0.8 * n_bytes
    pull_store(f"{s3}/stores/example/features.zarr", tmp_path / "mine.zarr")
    assert files_of(tmp_path / "mine.zarr") == files_of(tmp_path / "s.zarr")


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_a_pull_that_is_cut_goes_on(
    tmp_path: Path, s3: str, wire: Wire, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(remotes, "_REQUEST", 1 << 16)
    make(tmp_path / f"s{suffix}", frames=6000)
    address = push_store(tmp_path / f"s{suffix}", s3)
    path = tmp_path / f"s{suffix}"
    n_bytes = path.stat().st_size if path.is_file() else sum(map(len, files_of(path).values()))
    wire.mend()
    wire.cut_down = n_bytes * 7 // 10
    with pytest.raises(StoreError, match=r"What came is kept; the same command goes on"):
        pull_store(address, tmp_path / f"mine{suffix}")
    assert not (tmp_path / f"mine{suffix}").exists()
    wire.mend()
    pull_store(address, tmp_path / f"mine{suffix}")
    assert wire.down < 0.6 * n_bytes
    with open_store(tmp_path / f"mine{suffix}") as mine, open_store(path) as source:
        assert mine.meta.content_digest == source.meta.content_digest


def test_large_files_go_in_parts_and_are_known_by_their_tag(
    tmp_path: Path, s3: str, server: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remotes, "_PART", 5 << 20)
    make(tmp_path / "s.h5", frames=20_000)
    assert (tmp_path / "s.h5").stat().st_size > 2 * (5 << 20)
    before = len(server.requests())
    address = push_store(tmp_path / "s.h5", s3)
    parts = [line for line in server.requests()[before:] if "partNumber" in line]
    assert len(parts) >= 3
    before = len(server.requests())
    push_store(tmp_path / "s.h5", s3)
    assert not [line for line in server.requests()[before:] if "features.h5" in line and not line.startswith("HEAD")]
    assert pull_store(address, tmp_path / "mine.h5").meta.complete


def test_replaced_and_nothing_beside_it_is_touched(tmp_path: Path, s3: str) -> None:
    make(tmp_path / "s.zarr")
    make(tmp_path / "other.zarr", seed=1, shard_clips=64)
    push_store(tmp_path / "s.zarr", f"{s3}/a.zarr")
    push_store(tmp_path / "s.zarr", f"{s3}/a.zarr2.zarr")
    with pytest.raises(StoreError, match=r"a\.zarr holds another store already.*--replace"):
        push_store(tmp_path / "other.zarr", f"{s3}/a.zarr")
    push_store(tmp_path / "other.zarr", f"{s3}/a.zarr", replace=True)
    pull_store(f"{s3}/a.zarr", tmp_path / "one.zarr")
    pull_store(f"{s3}/a.zarr2.zarr", tmp_path / "two.zarr")
    assert files_of(tmp_path / "one.zarr") == files_of(tmp_path / "other.zarr")
    assert files_of(tmp_path / "two.zarr") == files_of(tmp_path / "s.zarr")


def test_what_goes_wrong_is_said_in_words(tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "s.zarr")
    address = push_store(tmp_path / "s.zarr", s3)
    for act in (push_store, lambda _, url: pull_store(url, tmp_path / "m.zarr")):
        with pytest.raises(StoreError, match=r"no-such-bucket.*: there is no such bucket\. Make it first"):
            act(tmp_path / "s.zarr", "s3://no-such-bucket/x.zarr")
    assert not s3fs.S3FileSystem().exists("no-such-bucket")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    s3fs.S3FileSystem.clear_instance_cache()
    for act in (push_store, lambda _, url: pull_store(url, tmp_path / "m.zarr"), lambda _, url: open_store(url)):
        with pytest.raises(StoreError, match=r"no usable credentials.*AWS_ACCESS_KEY_ID.*AWS_ENDPOINT_URL"):
            act(tmp_path / "s.zarr", address)


def test_without_s3fs_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "s.zarr")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for act in (push_store, lambda _, url: pull_store(url, tmp_path / "m.zarr"), lambda _, url: open_store(url)):
        with pytest.raises(MissingExtraError, match=r"s3fs is not installed.*east-music\[s3\]"):
            act(tmp_path / "s.zarr", "s3://bucket/x.zarr")
