"""The format as a contract: its page, a second reader written from it, xarray and Dask, versions."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import dask.array
import h5py
import numpy as np
import plain_reader
import pytest
import xarray
from click.testing import CliRunner

import cli
from pipeline.errors import StoreError
from pipeline.stores import State, StoreWriter, example_meta, open_store, write_store
from pipeline.stores.checking.repair import repair_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.making.convert import convert_store
from pipeline.stores.making.pool import pool_store

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "store_v1.zarr"
PAGE = (ROOT / "docs" / "store-format.md").read_text("utf-8")
EXAMPLE = PAGE.split("## A worked example")[1]
N, FRAMES, CHANNELS = 300, 5, 3
META = example_meta(frames=FRAMES, channels=CHANNELS, hop_s=0.1, offset_s=-0.05, chunk_clips=4, shard_clips=16)
IDS = [f"Ordner {row % 7}/é 音 {row}.wav@{row * 3000}" for row in range(N)]


def make(path: Path) -> Path:
    """Clip 7 failed, clip 20 is short."""
    rng = np.random.default_rng(0)
    features, n_frames = rng.standard_normal((N, FRAMES, CHANNELS)).astype(np.float32), rng.integers(1, FRAMES + 1, N)
    state, failure = np.full(N, State.DONE, np.uint8), [""] * N
    n_frames[7], state[7], failure[7], failure[20] = 0, State.FAILED, "format: kein Ton – 音", "short: 8 of 9"
    features[np.arange(FRAMES) >= n_frames[:, None]] = 0
    digests = rng.integers(0, 256, (N, 32)).astype(np.uint8)
    write_store(
        path, meta=META, clip_id=IDS, features=features, n_frames=n_frames, state=state, failure=failure,
        samples_digest=digests, file_digest=digests[::-1],
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("made") / "s.zarr")


def tables() -> list[bytes]:
    """The page's tables of bytes: offsets must follow on each other."""
    found = []
    for block in re.findall(r"```text\n at  bytes.*?\n(.*?)```", EXAMPLE, re.DOTALL):
        content = b""
        for line in block.splitlines():
            at, text = re.match(r"([ \d]{3})  ((?:[0-9a-f]{2} )+) ", line + "  ").groups()
            assert int(at) == len(content), line
            content += bytes.fromhex(text)
        found.append(content)
    return found


def test_the_bytes_of_the_page_are_those_of_the_committed_store() -> None:
    shard, ids, clip = tables()
    assert shard == (GOLDEN / "features/c.1.0.0").read_bytes()
    assert (GOLDEN / "clip_id/c/0").read_bytes().startswith(ids)
    assert len(ids) == 27
    store = plain_reader.read_store(GOLDEN)
    assert hashlib.sha256(clip).digest() == store["clip_digest"][5].tobytes()
    assert f"of {len(clip)} bytes" in EXAMPLE
    assert clip.decode("latin-1")[8:27].encode("latin-1").decode() == store["clip_id"][5]


def test_the_digests_of_the_page_are_those_of_the_committed_store() -> None:
    digests = re.findall(r"^    ([0-9a-f]{64})$", EXAMPLE, re.MULTILINE)
    one, rows, content, fingerprint = digests[0], digests[1:8], digests[8], digests[9]
    store = plain_reader.read_store(GOLDEN)
    assert rows == [row.tobytes().hex() for row in store["clip_digest"]]
    assert one == rows[5]
    assert hashlib.sha256(bytes.fromhex("".join(rows))).hexdigest() == content == store["attributes"]["content_digest"]
    (text,) = re.findall(r"```json\n(.*)\n```", EXAMPLE)
    assert text == plain_reader.fingerprint_text(store["attributes"])
    assert hashlib.sha256(text.encode()).hexdigest() == fingerprint == store["attributes"]["fingerprint"]


def test_the_checksums_that_the_page_names() -> None:
    assert f"it is {plain_reader.crc32c(b'123456789'):08x}" in EXAMPLE
    shard = tables()[0]
    for first, last, crc in re.findall(r"crc32c of bytes (\d+) to (\d+): ([0-9a-f]{8})", EXAMPLE):
        assert f"{plain_reader.crc32c(shard[int(first) : int(last) + 1]):08x}" == crc


def test_the_page_names_every_array_and_root_attribute(made: Path) -> None:
    for place in (GOLDEN, made):
        for path in place.glob("*/zarr.json"):
            assert re.search(rf"^\| `{path.parent.name}` \|", PAGE, re.MULTILINE), path.parent.name
    for name in json.loads((made / "zarr.json").read_text())["attributes"]:
        assert re.search(rf"^\| .*`{name}`.* \|", PAGE, re.MULTILINE), name


def test_the_second_reader_stands_alone() -> None:
    """Standard library and numpy, nothing of the package; and not much longer than the page promises."""
    source = (ROOT / "tests" / "plain_reader.py").read_text()
    nodes = list(ast.walk(ast.parse(source)))
    names = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert {str(name).split(".")[0] for name in names} <= {*sys.stdlib_module_names, "numpy"}


