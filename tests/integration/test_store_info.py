"""``east store info``: finished, unfinished, growing and foreign stores, at addresses, and hostile texts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from click.testing import CliRunner
from servers import web_server

from cli import east
from pipeline.errors import StoreError
from pipeline.stores import StoreWriter, example_meta, write_store
from pipeline.stores.info import describe_store, render
from pipeline.stores.lease import LEASE
from pipeline.stores.making.convert import convert_store

IDS = [f"clip {row}" for row in range(10)]
META = example_meta(
    chunk_clips=2, shard_clips=4, weights_sha256=("a" * 64,), dataset={"name": "songs", "licence": "CC-BY-4.0"},
    card={"name": "example", "version": 1, "parameters": {}, "licence_weights": "CC-BY-NC-4.0", "licence_code": "MIT"},
)  # fmt: skip
NC = "CC-BY-NC-4.0 (weights of example)"
#: What scripts may rely on.
KEYS = {
    "kind", "path", "format", "extractor", "output", "extractor_version", "mode", "complete", "writing", "clips",
    "pending", "done", "failed", "shape", "dtype", "clip_s", "hop_s", "window_s", "offset_s", "rate_hz", "valid_frames",
    "audio_hours", "feature_bytes", "disk_bytes", "codec", "compression_ratio", "clips_per_chunk_and_shard",
    "weights_sha256", "licence_code", "licence_weights", "licence_audio", "licence", "licence_demands", "licences",
    "citation", "dataset", "fingerprint", "content_digest", "manifest_digest", "uuid", "canaries", "preflight",
    "derived", "runs",
}  # fmt: skip


def store(path: Path, **changes: object) -> Path:
    meta = META if not changes else example_meta(**changes)
    features = np.ones((10, 3, 4), np.float32)
    write_store(path, meta=meta, clip_id=IDS, features=features, n_frames=np.full(10, 3))
    return path


def half(path: Path) -> StoreWriter:
    """A writer that has finished the first of three shards; the clip ``clip 3`` failed."""
    writer = StoreWriter(path, META, np.array(IDS, object), make_canaries=dict)
    zeros = np.zeros((4, 32), np.uint8)
    features = np.ones((4, 3, 4), np.float32)
    features[3] = 0
    writer.record(
        writer.target.write(
            0,
            clip_ids=IDS[:4],
            features=features,
            n_frames=np.array([3, 3, 2, 0]),
            state=np.array([1, 1, 1, 2], np.uint8),
            failure=["", "", "", "format: no audio \x1b[31m"],
            file_digest=zeros,
            samples_digest=zeros,
        )
    )
    return writer


def info(*arguments: str | Path) -> str:
    done = CliRunner().invoke(east, ["store", "info", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


# --- our own ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_a_finished_store(tmp_path: Path, suffix: str) -> None:
    path = store(tmp_path / f"s.{suffix}")
    about = json.loads(info(path, "--json"))
    assert about.keys() == KEYS
    assert (about["clips"], about["done"], about["failed"], about["pending"], about["valid_frames"]) == (
        10,
        10,
        0,
        0,
        30,
    )
    assert (about["licence"], about["licence_demands"]) == (NC, "Name the author; no commercial use.")
    assert {"licence": "CC-BY-4.0", "covers": "audio of songs"} in about["licences"]
    assert about["writing"] is None
    assert about["disk_bytes"] > about["feature_bytes"] == 480
    assert 0 < about["compression_ratio"] <= 1
    assert about["codec"] == ("sharding_indexed (bytes, crc32c)" if suffix == "zarr" else "fletcher32")
    assert f"licence                    {NC}\n" in info(path)


def test_compression_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    rows, meta = 512, example_meta(chunk_clips=256, shard_clips=512)
    ids = [f"{row}" for row in range(rows)]
    write_store(path, meta=meta, clip_id=ids, features=np.ones((rows, 3, 4)), n_frames=np.full(rows, 3))
    convert_store(str(path), tmp_path / "c.h5", codec="gzip")
    about = describe_store(str(tmp_path / "c.h5"))
    assert "deflate" in about["codec"]
    assert about["compression_ratio"] > 1.5
    assert "by convert" in render(about, as_json=False)


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_a_store_that_is_being_written(tmp_path: Path, name: str) -> None:
    with half(tmp_path / name):
        about = describe_store(str(tmp_path / name), failures=True)
        assert (about["done"], about["failed"], about["pending"], about["complete"]) == (3, 1, 6, False)
        writing = about["writing"]
        assert (writing["status"], writing["holder"]) == ("writing", f"process {os.getpid()} on this machine")
        assert writing["since"].startswith(time.strftime("%Y-", time.gmtime()))
        assert (writing["clips"], writing["clips_per_s"] > 0, writing["left_s"] >= 0) == (4, True, True)
        text = info(tmp_path / name, "--failures")
        assert f"process {os.getpid()} on this machine (writing), since 20" in text
        assert "clip 3: format: no audio [31m" in text
        assert "\x1b" not in text
    about = describe_store(str(tmp_path / name))
    assert (about["writing"]["status"], about["writing"]["holder"], about["done"]) == ("stopped", "", 3)


def test_a_writer_that_is_gone(tmp_path: Path) -> None:
    with half(tmp_path / "s.zarr"):
        lease = tmp_path / "s.zarr" / LEASE
        found = json.loads(lease.read_text())
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        lease.write_text(json.dumps(found | {"process": gone.pid}))
        assert describe_store(str(tmp_path / "s.zarr"))["writing"]["status"] == "stopped"
        lease.write_text(json.dumps(found | {"machine": "another"}))
        assert describe_store(str(tmp_path / "s.zarr"))["writing"]["holder"] == "a process on another machine"
        os.utime(lease, (0, 0))
        assert describe_store(str(tmp_path / "s.zarr"))["writing"]["status"] == "stopped"
        for nonsense in ("{", json.dumps({"since": "x" * 9, "process": -1}), json.dumps({"since": 1e300})):
            lease.write_text(nonsense)
            render(describe_store(str(tmp_path / "s.zarr")), as_json=False)
        lease.write_text(json.dumps(found))


def test_an_hdf5_store_that_grows_is_whole_and_says_who_writes(tmp_path: Path) -> None:
    store(tmp_path / "s.h5")
    with StoreWriter(tmp_path / "s.h5", META, np.array([*IDS, "new"], object), make_canaries=dict):
        about = describe_store(str(tmp_path / "s.h5"))
        assert (about["complete"], about["clips"], about["writing"]["status"]) == (True, 10, "writing")
        partial = describe_store(str(tmp_path / "s.h5.partial"))
        assert (partial["complete"], partial["clips"], partial["writing"]["status"]) == (False, 11, "writing")


def test_a_store_at_an_address(tmp_path: Path) -> None:
    store(tmp_path / "s.zarr")
    with web_server(tmp_path) as server:
        about = describe_store(f"{server.url}/s.zarr")
    assert about.keys() == KEYS
    assert (about["done"], about["disk_bytes"], about["writing"], about["licence"]) == (10, None, None, NC)


# --- of others -------------------------------------------------------------------------------------


def foreign_zarr(path: Path, version: int) -> Path:
    group = zarr.open_group(path, mode="w", zarr_format=version, attributes={"made": "elsewhere"})  # type: ignore[arg-type]
    array = group.create_array("inner/embeddings", shape=(100, 8), chunks=(10, 8), dtype="float32")
    array[...] = np.ones((100, 8), np.float32)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_a_foreign_zarr_store(tmp_path: Path, version: int) -> None:
    about = json.loads(info(foreign_zarr(tmp_path / "x", version), "--json"))
    (array,) = about["arrays"]
    assert (about["kind"], about["format"], about["attributes"]) == ("foreign", f"Zarr v{version}", ["made"])
    assert (array["name"], array["shape"], array["chunks"]) == ("inner/embeddings", [100, 8], [10, 8])
    assert array["memory_bytes"] == 3200
    assert array["compression"] == ("blosc (lz4)" if version == 2 else "bytes, zstd")
    assert 0 < array["disk_bytes"] < 3200
    assert array["dtype"] == ("<f4" if version == 2 else "float32")
    text = info(tmp_path / "x")
    assert "no EAsT store" in text
    assert "east store import" in text


def test_a_foreign_hdf5_file(tmp_path: Path) -> None:
    path = tmp_path / "x.hdf"
    with h5py.File(path, "w") as file:
        file.create_dataset("a/b", data=np.ones((50, 4)), chunks=(10, 4), compression="gzip")
        file["loop"] = file["/"]
        file["away"] = h5py.ExternalLink("other.h5", "/x")
        file.create_dataset("words", data=["x"], dtype=h5py.string_dtype())
    for name in ("x.hdf", "x.h5"):
        path = path.rename(tmp_path / name)
        about = describe_store(str(path))
        assert [(item["name"], item["dtype"]) for item in about["arrays"]] == [("words", "text"), ("a/b", "float64")]
        assert about["arrays"][1]["compression"] == "deflate"
        assert "east store import FILE.h5" in render(about, as_json=False)


@pytest.mark.parametrize("version", [2, 3])
def test_a_foreign_store_at_an_address(tmp_path: Path, version: int) -> None:
    foreign_zarr(tmp_path / "x.zarr", version)
    with web_server(tmp_path) as server:
        about = describe_store(f"{server.url}/x.zarr")
    assert (about["format"], about["disk_bytes"]) == (f"Zarr v{version}", None)


def test_our_own_under_another_name_or_damaged_are_not_foreign(tmp_path: Path) -> None:
    store(tmp_path / "s.h5").rename(tmp_path / "s.dat")
    with pytest.raises(StoreError, match=r"its name does not end in \.h5: rename it"):
        describe_store(str(tmp_path / "s.dat"))
    document = store(tmp_path / "s.zarr") / "zarr.json"
    document.write_text(document.read_text().replace('"format_version": 1', '"format_version": 9'))
    with pytest.raises(StoreError, match="upgrade east-music"):
        describe_store(str(tmp_path / "s.zarr"))
    (tmp_path / "notes.txt").write_text("no store")
    with pytest.raises(StoreError, match="neither a Zarr folder nor an HDF5 file"):
        describe_store(str(tmp_path / "notes.txt"))
    with pytest.raises(StoreError, match="There is no store at"):
        describe_store(str(tmp_path / "none.zarr"))


# --- from anyone -----------------------------------------------------------------------------------

EVIL = "\x1b]0;gotcha\x07\x9b31m\u202egpj\x7f\r\nfaked  line" + "y" * 5000


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_texts_of_a_store_do_not_steer_the_terminal(tmp_path: Path, suffix: str) -> None:
    evil: dict[str, Any] = {
        "card": {"version": EVIL, "licence_weights": EVIL, "licence_code": EVIL, "citation": EVIL, "parameters": {}},
        "dataset": {"name": EVIL, EVIL: EVIL}, "preflight": {"status": EVIL},
        "derived": {"verb": EVIL, "settings": {EVIL: [EVIL]}, "sources": [{"extractor": EVIL}, 3]},
        "runs": ({"time": EVIL, "version": [EVIL], "platform": {"cpu": EVIL}},) * 9,
    }  # fmt: skip
    path = store(tmp_path / f"s.{suffix}", **evil)
    for options in ([], ["--failures"]):
        text = info(path, *options)
        assert all(char.isprintable() or char == "\n" for char in text)
        assert not [line for line in text.splitlines() if line.startswith("faked")]
        assert len(text) < 60_000
    text = info(path, "--json")
    assert text.isascii()
    assert "\x7f" not in text
    assert json.loads(text)["dataset"]["name"] == EVIL


def test_names_in_foreign_stores_do_not_steer_the_terminal(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a\x1b[31m\nb", data=[1.0])
        file.attrs["\x1b[2J"] = 1
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / ".zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / "z" / "a\x1b[31m").mkdir()
    (tmp_path / "z" / "a\x1b[31m" / ".zarray").write_text(json.dumps({"dtype": EVIL, "compressor": {"id": EVIL}}))
    for name in ("x.h5", "z"):
        text = info(tmp_path / name)
        assert all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.parametrize(
    "document",
    [
        {"shape": [1 << 70], "dtype": "<f4", "chunks": [-1]},
        {"shape": "x", "dtype": [["a", "<f4"]], "filters": 3, "compressor": []},
        {"shape": [1] * 1000, "dtype": "V9999999", "compressor": {"id": {"a": "b"}}},
        {"shape": None},
    ],
)
def test_crafted_metadata_of_foreign_arrays(tmp_path: Path, document: dict[str, Any]) -> None:
    (tmp_path / ".zarray").write_text(json.dumps(document))
    (tmp_path / "zz").symlink_to("/")
    began = time.monotonic()
    about = describe_store(str(tmp_path))
    assert len(about["arrays"]) == 1
    assert len(render(about, as_json=False)) < 5000
    assert time.monotonic() - began < 5


def test_many_arrays_are_cut(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for number in range(300):
            file.create_dataset(f"{number:03d}", data=[1])
    about = describe_store(str(tmp_path / "x.h5"))
    assert (len(about["arrays"]), about["all_arrays_shown"]) == (200, False)
