"""Real servers on the loopback for tests: web with byte ranges, S3's API, and a wire that counts and cuts."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote


@dataclass
class Web:
    """A folder on a web server, and what was asked of it.

    Attributes:
        ranges: whether byte ranges are understood.
        tell_size: whether answers say how long they are.
        cuts: by file name, after how many bytes of the body each next answer is cut off.
        asked: names of files as they were asked for, listings as ``""``.
        starts: with each of ``asked``, the first byte that was asked for.
        sent: bytes of bodies by file name.
    """

    url: str
    folder: Path
    ranges: bool = True
    tell_size: bool = True
    cuts: dict[str, list[int]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)


@contextmanager
def web_server(folder: Path) -> Iterator[Web]:
    """Serve a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    web = Web("", folder)

    class Handler(_Handler):
        state = web

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(SimpleHTTPRequestHandler):
    state: Web

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, directory=str(self.state.folder), **options)

    def do_HEAD(self) -> None:
        if self.state.tell_size:
            super().do_HEAD()
        else:
            self.send_error(HTTPStatus.NOT_IMPLEMENTED)

    def do_GET(self) -> None:
        name, path = self.path.rpartition("/")[2], Path(self.translate_path(self.path))
        asked = re.match(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")) if self.state.ranges else None
        self.state.asked.append(name)
        if not path.is_file():
            self.state.starts.append(0)
            super().do_GET()
            return
        content = path.read_bytes()
        start, stop = _range(asked, len(content))
        self.state.starts.append(start)
        if start > len(content) or (asked and start == len(content)):
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        if self.state.tell_size:
            self.send_header("Content-Length", str(stop - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.end_headers()
        self._send(name, content[start:stop])

    def _send(self, name: str, body: bytes) -> None:
        cuts = self.state.cuts.get(name)
        part = body[: cuts.pop(0)] if cuts else body
        with suppress(ConnectionError):
            self.wfile.write(part)
            self.wfile.flush()
            self.state.sent[name] += len(part)
        if part is not body:
            time.sleep(0.03)  # a client that has not read yet loses what came when it sees the cut
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _range(asked: re.Match[str] | None, n_bytes: int) -> tuple[int, int]:
    if asked is None:
        return 0, n_bytes
    if not asked[1]:
        return max(0, n_bytes - int(asked[2])), n_bytes
    return int(asked[1]), min(int(asked[2]) + 1 if asked[2] else n_bytes, n_bytes)


@dataclass
class S3:
    """An S3 server of its own process; ``environment`` is what clients need to find it."""

    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": str(self.log.with_name("no-config")),
            "AWS_SHARED_CREDENTIALS_FILE": str(self.log.with_name("no-credentials")),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def requests(self) -> list[str]:
        """``METHOD /bucket/key STATUS`` of every request so far."""
        line = re.compile(r'"(?:\x1b\[[0-9;]*m)*([A-Z]+ \S+) HTTP/[0-9.]+(?:\x1b\[[0-9;]*m)*" ([0-9]+)')
        return [f"{unquote(found[1])} {found[2]}" for found in line.finditer(self.log.read_text())]


@contextmanager
def s3_server(folder: Path) -> Iterator[S3]:
    """Start moto's standalone server; its buckets live in its memory, its log in ``folder``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = S3(port, folder / "s3.log")
    program = [sys.executable, "-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p", str(port)]
    with server.log.open("wb") as log:
        process = subprocess.Popen(program, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_for(port, process, server.log)
        yield server
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"the S3 server did not start: {log.read_text()}")


_KEPT: list[object] = []


def forget_s3_clients() -> None:
    """Let s3fs look at its environment anew; old clients are kept, since closing them may take its time."""
    import s3fs

    _KEPT.extend(s3fs.S3FileSystem._cache.values())
    s3fs.S3FileSystem.clear_instance_cache()


@dataclass
class Wire:
    """Between a client and a server: counts bytes, and is cut after so many in one direction."""

    port: int
    up: int = 0
    down: int = 0
    cut_up: int | None = None
    cut_down: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def is_cut(self) -> bool:
        over_up = self.cut_up is not None and self.up >= self.cut_up
        return over_up or (self.cut_down is not None and self.down >= self.cut_down)

    def mend(self) -> None:
        """Whole again, and counting from zero."""
        self.up = self.down = 0
        self.cut_up = self.cut_down = None


@contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    """A wire to a server on the loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    wire, stopped = Wire(listener.getsockname()[1]), threading.Event()

    def accept() -> None:
        while not stopped.is_set():
            with suppress(OSError):
                near, _ = listener.accept()
                if stopped.is_set() or wire.is_cut:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", port))
                for source, sink, way in ((near, far, "up"), (far, near, "down")):
                    threading.Thread(target=_pump, args=(wire, source, sink, way), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        stopped.set()
        with suppress(OSError), socket.create_connection(("127.0.0.1", wire.port)):
            pass
        thread.join()
        listener.close()


def _pump(wire: Wire, source: socket.socket, sink: socket.socket, way: str) -> None:
    with suppress(OSError):
        while block := source.recv(1 << 14):
            setattr(wire, way, getattr(wire, way) + len(block))
            if wire.is_cut:
                break
            sink.sendall(block)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