@pytest.mark.parametrize("which", ["golden", "new"])
def test_the_second_reader_reads_what_ours_reads(which: str, made: Path) -> None:
    path = GOLDEN if which == "golden" else made
    store = plain_reader.read_store(path)
    with open_store(path) as reader:
        assert np.array_equal(store["features"], reader.read(np.arange(len(reader))))
        assert store["features"].dtype == reader.dtype
        for name in ("clip_id", "failure", "state", "n_frames", "file_digest", "samples_digest"):
            assert np.array_equal(store[name], getattr(reader.arrays, name)), name
    assert "Lied 3" in store["clip_id"][3] if which == "golden" else store["clip_id"].tolist() == IDS


def test_what_a_writer_grew_and_derived_is_read_by_the_second_reader(made: Path, tmp_path: Path) -> None:
    grown = Path(shutil.copytree(made, tmp_path / "grown.zarr"))
    ids = np.array([*IDS, "one more"], object)
    with StoreWriter(grown, META, ids, make_canaries=dict) as writer:
        (shard,) = writer.pending_shards()
        n, empty = len(ids) - 16 * shard, np.zeros((len(ids) - 16 * shard, 32), np.uint8)
        record = writer.target.write(
            shard, clip_ids=ids[16 * shard :].tolist(), features=np.ones((n, FRAMES, CHANNELS), np.float32),
            n_frames=np.full(n, FRAMES), state=np.ones(n, np.uint8), failure=[""] * n,
            file_digest=empty, samples_digest=empty,
        )  # fmt: skip
        writer.record(record)
        writer.finish({})
    assert plain_reader.read_store(grown)["clip_id"][-1] == "one more"
    convert_store(str(made), tmp_path / "half.zarr", dtype="float16", chunk_clips=8, shard_clips=64)
    convert_store(str(made), tmp_path / "there.h5")
    convert_store(str(tmp_path / "there.h5"), tmp_path / "back.zarr")
    assert plain_reader.read_store(tmp_path / "half.zarr")["features"].dtype == np.float16
    right, back = plain_reader.read_store(made), plain_reader.read_store(tmp_path / "back.zarr")
    assert all(np.array_equal(right[name], back[name]) for name in right if name != "attributes")


@pytest.mark.parametrize("name", ["features/c.0.0.0", "clip_id/c/0", "time/c/0", "zarr.json"])
def test_the_second_reader_sees_a_flipped_bit(made: Path, tmp_path: Path, name: str) -> None:
    path = Path(shutil.copytree(made, tmp_path / "s.zarr"))
    content = bytearray((path / name).read_bytes())
    content[40] ^= 4
    (path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"the SHA-256 is another|Expecting|delimiter|Invalid"):
        plain_reader.read_store(path)
    sums = path / "features/SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if not line.endswith(f"  {name}")]
    lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}")
    sums.write_text("\n".join(lines))
    if name != "zarr.json":
        with pytest.raises(ValueError, match="the crc32c is another"):
            plain_reader.read_store(path)


def test_xarray_gives_named_coordinates(made: Path) -> None:
    with xarray.open_zarr(made, consolidated=False) as dataset:
        assert set(dataset.coords) == {"clip_id", "time"}
        assert dataset.features.dims == ("clip", "frame", "channel")
        assert np.allclose(dataset.time.values, -0.05 + 0.1 * np.arange(FRAMES), atol=1e-12)
        assert dataset.time.attrs["units"] == "s"
        picked = dataset.set_xindex("clip_id").features.sel(clip_id=IDS[33])
        with open_store(made) as reader:
            assert np.array_equal(picked.values, reader.read(np.array([33]))[0])
        late = dataset.features.swap_dims(frame="time").sel(time=slice(0.1, 0.3))
        assert late.shape == (N, 2, CHANNELS)


def test_xarray_opens_stores_without_coordinates() -> None:
    with xarray.open_zarr(GOLDEN, consolidated=False) as dataset:
        assert dataset.features.dims == ("clip", "frame", "channel")
        assert float(dataset.features[6, 2, 1]) == 620.5
        assert str(dataset.set_coords("clip_id").clip_id.values[0]) == "é/Lied 0.wav@0"


def test_dask_reads_the_features_in_the_documented_chunks(made: Path) -> None:
    (call,) = re.findall(r"`dask\.array\.from_zarr\(path, component=\"features\", chunks=\((.*?)\)\)`", PAGE)
    features = dask.array.from_zarr(str(made), component="features", chunks=tuple(map(int, call.split(","))))
    assert features.chunks == ((256, N - 256), (FRAMES,), (CHANNELS,))
    with open_store(made) as reader:
        right = reader.read(np.arange(N)).astype(np.float64).mean(axis=(0, 1))
    assert np.allclose(features.astype(np.float64).mean(axis=(0, 1)).compute(), right)


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_times_are_carried_and_verified(made: Path, tmp_path: Path, suffix: str) -> None:
    path, pooled = tmp_path / f"s.{suffix}", tmp_path / f"pooled.{suffix}"
    convert_store(str(made), path)
    pool_store(str(path), pooled, how="mean", hop_s=0.2)
    assert times(path).tolist() == plain_reader.read_store(made)["time"].tolist()
    with open_store(pooled) as reader:
        meta = reader.meta
    assert np.allclose(times(pooled), meta.offset_s + 0.2 * np.arange(3), atol=1e-12)
    assert not verify_store(path, VerifyOptions()).findings
    if suffix == "h5":
        with h5py.File(path, "r+") as file:
            file["time"][2] = 7.0
    else:
        import zarr

        zarr.open_group(path, mode="r+")["time"][2] = 7.0
    assert ("time", f"frames 0 to {FRAMES - 1} do not begin where offset_s and hop_s say") in {
        (finding.file, finding.text) for finding in verify_store(path, VerifyOptions()).findings
    }


