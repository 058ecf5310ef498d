"""Reading a store in place from a web server that knows no byte ranges."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import StoreError
from pipeline.stores import example_meta, open_store, write_store
from pipeline.stores.remote import CACHE_VARIABLE


class _Handler(SimpleHTTPRequestHandler):
    asked: list[str]

    def __init__(self, *arguments: object, asked: list[str], **options: object) -> None:
        self.asked = asked
        super().__init__(*arguments, **options)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path, list[str]]]:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    folder = tmp_path / "shared"
    folder.mkdir()
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder), asked=asked))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", folder, asked
    server.shutdown()
    thread.join()
    server.server_close()


def _make(path: Path, n: int = 40) -> np.ndarray:
    features = np.random.default_rng(0).standard_normal((n, 3, 4)).astype(np.float32)
    write_store(
        path, meta=example_meta(), clip_id=[f"c{i}" for i in range(n)], features=features, n_frames=np.full(n, 3)
    )
    return features


def test_rows_equal_and_only_their_shards_are_fetched(served: tuple[str, Path, list[str]]) -> None:
    url, folder, asked = served
    features = _make(folder / "a.zarr")
    with open_store(f"{url}/a.zarr") as reader:
        rows = np.array([33, 1, 2])
        np.testing.assert_array_equal(reader.read(rows), features[rows])
    shards = {path.rsplit("/", 1)[1] for path in asked if "/features/c." in path}
    assert shards == {"c.0.0.0", "c.2.0.0"}


def test_second_reader_uses_the_cache(served: tuple[str, Path, list[str]]) -> None:
    url, folder, asked = served
    features = _make(folder / "a.zarr")
    for _ in range(2):
        with open_store(f"{url}/a.zarr") as reader:
            np.testing.assert_array_equal(reader.read(np.arange(40)), features)
    assert sum("/features/c.0.0.0" in path for path in asked) == 1


def test_damage_on_the_way_is_noticed(served: tuple[str, Path, list[str]]) -> None:
    url, folder, _ = served
    _make(folder / "a.zarr")
    shard = folder / "a.zarr/features/c.0.0.0"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    with open_store(f"{url}/a.zarr") as reader, pytest.raises(StoreError, match=r"checksum of chunk 0"):
        reader.read(np.array([0]))


def test_nothing_there(served: tuple[str, Path, list[str]]) -> None:
    with pytest.raises(StoreError, match=r"none\.zarr cannot be opened"):
        open_store(f"{served[0]}/none.zarr")
