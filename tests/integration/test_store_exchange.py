"""Out as NumPy and Parquet, read back with nothing of ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import cli
from pipeline.errors import SettingError, StoreError
from pipeline.events import Event, TaskAdvanced
from pipeline.stores import State, StoreMeta, StoreWriter, example_meta, write_store
from pipeline.stores.exchange import blocks
from pipeline.stores.exchange.export import export_store
from pipeline.stores.exchange.names import file_names

N, FRAMES, CHANNELS = 30, 3, 4
IDS = [f"Ordner/Lied {row:02d} é 音.wav@{row * 3000}" for row in range(N)]
FEATURES = np.random.default_rng(0).standard_normal((N, FRAMES, CHANNELS)).astype(np.float16)
VALID = np.random.default_rng(1).integers(1, FRAMES + 1, N)
FAILED = 4
VALID[FAILED] = 0
FEATURES[np.arange(FRAMES) >= VALID[:, None]] = 0
DONE = np.flatnonzero(np.arange(N) != FAILED)
CARD = {
    "name": "example",
    "version": 1,
    "parameters": {},
    "licence_weights": "CC-BY-NC-4.0",
    "citation": "Someone 2020",
}


def make(path: Path, **changes: object) -> StoreMeta:
    state, failure = np.full(N, State.DONE, np.uint8), [""] * N
    state[FAILED], failure[FAILED] = State.FAILED, "empty: no samples"
    return write_store(
        path,
        meta=example_meta(**({"dtype": "float16", "card": CARD, "chunk_clips": 4, "shard_clips": 8} | changes)),
        clip_id=IDS,
        features=FEATURES.astype(np.float32),
        n_frames=VALID,
        state=state,
        failure=failure,
    )


@pytest.fixture
def store(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / f"s.{getattr(request, 'param', 'zarr')}"
    make(path)
    return path


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK_BYTES", 7 * FRAMES * CHANNELS * 2)


@pytest.mark.parametrize("store", ["zarr", "h5"], indirect=True)
@pytest.mark.usefixtures("small_blocks")
def test_folder_of_arrays(store: Path, tmp_path: Path) -> None:
    done = export_store(str(store), tmp_path / "out", "npy")
    assert done.text() == "29 clips; left out: 1 failed"
    features = np.load(tmp_path / "out/features.npy", mmap_mode="r", allow_pickle=False)
    assert features.dtype == np.float16
    assert np.array_equal(features, FEATURES[DONE])
    assert np.array_equal(np.load(tmp_path / "out/n_frames.npy", allow_pickle=False), VALID[DONE])
    assert json.loads((tmp_path / "out/clip_id.json").read_text("utf-8")) == [IDS[row] for row in DONE]
    about = json.loads((tmp_path / "out/about.json").read_text("utf-8"))
    assert (about["hop_s"], about["licence_weights"], about["citation"]) == (1.0, "CC-BY-NC-4.0", "Someone 2020")
    assert about["failed"] == {IDS[FAILED]: "empty: no samples"}


@pytest.mark.usefixtures("small_blocks")
def test_archive(store: Path, tmp_path: Path) -> None:
    export_store(str(store), tmp_path / "out.npz", "npz")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
        assert np.array_equal(archive["features"], FEATURES[DONE])
        assert archive["clip_id"].tolist() == [IDS[row] for row in DONE]
        assert np.array_equal(archive["n_frames"], VALID[DONE])
        assert json.loads(str(archive["about"]))["extractor"] == "example"
    first = (tmp_path / "out.npz").read_bytes()
    export_store(str(store), tmp_path / "again.npz", "npz")
    assert (tmp_path / "again.npz").read_bytes() == first


def test_one_file_per_clip(store: Path, tmp_path: Path) -> None:
    export_store(str(store), tmp_path / "out", "npy", per_clip=True)
    index = json.loads((tmp_path / "out/index.json").read_text("utf-8"))
    assert sorted(index["files"].values()) == sorted(IDS[row] for row in DONE)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*index["files"], "index.json"])
    for name, clip_id in index["files"].items():
        row = IDS.index(clip_id)
        assert np.array_equal(np.load(tmp_path / "out" / name, allow_pickle=False), FEATURES[row, : VALID[row]])


@pytest.mark.usefixtures("small_blocks")
def test_parquet(store: Path, tmp_path: Path) -> None:
    export_store(str(store), tmp_path / "out.parquet", "parquet")  # in blocks a quarter as large: a clip each
    file = pq.ParquetFile(tmp_path / "out.parquet")
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [1] * 29
    table = file.read()
    assert table["clip_id"].to_pylist() == [IDS[row] for row in DONE]
    assert np.array_equal(table["n_frames"].to_numpy(), VALID[DONE])
    flat = table["features"].combine_chunks().flatten().flatten().to_numpy()
    assert np.array_equal(flat.reshape(-1, FRAMES, CHANNELS), FEATURES[DONE].astype(np.float32))
    assert json.loads(table.schema.metadata[b"east"])["hop_s"] == 1.0


def test_names_are_fit_for_every_file_system() -> None:
    ids = [
        "a",
        "A",
        "../../x",
        "con",
        "CON.txt",
        ".",
        "..",
        "x" * 400,
        "x" * 401,
        "é",
        "ü",
        "a/b",
        "a_b",
        "c" * 3 + "-0a1b2c3d",
    ]
    names = file_names(ids)
    assert len({name.lower() for name in names}) == len(ids)
    assert all(name.isascii() and name[0] != "." and len(name) < 200 and "/" not in name for name in names)
    assert file_names(["one.wav@0"]) == ["one.wav@0"]


def test_unfinished_stores_are_refused_unless_told(tmp_path: Path) -> None:
    with StoreWriter(
        tmp_path / "s.zarr", example_meta(shard_clips=16), np.array(IDS, object), make_canaries=dict
    ) as writer:
        digests = np.zeros((16, 32), np.uint8)
        writer.record(
            writer.target.write(
                0, clip_ids=IDS[:16], features=FEATURES[:16].astype(np.float32), n_frames=VALID[:16],
                state=np.full(16, State.DONE), failure=[""] * 16, file_digest=digests, samples_digest=digests,
            )
        )  # fmt: skip
    path = str(tmp_path / "s.zarr")
    with pytest.raises(StoreError, match=r"14 of its 30 clips are pending.*--allow-unfinished"):
        export_store(path, tmp_path / "out", "npy")
    assert export_store(path, tmp_path / "out", "npy", unfinished=True).text() == "16 clips; left out: 14 pending"
    assert len(np.load(tmp_path / "out/features.npy")) == 16


@pytest.mark.parametrize("out", ["out", "out.npz", "out.parquet", "clips"])
def test_what_is_interrupted_leaves_nothing(store: Path, tmp_path: Path, out: str) -> None:
    def stop(event: Event) -> None:
        if isinstance(event, TaskAdvanced):
            raise KeyboardInterrupt

    kind = Path(out).suffix[1:] or "npy"
    with pytest.raises(KeyboardInterrupt):
        export_store(str(store), tmp_path / out, kind, per_clip=out == "clips", listener=stop)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]


@pytest.mark.parametrize(
    ("out", "kind", "message"),
    [("out.npy", "npz", r"--to npz writes a file whose name ends in \.npz"),
     ("out.npz", "npy", r"--to npy writes a folder"), ("clips.npz", "npz", r"say --to npy, not --to npz"),
     ("there.npz", "npz", r"is there already; nothing is overwritten"),
     ("s.zarr/inside", "npy", r"is, or lies inside, the source")],
)  # fmt: skip
def test_places_that_are_refused(store: Path, tmp_path: Path, out: str, kind: str, message: str) -> None:
    (tmp_path / "there.npz").write_bytes(b"mine")
    with pytest.raises((SettingError, StoreError), match=message):
        export_store(str(store), tmp_path / out, kind, per_clip="clips" in out)  # type: ignore[arg-type]
    assert (tmp_path / "there.npz").read_bytes() == b"mine"


def test_export_command(store: Path, tmp_path: Path) -> None:
    arguments = ["store", "export", str(store), str(tmp_path / "o.parquet"), "--to", "parquet"]
    done = CliRunner().invoke(cli.east, arguments, obj={})
    assert done.exit_code == 0, done.output
    assert "29 clips; left out: 1 failed" in done.output
