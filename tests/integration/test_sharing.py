"""Stores pushed to folders and pulled from folders and web servers; cuts, damage, forged lists."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cli
from pipeline.errors import StoreError
from pipeline.stores import StoreMeta, example_meta, open_store, write_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.sharing import places
from pipeline.stores.sharing.pull import pull_store
from pipeline.stores.sharing.push import push_store

N = 40


def make(path: Path, seed: int = 0) -> StoreMeta:
    features = np.random.default_rng(seed).standard_normal((N, 3, 4)).astype(np.float32)
    return write_store(
        path, meta=example_meta(), clip_id=[f"c{row}" for row in range(N)], features=features, n_frames=np.full(N, 3)
    )


class Server(SimpleHTTPRequestHandler):
    """Counts what is asked for, and cuts connections after the header where told to."""

    asked: list[str]
    cut: set[str]

    def __init__(self, *arguments: object, asked: list[str], cut: set[str], **options: object) -> None:
        self.asked, self.cut = asked, cut
        super().__init__(*arguments, **options)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.asked.append(name)
        if name in self.cut:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"half")
            self.wfile.flush()
            self.connection.close()
            return
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path, list[str], set[str]]]:
    monkeypatch.setattr(places, "_PAUSE_S", 0.01)
    folder, asked, cut = tmp_path / "web", list[str](), set[str]()
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, directory=str(folder), asked=asked, cut=cut))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder, asked, cut
    server.shutdown()
    thread.join()
    server.server_close()


def test_pushed_then_pulled_from_the_web(tmp_path: Path, web: tuple[str, Path, list[str], set[str]]) -> None:
    url, folder, _, _ = web
    meta = make(tmp_path / "s.zarr")
    assert push_store(tmp_path / "s.zarr", str(folder)) == f"{folder}/example/features.zarr"
    pulled = pull_store(f"{url}/example/features.zarr", tmp_path / "mine.zarr")
    assert pulled.content_digest == meta.content_digest
    files = {path.relative_to(tmp_path / "s.zarr") for path in (tmp_path / "s.zarr").rglob("*")}
    assert files == {path.relative_to(tmp_path / "mine.zarr") for path in (tmp_path / "mine.zarr").rglob("*")}
    with open_store(tmp_path / "s.zarr") as left, open_store(tmp_path / "mine.zarr") as right:
        assert np.array_equal(left.read(np.arange(N)), right.read(np.arange(N)))


def test_pull_goes_on_after_a_cut(tmp_path: Path, web: tuple[str, Path, list[str], set[str]]) -> None:
    url, folder, asked, cut = web
    make(folder / "s.zarr")
    cut.add("c.2.0.0")
    with pytest.raises(StoreError, match=r"c\.2\.0\.0: .*What came is kept; the same command goes on"):
        pull_store(f"{url}/s.zarr", tmp_path / "mine.zarr")
    assert not (tmp_path / "mine.zarr").exists()
    assert asked.count("c.2.0.0") == 4
    cut.clear()
    asked.clear()
    pull_store(f"{url}/s.zarr", tmp_path / "mine.zarr")
    assert "c.0.0.0" not in asked
    assert asked.count("c.2.0.0") == 1
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_damage_and_forged_names_are_refused(tmp_path: Path, web: tuple[str, Path, list[str], set[str]]) -> None:
    url, folder, _, _ = web
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
    with pytest.raises(StoreError, match=r"c\.1\.0\.0 is not what the digest list says"):
        push_store(tmp_path / "s.zarr", str(tmp_path / "shared"))
    assert not (tmp_path / "shared/example/features.zarr/zarr.json").exists()
    damaged.write_bytes(whole)
    place = push_store(tmp_path / "s.zarr", str(tmp_path / "shared"))
    assert pull_store(place, tmp_path / "mine.zarr").complete


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


def test_commands_and_what_cannot_be_pushed(tmp_path: Path) -> None:
    make(tmp_path / "s.zarr")
    make(tmp_path / "s.h5")
    done = CliRunner().invoke(cli.east, ["store", "push", f"{tmp_path}/s.zarr", f"{tmp_path}/shared"], obj={})
    assert done.output.splitlines()[-1] == f"store: {tmp_path}/shared/example/features.zarr"
    done = CliRunner().invoke(
        cli.east, ["store", "pull", f"{tmp_path}/shared/example/features.zarr", f"{tmp_path}/m.zarr"], obj={}
    )
    assert "content digest: " in done.output
    with pytest.raises(StoreError, match=r"is no Zarr folder"):
        push_store(tmp_path / "s.h5", str(tmp_path / "shared"))
    with pytest.raises(StoreError, match=r"m\.zarr is there already"):
        pull_store(str(tmp_path / "s.zarr"), tmp_path / "m.zarr")
