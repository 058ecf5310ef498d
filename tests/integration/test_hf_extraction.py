"""Models of the transformers library from request to store, from a folder and from a hub of our own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from badfiles import music, write
from extracting import ROOT, command, meta_of, run, table_of, tidy, write_clips
from narrow_hf import save_model

from pipeline import layout
from pipeline.errors import SettingError, StoreError
from pipeline.extraction.settings import ExtractReport
from pipeline.files import sha256_of
from pipeline.manifest import ClipTable
from pipeline.stores import open_store

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EAST_WEIGHTS", str(tmp_path / "weights"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    write_clips(folder, 6)
    return folder


@pytest.fixture
def table(clips: Path) -> ClipTable:
    return table_of(sorted(clips.iterdir()), clips)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_model("hubert", tmp_path / "models of someone")


def extract(table: ClipTable, request: str) -> ExtractReport:
    return run(table, request, preflight=False)


def test_a_store_knows_the_model_by_name_and_digest_not_by_place(table: ClipTable, model: Path) -> None:
    extract(table, f"hf:{model}:layer=1+3/frames+clip")
    for output, shape in (("frames", (6, 49, 48)), ("clip", (6, 1, 48))):
        with open_store(layout.store_path(table.name, "hf-hubert-layer1+3", output, "zarr")) as store:
            assert store.shape == shape
            assert store.meta.complete
            assert store.meta.weights_sha256 == tuple(
                sha256_of(model / name) for name in ("config.json", "preprocessor_config.json", "model.safetensors")
            )
            assert "someone" not in json.dumps(store.meta.attributes())


def test_a_finished_store_is_left_and_other_weights_under_its_name_are_refused(table: ClipTable, model: Path) -> None:
    extract(table, f"hf:{model}")
    before = meta_of(table, "hf-hubert", "frames")
    assert extract(table, f"hf:{model}").audio_s == 0
    assert meta_of(table, "hf-hubert", "frames") == before
    other = save_model("hubert", model.parent / "other", seed=1)
    with pytest.raises(StoreError, match="weights_sha256"):
        extract(table, f"hf:{other}")


def test_a_folder_may_be_named_from_where_one_stands(
    table: ClipTable, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    extract(table, "hf:./hubert/clip")
    assert meta_of(table, "hf-hubert", "clip").complete
    with pytest.raises(SettingError, match="neither a folder that exists nor a model"):
        extract(table, "hf:./whisper/clip")


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as its client asks for: files of one repository at one commit."""

    def __init__(self, *arguments: Any, folder: Path, asked: list[str]) -> None:
        self.folder, self.asked = folder, asked
        super().__init__(*arguments)

    def log_message(self, *arguments: Any) -> None:
        self.asked.append(self.path)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        files = sorted(path.name for path in self.folder.iterdir())
        if self.path.startswith("/api/models/lab/tiny"):
            about = {"id": "lab/tiny", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            tree = [{"type": "file", "path": name, "oid": "0" * 40, "size": 1} for name in files]
            self._send(json.dumps(tree if "/tree/" in self.path else about).encode(), with_body)
        elif self.path.startswith("/lab/tiny/resolve/") and (name := self.path.rsplit("/", 1)[-1]) in files:
            self._send((self.folder / name).read_bytes(), with_body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, body: bytes, with_body: bool) -> None:
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def hub(model: Path) -> Iterator[tuple[str, list[str]]]:
    """Address of a hub that has lab/tiny, and what it was asked for."""
    (model / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    (model / "modeling_own.py").write_text("raise SystemExit\n")
    (model / "pytorch_model.bin").write_bytes(b"not to be fetched")
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, folder=model, asked=asked))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def east(*arguments: str | Path, **extra: str) -> subprocess.CompletedProcess[str]:
    with tidy(command(*arguments, **extra)) as process:
        out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def test_from_the_hub_to_files_and_then_without_network(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    """The hub's own client, in processes of its own since it reads its settings once."""
    address, asked = hub
    code = (
        "from pipeline.registry import find_teacher; from pipeline.weights.models import fetch_model\n"
        "card = find_teacher('hf:lab/tiny:layer=2')\n"
        "files = fetch_model('lab/tiny')\n"
        "print(card.name, card.parameters['revision'], card.licence_weights, *(path.name for path in files))\n"
    )
    wanted = f"hf-lab-tiny-layer2 {COMMIT} cc-by-nc-4.0 config.json preprocessor_config.json model.safetensors\n"
    settings = os.environ | {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1"}
    for offline in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=settings | {"HF_HUB_OFFLINE": offline},
            check=False,
        )
        assert (done.stdout, done.stderr, done.returncode) == (wanted, "", 0)
    fetched = {path.rsplit("/", 1)[-1] for path in asked if "/resolve/" in path}
    assert "model.safetensors" in fetched
    assert not fetched & {"pytorch_model.bin", "modeling_own.py"}


@pytest.mark.slow
def test_from_the_hub_with_two_workers_to_a_trained_student(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    address, asked = hub
    audio = tmp_path / "songs"
    for label in ("loud", "quiet"):
        (audio / label).mkdir(parents=True)
        for row in range(6):
            write(audio / label / f"{row}.wav", music(16_000, 4.0, seed=row), 16_000, "WAV", "PCM_16")
    settings = {"HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1"}
    request = "hf:lab/tiny:layer=2:pool=1"
    found = east("extract", "--data", audio, "--teacher", request, "--workers", "2", **settings)
    assert found.returncode == 0, found.stderr
    with open_store(tmp_path / "home/songs/stores/hf-lab-tiny-layer2-pool1/frames.zarr") as store:
        assert store.meta.complete
        assert store.shape[2] == 24
        assert store.meta.card["parameters"]["revision"] == COMMIT
    n_asked = len(asked)
    again = east("extract", "--data", audio, "--teacher", request, "--workers", "2", **settings)
    assert "Nothing to do" in again.stderr + again.stdout
    assert len(asked) == n_asked, "the cache is asked first"
    short = ("--steps", "4", "--batch", "4", "--student", "cnn-small")
    trained = east("train", "--data", audio, "--teacher", request, *short, **settings)
    assert trained.returncode == 0, trained.stderr
    shutil.rmtree(tmp_path / "hf")
    trained = east("train", "--data", audio, "--teacher", "hf-lab-tiny-layer2-pool1", *short)
    assert trained.returncode == 0, trained.stderr
