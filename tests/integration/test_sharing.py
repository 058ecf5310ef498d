"""Stores pushed to folders and pulled from folders and web servers; cuts, damage, forged lists."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import filelock
import numpy as np
import pytest
from click.testing import CliRunner
from servers import Web, web_server

import cli
from pipeline.errors import StoreError
from pipeline.events import Event, TaskAdvanced, TaskStarted
from pipeline.stores import StoreMeta, example_meta, open_store, write_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.sharing import places, pull
from pipeline.stores.sharing.pull import pull_store
from pipeline.stores.sharing.push import push_store

N = 40
#: How names of drafts begin and end: whole, and growing.
DRAFTS = ((".", ""), ("..", ".part"))


def make(path: Path, seed: int = 0) -> StoreMeta:
    features = np.random.default_rng(seed).standard_normal((N, 3, 4)).astype(np.float32)
    return write_store(
        path, meta=example_meta(), clip_id=[f"c{row}" for row in range(N)], features=features, n_frames=np.full(N, 3)
    )


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setattr(places, "PAUSE_S", 0.01)
    with web_server(tmp_path / "web") as web:
        yield web


def test_pushed_then_pulled_from_the_web(tmp_path: Path, web: Web) -> None:
    url, folder = web.url, web.folder
    meta = make(tmp_path / "s.zarr")
    assert push_store(tmp_path / "s.zarr", str(folder)) == f"{folder}/example/features.zarr"
    pulled = pull_store(f"{url}/example/features.zarr", tmp_path / "mine.zarr")
    assert pulled.meta.content_digest == meta.content_digest
    files = {path.relative_to(tmp_path / "s.zarr") for path in (tmp_path / "s.zarr").rglob("*")}
    assert files == {path.relative_to(tmp_path / "mine.zarr") for path in (tmp_path / "mine.zarr").rglob("*")}
    with open_store(tmp_path / "s.zarr") as left, open_store(tmp_path / "mine.zarr") as right:
        assert np.array_equal(left.read(np.arange(N)), right.read(np.arange(N)))


def test_pull_goes_on_at_the_byte_where_it_was_cut(tmp_path: Path, web: Web) -> None:
    make(web.folder / "s.zarr")
    size = (web.folder / "s.zarr/features/c.2.0.0").stat().st_size
    web.cuts["c.2.0.0"] = [100, 0, 0, 0, 0, 0]
    with pytest.raises(StoreError, match=r"c\.2\.0\.0: .*What came is kept; the same command goes on"):
        pull_store(f"{web.url}/s.zarr", tmp_path / "mine.zarr")
    assert not (tmp_path / "mine.zarr").exists()
    assert web.asked.count("c.2.0.0") == places.TRIES
    web.cuts.clear()
    web.asked.clear()
    web.starts.clear()
    pull_store(f"{web.url}/s.zarr", tmp_path / "mine.zarr")
    assert "c.0.0.0" not in web.asked
    assert web.starts[web.asked.index("c.2.0.0")] == 100
    assert web.sent["c.2.0.0"] == size
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_many_cuts_are_survived_as_long_as_something_comes(tmp_path: Path, web: Web) -> None:
    """Also by a server that knows no ranges, if it once sends the whole file."""
    make(web.folder / "s.zarr")
    web.cuts["c.1.0.0"] = [80] * 10
    pull_store(f"{web.url}/s.zarr", tmp_path / "mine.zarr")
    assert web.asked.count("c.1.0.0") == 11
    web.ranges = False
    web.cuts["c.1.0.0"] = [200, 100]
    pull_store(f"{web.url}/s.zarr", tmp_path / "again.zarr")
    assert not verify_store(tmp_path / "again.zarr", VerifyOptions()).findings


def test_a_draft_that_is_whole_already_is_fetched_anew_where_sizes_are_not_told(tmp_path: Path, web: Web) -> None:
    """The server answers 416: there is nothing behind the last byte."""
    make(web.folder / "s.zarr")
    web.tell_size = False
    part = tmp_path / ".mine.zarr.pull/features/.c.1.0.0.part"
    part.parent.mkdir(parents=True)
    shutil.copy(web.folder / "s.zarr/features/c.1.0.0", part)
    pull_store(f"{web.url}/s.zarr", tmp_path / "mine.zarr")
    assert (web.folder / "s.zarr/features/c.1.0.0").stat().st_size in web.starts
    assert web.asked.count("c.1.0.0") == 3  # its size, behind its end, whole
    assert not verify_store(tmp_path / "mine.zarr", VerifyOptions()).findings


def test_what_changed_between_two_tries_is_fetched_anew(tmp_path: Path, web: Web) -> None:
    make(web.folder / "s.zarr")
    web.cuts["c.1.0.0"] = [100, 0, 0, 0, 0, 0]
    with pytest.raises(StoreError, match=r"c\.1\.0\.0: "):
        pull_store(f"{web.url}/s.zarr", tmp_path / "mine.zarr")
    web.cuts.clear()
    shutil.rmtree(web.folder / "s.zarr")
    meta = make(web.folder / "s.zarr", seed=1)
    assert pull_store(f"{web.url}/s.zarr", tmp_path / "mine.zarr").meta.content_digest == meta.content_digest
    assert not verify_store(tmp_path / "mine.zarr", VerifyOptions()).findings


def test_damage_and_forged_names_are_refused(tmp_path: Path, web: Web) -> None:
    url, folder = web.url, web.folder
    make(folder / "s.zarr")
    shard = folder / "s.zarr/features/c.1.0.0"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreError, match=r"c\.1\.0\.0 does not have its digest"):
        pull_store(f"{url}/s.zarr", tmp_path / "mine.zarr")
    listed = folder / "s.zarr/features/SHA256SUMS"
    listed.write_text(listed.read_text() + f"{'0' * 64}  ../../outside\n")
    with pytest.raises(StoreError, match=r"lists .*outside.*, which is no file inside the store"):
        pull_store(f"{url}/s.zarr", tmp_path / "other.zarr")
    with pytest.raises(StoreError, match=r"holds no finished store: it has no zarr\.json"):
        pull_store(f"{url}/none.zarr", tmp_path / "other.zarr")


def test_push_again_sends_nothing_and_never_mixes(tmp_path: Path) -> None:
    make(tmp_path / "s.zarr")
    place = Path(push_store(tmp_path / "s.zarr", str(tmp_path / "shared")))
    before = {path: path.stat().st_ino for path in place.rglob("*")}
    push_store(tmp_path / "s.zarr", str(tmp_path / "shared"))
    assert {path: path.stat().st_ino for path in place.rglob("*")} == before
    other = make(tmp_path / "other.zarr", seed=1)
    with pytest.raises(StoreError, match=r"holds another store already.*--replace"):
        push_store(tmp_path / "other.zarr", str(place))
    push_store(tmp_path / "other.zarr", str(place), replace=True)
    with open_store(place) as reader:
        assert reader.meta.content_digest == other.content_digest


def test_push_that_is_cut_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    make(tmp_path / "s.zarr")
    damaged = tmp_path / "s.zarr/features/c.1.0.0"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1] + b"x")
    with pytest.raises(StoreError, match=r"c\.1\.0\.0 does not have its digest"):
        push_store(tmp_path / "s.zarr", str(tmp_path / "shared"))
    assert not (tmp_path / "shared/example/features.zarr/zarr.json").exists()
    damaged.write_bytes(whole)
    place = push_store(tmp_path / "s.zarr", str(tmp_path / "shared"))
    assert pull_store(place, tmp_path / "mine.zarr").meta.complete


def test_a_list_without_a_shard_is_refused_both_ways(tmp_path: Path) -> None:
    """Nothing else would miss it: absent chunks read as zeros."""
    make(tmp_path / "s.zarr")
    listed = tmp_path / "s.zarr/features/SHA256SUMS"
    listed.write_text("".join(line for line in listed.read_text().splitlines(True) if "c.1.0.0" not in line))
    with pytest.raises(StoreError, match=r"the digest list does not name features/c\.1\.0\.0"):
        push_store(tmp_path / "s.zarr", str(tmp_path / "shared"))
    with pytest.raises(StoreError, match=r"the digest list does not name features/c\.1\.0\.0"):
        pull_store(str(tmp_path / "s.zarr"), tmp_path / "mine.zarr")
    assert not (tmp_path / "mine.zarr").exists()


def test_nothing_of_another_store_stays(tmp_path: Path) -> None:
    """A smaller store replaces a larger one; and a cut pull left a file that is gone since."""
    make(tmp_path / "s.zarr")
    place = Path(push_store(tmp_path / "s.zarr", str(tmp_path / "shared")))
    write_store(
        tmp_path / "small.zarr",
        meta=example_meta(),
        clip_id=["one"],
        features=np.ones((1, 3, 4)),
        n_frames=np.array([3]),
    )
    push_store(tmp_path / "small.zarr", str(place), replace=True)
    left = tmp_path / ".mine.zarr.pull/features"
    left.mkdir(parents=True)
    (left / "c.7.0.0").write_bytes(b"old")
    pull_store(str(place), tmp_path / "mine.zarr")
    for path in (place, tmp_path / "mine.zarr"):
        assert not verify_store(path, VerifyOptions()).findings


def test_commands_and_what_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "s.zarr")
    done = CliRunner().invoke(cli.east, ["store", "push", f"{tmp_path}/s.zarr", f"{tmp_path}/shared"], obj={})
    assert done.output.splitlines()[-1] == f"store: {tmp_path}/shared/example/features.zarr"
    done = CliRunner().invoke(
        cli.east, ["store", "pull", f"{tmp_path}/shared/example/features.zarr", f"{tmp_path}/m.zarr"], obj={}
    )
    assert "content digest: " in done.output
    with pytest.raises(StoreError, match=r"m\.zarr is there already"):
        pull_store(str(tmp_path / "s.zarr"), tmp_path / "m.zarr")
    with pytest.raises(StoreError, match=r"There is no store at .*clips\.parquet"):
        push_store(tmp_path / "clips.parquet", str(tmp_path / "shared"))
    with pytest.raises(StoreError, match=r"m\.h5 does not end in \.zarr"):
        push_store(tmp_path / "s.zarr", str(tmp_path / "m.h5"))
    with pytest.raises(StoreError, match=r"m\.h5 does not end in \.zarr"):
        pull_store(str(tmp_path / "s.zarr"), tmp_path / "m.h5")
    with pytest.raises(StoreError, match=r"web servers can only be read"):
        push_store(tmp_path / "s.zarr", "http://127.0.0.1:9/stores.zarr")


def test_links_in_a_place_are_not_followed(tmp_path: Path) -> None:
    make(tmp_path / "s.zarr")
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/example").symlink_to(outside)
    with pytest.raises(StoreError, match=r"has a link in it, 'example/features\.zarr.*not followed"):
        push_store(tmp_path / "s.zarr", str(tmp_path / "shared"))
    assert list(outside.iterdir()) == []
    (tmp_path / "shared/example").unlink()
    (tmp_path / "shared/example/features.zarr").mkdir(parents=True)
    (tmp_path / "shared/example/features.zarr/features").symlink_to(outside)
    with pytest.raises(StoreError, match=r"has a link in it"):
        push_store(tmp_path / "s.zarr", str(tmp_path / "shared"))
    assert list(outside.iterdir()) == []


def test_a_file_larger_than_its_array_is_not_fetched(tmp_path: Path, web: Web) -> None:
    """By its size, and where no size is told by what comes."""
    make(web.folder / "s.zarr")
    with (web.folder / "s.zarr/features/c.1.0.0").open("ab") as handle:
        handle.truncate(50_000_000)
    with pytest.raises(StoreError, match=r"c\.1\.0\.0 has 50,000,000 bytes; by the store's metadata it has at most"):
        pull_store(f"{web.url}/s.zarr", tmp_path / "mine.zarr")
    assert web.sent["c.1.0.0"] == 0
    web.tell_size = False
    with pytest.raises(StoreError, match=r"c\.1\.0\.0 has more than the 1,0.* bytes that it may have"):
        pull_store(f"{web.url}/s.zarr", tmp_path / "mine.zarr")
    assert sum(path.stat().st_size for path in tmp_path.glob(".mine.zarr.pull/**/*")) < 2_000_000


def test_a_disk_that_is_too_small_is_known_before(tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    make(web.folder / "s.zarr")
    monkeypatch.setattr(pull, "_MARGIN_BYTES", 1 << 62)
    with pytest.raises(StoreError, match=r"mine\.zarr needs [0-9,]+ bytes more, and [0-9,]+ are free"):
        pull_store(f"{web.url}/s.zarr", tmp_path / "mine.zarr")
    assert web.sent["c.0.0.0"] == 0


def test_two_pulls_to_one_path(tmp_path: Path) -> None:
    make(tmp_path / "s.zarr")
    with (
        filelock.FileLock(tmp_path / ".mine.zarr.pull.lock"),
        pytest.raises(StoreError, match=r"mine\.zarr is being pulled by another process"),
    ):
        pull_store(str(tmp_path / "s.zarr"), tmp_path / "mine.zarr")
    pull_store(str(tmp_path / "s.zarr"), tmp_path / "mine.zarr")


def test_progress_counts_bytes(tmp_path: Path, web: Web) -> None:
    make(web.folder / "s.zarr")
    events: list[Event] = []
    pull_store(f"{web.url}/s.zarr", tmp_path / "mine.zarr", listener=events.append)
    (total,) = [event.total for event in events if isinstance(event, TaskStarted) and event.task == "pull"]
    done = sum(event.amount for event in events if isinstance(event, TaskAdvanced) and event.task == "pull")
    files = {*(web.folder / "s.zarr").rglob("*")}
    small = {path for path in files if path.name in ("zarr.json", "SHA256SUMS")}
    assert total == pytest.approx(sum(path.stat().st_size for path in files - small if path.is_file()) / 1e6)
    assert done == pytest.approx(total)


def test_hdf5_there_and_back(tmp_path: Path, web: Web) -> None:
    meta = make(tmp_path / "s.h5")
    place = push_store(tmp_path / "s.h5", str(web.folder))
    assert place == f"{web.folder}/example/features.h5"
    size = Path(place).stat().st_size
    web.cuts["features.h5"] = [144, 5000, 0, 0, 0, 0, 0]
    url = f"{web.url}/example/features.h5"
    with pytest.raises(StoreError, match=r"features\.h5: .*What came is kept"):
        pull_store(url, tmp_path / "mine.h5")
    assert not (tmp_path / "mine.h5").exists()
    web.cuts.clear()
    web.starts.clear()
    assert pull_store(url, tmp_path / "mine.h5").meta.content_digest == meta.content_digest
    assert web.starts == [size - 144, 5000]
    assert (tmp_path / "mine.h5").read_bytes() == (tmp_path / "s.h5").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    web.ranges = False
    pull_store(url, tmp_path / "again.h5")
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "s.h5").read_bytes()


@pytest.mark.parametrize("ranges", [True, False])
def test_drafts_of_a_store_with_a_longer_name_stay(tmp_path: Path, web: Web, ranges: bool) -> None:
    make(web.folder / "pools.h5")
    web.ranges = ranges
    others = [f"{dots}pools.v2.{key}.pull.h5{end}" for key in ("0" * 16, "whole") for dots, end in DRAFTS]
    stale = [f"{dots}pools.{key}.pull.h5{end}" for key in ("0" * 16, "whole") for dots, end in DRAFTS]
    for name in (*others, *stale):
        (tmp_path / name).write_bytes(b"half")
    pull_store(f"{web.url}/pools.h5", tmp_path / "pools.h5")
    assert sorted(path.name for path in tmp_path.glob("*.pull.h5*")) == sorted(others)


def test_hdf5_damage_is_found_both_ways(tmp_path: Path, web: Web) -> None:
    make(tmp_path / "s.h5")
    content = bytearray((tmp_path / "s.h5").read_bytes())
    content[3000] ^= 1
    (web.folder / "bad.h5").write_bytes(content)
    with pytest.raises(StoreError, match=r"bad\.h5 is not what its seal says"):
        push_store(web.folder / "bad.h5", str(tmp_path / "shared"))
    with pytest.raises(StoreError, match=r"bad\.h5 is not what its seal says"):
        pull_store(f"{web.url}/bad.h5", tmp_path / "mine.h5")
    (web.folder / "cut.h5").write_bytes(content[:-1])
    with pytest.raises(StoreError, match=r"cut\.h5 has no whole seal"):
        pull_store(f"{web.url}/cut.h5", tmp_path / "mine.h5")
    with pytest.raises(StoreError, match=r"none\.h5 is not there"):
        pull_store(f"{web.url}/none.h5", tmp_path / "mine.h5")
    assert list(tmp_path.glob("*mine*")) == list(tmp_path.glob(".*mine*")) == []
    make(tmp_path / "other.h5", seed=1)
    push_store(tmp_path / "s.h5", str(tmp_path / "shared"))
    with pytest.raises(StoreError, match=r"features\.h5 holds another store already.*--replace"):
        push_store(tmp_path / "other.h5", str(tmp_path / "shared"))
    push_store(tmp_path / "other.h5", str(tmp_path / "shared"), replace=True)
    assert not verify_store(tmp_path / "shared/example/features.h5", VerifyOptions()).findings