@pytest.mark.parametrize("name", ["time/c/0", "time/zarr.json"])
def test_damaged_times_are_named_and_mended(made: Path, tmp_path: Path, name: str) -> None:
    """The root attributes give them, so that no clip has to be made again."""
    path = Path(shutil.copytree(made, tmp_path / "s.zarr"))
    content = bytearray((path / name).read_bytes())
    content[30] ^= 1
    (path / name).write_bytes(content)
    assert name in {finding.file for finding in verify_store(path, VerifyOptions()).findings}
    report = repair_store(path, VerifyOptions())
    assert (report.repairs, report.clips) == (("The digest list is written anew.",), ())
    assert not verify_store(path, VerifyOptions()).findings
    assert times(path).tolist() == times(made).tolist()


def times(path: Path) -> np.ndarray:
    if path.is_dir():
        return np.asarray(plain_reader.read_store(path)["time"])
    with h5py.File(path) as file:
        assert (file["time"].dims[0].label, file["time"].attrs["units"]) == ("frame", "s")
        return np.asarray(file["time"][...])


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_stores_without_times_are_clean_and_grow(tmp_path: Path, suffix: str) -> None:
    path = GOLDEN.with_suffix(f".{suffix}")
    copy = tmp_path / path.name
    shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
    assert not verify_store(copy, VerifyOptions()).findings
    with open_store(copy) as reader:
        meta, ids = reader.meta, np.array([*reader.clip_id.tolist(), "new"], object)
        before = reader.read(np.arange(4))
    with StoreWriter(copy, meta, ids, make_canaries=dict) as writer:
        (shard,) = writer.pending_shards()
        empty = np.zeros((4, 32), np.uint8)
        record = writer.target.write(
            shard, clip_ids=ids[4:].tolist(), features=np.ones((4, 3, 2), np.float32), n_frames=np.full(4, 3),
            state=np.ones(4, np.uint8), failure=[""] * 4, file_digest=empty, samples_digest=empty,
        )  # fmt: skip
        writer.record(record)
        writer.finish({})
    assert not verify_store(copy, VerifyOptions()).findings
    with open_store(copy) as reader:
        assert np.array_equal(reader.read(np.arange(4)), before)
    if suffix == "zarr":
        assert "time" not in plain_reader.read_store(copy)


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
@pytest.mark.parametrize("verb", ["info", "verify", "diff", "subset", "convert", "export"])
def test_every_verb_refuses_a_newer_major_version(tmp_path: Path, suffix: str, verb: str) -> None:
    path = tmp_path / f"s.{suffix}"
    newer(path)
    before = path.read_bytes() if path.is_file() else {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    (tmp_path / "ids.txt").write_text("é/Lied 0.wav@0\n")
    out = str(tmp_path / "out.zarr")
    more = {
        "diff": [str(GOLDEN)], "subset": [out, "--ids", str(tmp_path / "ids.txt")], "convert": [out],
        "export": ["--to", "npz", str(tmp_path / "out.npz")],
    }  # fmt: skip
    done = CliRunner().invoke(cli.east, ["store", verb, str(path), *more.get(verb, [])], obj={})
    assert done.exit_code != 0
    said = done.output + str(done.exception)
    assert re.search(r"format version 2; this program reads up to 1.*upgrade", said, re.DOTALL), said
    assert before == (
        path.read_bytes() if path.is_file() else {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    )
    assert not Path(out).exists()


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_a_writer_leaves_a_newer_store_alone(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"s.{suffix}"
    newer(path)
    with pytest.raises(StoreError, match=r"format version 2; this program reads up to 1"):
        StoreWriter(path, META, np.array(["a"], object), make_canaries=dict)
    assert [place.name for place in tmp_path.iterdir()] == [path.name]
    assert not list(path.glob("features/lease.json"))


def newer(path: Path) -> None:
    """The committed store as a later release might leave it: another version, and things that are not known."""
    source = GOLDEN.with_suffix(path.suffix)
    if source.is_file():
        shutil.copy(source, path)
        with h5py.File(path, "r+") as file:
            file.attrs["format_version"] = "2"
            del file["state"]
        return
    shutil.copytree(source, path)
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"]["format_version"] = 2
    (path / "zarr.json").write_text(json.dumps(document))
    shutil.rmtree(path / "state")
