"""Stores on a server that speaks S3's API: push, pull, cuts, catalogue, reuse, and what goes wrong."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from extracting import ROOT, run, table_of, write_clips
from safetensors.torch import load_file
from servers import S3, Wire, forget_s3_clients, s3_server, wire_to

sys.path.insert(0, str(Path(__file__).parent))

from synthetic import make_dataset

import cli
from pipeline import layout
from pipeline.distillation.settings import TrainSettings
from pipeline.distillation.trainer import train
from pipeline.errors import MissingExtraError, StoreError
from pipeline.stores import StoreMeta, example_meta, open_store, write_store
from pipeline.stores.remote import CACHE_VARIABLE
from pipeline.stores.sharing import places, remotes
from pipeline.stores.sharing.catalogue import add_entry, read_catalogue
from pipeline.stores.sharing.ls import list_place
from pipeline.stores.sharing.places import find_place
from pipeline.stores.sharing.pull import pull_store
from pipeline.stores.sharing.push import push_store

s3fs = pytest.importorskip("s3fs")
N = 40
#: In one worker of pytest-xdist, so that one server is started.
pytestmark = pytest.mark.xdist_group("s3")


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
    forget_s3_clients()
    bucket = re.sub("[^a-z0-9]+", "-", request.node.name.lower())[:60].strip("-")
    s3fs.S3FileSystem().mkdir(bucket)
    yield f"s3://{bucket}"
    forget_s3_clients()


@pytest.fixture
def wire(s3: str, server: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    with wire_to(server.port) as wire:
        monkeypatch.setenv("AWS_ENDPOINT_URL", wire.url)
        forget_s3_clients()
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
    make(tmp_path / "s.zarr", frames=3000, shard_clips=4)
    n_bytes = sum(map(len, files_of(tmp_path / "s.zarr").values()))
    wire.cut_up = n_bytes * 6 // 10
    before = len(server.requests())
    with pytest.raises(StoreError, match=r"features\.zarr/.*What came is kept; the same command goes on"):
        push_store(tmp_path / "s.zarr", f"{s3}/stores")
    first = [line for line in of_shard(server.requests()[before:], "PUT") if line.endswith(" 200")]
    wire.mend()
    for read in (open_store, lambda address: pull_store(address, tmp_path / "mine.zarr")):
        with pytest.raises(StoreError, match=r"holds no finished store|cannot be opened"):
            read(f"{s3}/stores/example/features.zarr")
    wire.mend()
    before = len(server.requests())
    push_store(tmp_path / "s.zarr", f"{s3}/stores")
    second = of_shard(server.requests()[before:], "PUT")
    assert len(first) > 1
    assert not set(first) & set(second)
    assert len(first) + len(second) == N / 4
    assert wire.up < n_bytes * (len(second) + 1) / 10
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
    forget_s3_clients()
    for act in (push_store, lambda _, url: pull_store(url, tmp_path / "m.zarr"), lambda _, url: open_store(url)):
        with pytest.raises(StoreError, match=r"no usable credentials.*AWS_ACCESS_KEY_ID.*AWS_ENDPOINT_URL"):
            act(tmp_path / "s.zarr", address)


def test_without_s3fs_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "s.zarr")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for act in (push_store, lambda _, url: pull_store(url, tmp_path / "m.zarr"), lambda _, url: open_store(url)):
        with pytest.raises(MissingExtraError, match=r"s3fs is not installed.*east-music\[s3\]"):
            act(tmp_path / "s.zarr", "s3://bucket/x.zarr")


def test_catalogue_list_and_many_writers(s3: str, tmp_path: Path) -> None:
    """The server refuses a catalogue that was read before another writer came."""
    make(tmp_path / "s.zarr")
    push_store(tmp_path / "s.zarr", s3)
    (first,) = read_catalogue(find_place(s3)) or ()
    entries = [dataclasses.replace(first, path=f"{number}.zarr") for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda entry: add_entry(find_place(s3), entry), entries))
    assert len(read_catalogue(find_place(s3)) or ()) == 9
    s3fs.S3FileSystem().rm(f"{s3}/catalogue.json")
    listing = list_place(s3)
    assert not listing.catalogue
    assert [(path, entry and entry.clips) for path, entry, _ in listing.stores] == [("example/features.zarr", N)]


def test_looked_at_and_read_in_place(s3: str, tmp_path: Path) -> None:
    make(tmp_path / "s.zarr")
    address = push_store(tmp_path / "s.zarr", s3)
    done = CliRunner().invoke(cli.east, ["store", "info", address], obj={})
    assert f"clips                      {N}" in done.stdout
    with open_store(address) as there, open_store(tmp_path / "s.zarr") as here:
        rows = np.array([33, 1, 2])
        np.testing.assert_array_equal(there.read(rows), here.read(rows))


def test_extraction_takes_features_from_a_bucket(
    s3: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EAST_WEIGHTS", str(tmp_path_factory.getbasetemp() / "weights"))
    monkeypatch.setenv("EAST_PLUGINS", "plugins")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    paths = write_clips(tmp_path / "music", 4)
    theirs, mine = (table_of(paths, tmp_path / "music", name=name) for name in ("theirs", "mine"))
    run(theirs, "fake/frames", preflight=False)
    push_store(layout.store_path("theirs", "fake", "frames"), s3)
    report = run(mine, "fake/frames", reuse=(s3,), preflight=False)
    assert "copied, not computed: fake/frames 4 clips" in report.plan
    with (
        open_store(layout.store_path("mine", "fake", "frames")) as copied,
        open_store(layout.store_path("theirs", "fake", "frames")) as computed,
    ):
        assert copied.meta.content_digest == computed.meta.content_digest
    with pytest.raises(
        StoreError, match=r"(?s)no store there was made with the settings of this run.*fake/frames\.zarr"
    ):
        run(mine, "fake/clip", reuse=(s3,), preflight=False)


def test_training_reads_object_storage_in_place(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path / "home"))
    make_dataset(tmp_path / "home")
    store = layout.store_path("tiny", "teach", "clip")
    address = push_store(store, s3)
    weights = []
    for name, path in (("here", str(store)), ("there", address)):
        about = TrainSettings(
            data="tiny", store=(path,), steps=4, batch=16, labelled=24, device="cpu", validate_every=2, name=name
        )
        weights.append(load_file(train(about) / "student.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
