"""What every store keeps to, in Zarr and in HDF5; raw access bypasses the code under test."""

from __future__ import annotations

import getpass
import json
import pickle
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from badfiles import as_nobody

from pipeline import provenance
from pipeline.errors import StoreError
from pipeline.stores import State, StoreReader, StoreWriter, example_meta, open_store, write_store
from pipeline.stores.pending import Update

N, FRAMES, CHANNELS = 37, 3, 4
META = example_meta(chunk_clips=4, shard_clips=16, dtype="float16")
IDS = [f"Ordner/Lied {row:02d} é 音.wav@{row * 3000}" for row in range(N)]
FAILED, SHORT = 7, 20


def content(seed: int = 0) -> dict[str, object]:
    """Values of ``N`` clips; number 7 failed, number 20 is short, some have few valid frames."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((N, FRAMES, CHANNELS)).astype(np.float16).astype(np.float32)
    n_frames = rng.integers(1, FRAMES + 1, N)
    state, failure = np.full(N, State.DONE, np.uint8), [""] * N
    features[FAILED], n_frames[FAILED], state[FAILED] = 0, 0, State.FAILED
    failure[FAILED], failure[SHORT] = "truncated: 3 of 9 Sätzen – 音が短い", "short: 8 of 9"
    digests = rng.integers(0, 256, (N, 32)).astype(np.uint8)
    return {
        "clip_id": IDS,
        "features": features,
        "n_frames": n_frames,
        "state": state,
        "failure": failure,
        "samples_digest": digests,
        "file_digest": digests[::-1],
    }


@pytest.fixture(params=["zarr", "h5"])
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path, suffix: str) -> Path:
    return tmp_path / f"store.{suffix}"


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both formats, written once; tests work on copies."""
    folder = tmp_path_factory.mktemp("originals")
    for suffix in ("zarr", "h5"):
        write_store(folder / f"store.{suffix}", meta=META, **content())
    return folder


@pytest.fixture
def written(originals: Path, path: Path) -> Path:
    original = originals / path.name
    return Path(shutil.copytree(original, path) if original.is_dir() else shutil.copy(original, path))


@pytest.fixture
def reader(written: Path) -> Iterator[StoreReader]:
    with open_store(written) as found:
        yield found


def change_attribute(path: Path, key: str, value: object) -> None:
    """Root attributes without our code; ``None`` takes one away."""
    if path.is_dir():
        document = json.loads((path / "zarr.json").read_text())
        document["attributes"].pop(key)
        if value is not None:
            document["attributes"][key] = value
        (path / "zarr.json").write_text(json.dumps(document))
        return
    with h5py.File(path, "r+") as file:
        del file.attrs[key]
        if value is not None:
            file.attrs[key] = json.dumps(value)


def grow(path: Path, ids: list[str], *, seed: int = 3, retry_failed: bool = False) -> list[int]:
    """Write what is pending, as a run does; returns the shards that were made."""
    features = np.random.default_rng(seed).standard_normal((len(ids), FRAMES, CHANNELS)).astype(np.float32)
    update = Update(retry_failed=retry_failed)
    with StoreWriter(path, META, np.array(ids, object), make_canaries=dict, update=update) as writer:
        made = writer.pending_shards()
        for shard in made:
            rows = slice(shard * 16, shard * 16 + 16)
            n = len(ids[rows])
            done, digests = np.full(n, State.DONE), np.zeros((n, 32), np.uint8)
            record = writer.target.write(
                shard, clip_ids=ids[rows], features=features[rows], n_frames=np.full(n, FRAMES), state=done,
                failure=[""] * n, file_digest=digests, samples_digest=digests,
            )  # fmt: skip
            writer.record(record)
        writer.finish({"time": "now"})
    return made


def test_values_read_back_in_any_order(reader: StoreReader) -> None:
    features = np.asarray(content()["features"], np.float16)
    for rows in (np.arange(N), np.arange(N)[::-1], np.array([5, 36, 5, 0, 21]), np.array([], int)):
        assert np.array_equal(reader.read(rows), features[rows])
    assert reader.read(np.arange(N)).dtype == np.float16
    with pytest.raises(IndexError, match=r"within 0\.\.36"):
        reader.read(np.array([N]))


def test_ids_states_texts_and_digests(reader: StoreReader) -> None:
    values = content()
    for name in ("clip_id", "n_frames", "state", "failure", "samples_digest"):
        assert np.array_equal(getattr(reader, name), np.asarray(values[name]))
    assert np.array_equal(reader.arrays.file_digest, values["file_digest"])
    assert reader.meta.complete
    assert reader.shape == (N, FRAMES, CHANNELS)
    assert sum(len(block) for block in reader.blocks()) == N


def test_content_digest_is_the_same_in_both_formats_and_any_sizes(tmp_path: Path) -> None:
    found = set()
    for name, sizes in {"a.zarr": (4, 16), "b.h5": (4, 16), "c.zarr": (2, 32), "d.h5": (16, 16)}.items():
        meta = example_meta(chunk_clips=sizes[0], shard_clips=sizes[1], dtype="float16")
        found.add(write_store(tmp_path / name, meta=meta, **content()).content_digest)
    assert len(found) == 1
    assert write_store(tmp_path / "e.zarr", meta=META, **content(1)).content_digest not in found


def test_new_clips_are_added_and_only_the_open_shard_is_made_again(written: Path) -> None:
    before = open_store(written).read(np.arange(32))
    more = [*IDS, *(f"new {row}" for row in range(30))]
    assert grow(written, more) == [2, 3, 4]
    with open_store(written) as reader:
        assert list(reader.clip_id) == more
        assert np.array_equal(reader.read(np.arange(32)), before)
        assert (reader.state == State.DONE).sum() == len(more) - 1
        assert len(reader.meta.runs) == 2
    assert grow(written, more) == []
    assert not list(written.parent.glob("*.partial"))
    assert not list(written.parent.glob(".*.tmp"))


def test_failed_clips_are_tried_again_only_when_asked(written: Path) -> None:
    assert grow(written, IDS) == []
    assert grow(written, IDS, retry_failed=True) == [0]
    assert (open_store(written).state == State.DONE).all()


def test_grown_store_has_the_digest_of_one_made_at_once(tmp_path: Path, suffix: str) -> None:
    ids = [f"clip {row}" for row in range(50)]
    for stop in (10, 33, 50):
        grow(tmp_path / f"steps.{suffix}", ids[:stop])
    grow(tmp_path / f"once.{suffix}", ids)
    steps, once = (open_store(tmp_path / f"{name}.{suffix}") for name in ("steps", "once"))
    assert np.array_equal(steps.read(np.arange(50)), once.read(np.arange(50)))
    assert steps.meta.content_digest == once.meta.content_digest


@pytest.mark.parametrize(("value", "words"), [(np.nan, "is nan: the ext"), (np.inf, "is inf"), (-np.inf, "is inf")])
def test_values_that_are_no_numbers_are_refused(path: Path, value: float, words: str) -> None:
    values = content()
    features = np.asarray(values["features"])
    features[9, 1, 2] = value
    with pytest.raises(StoreError, match=words) as caught:
        write_store(path, meta=META, **values)
    assert repr(IDS[9]) in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize("value", [65_505.0, -1e6])
def test_values_beyond_float16_name_clip_and_float32(path: Path, value: float) -> None:
    values = content()
    np.asarray(values["features"])[30, 0, 0] = value
    with pytest.raises(StoreError, match=r"which float16 \(up to 65504\) cannot hold.*--dtype float32") as caught:
        write_store(path, meta=META, **values)
    assert repr(IDS[30]) in str(caught.value)
    assert not list(path.parent.iterdir())
    write_store(path, meta=example_meta(chunk_clips=4, shard_clips=16), **values)
    assert open_store(path).read(np.array([30]))[0, 0, 0] == np.float32(value)


@pytest.mark.parametrize("bad", ["twice", "nul\0", "bad \udcff name", "", "x" * 70_000], ids=range(5))
def test_ids_that_no_store_can_keep_are_refused(path: Path, bad: str) -> None:
    ids = ["twice", bad]
    words = "'twice' stands twice" if bad == "twice" else "not text that a store can keep"
    with pytest.raises(StoreError, match=words):
        StoreWriter(path, META, np.array(ids, object), make_canaries=dict)
    assert not list(path.parent.iterdir())


def test_other_settings_are_named_with_both_values(written: Path) -> None:
    other = example_meta(chunk_clips=4, shard_clips=16, dtype="float32", hop_s=0.5)
    with pytest.raises(
        StoreError, match=r"hop_s is 1\.0 there and 0\.5 here; .*dtype is 'float16' there and 'float32'"
    ):
        StoreWriter(written, other, np.array(IDS, object), make_canaries=dict)


def test_read_only_target_is_an_error_in_words(written: Path, suffix: str) -> None:
    assert written.exists()  # and everything is imported, which another user may not be able to do
    values = content()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        with as_nobody(), pytest.raises(StoreError, match=r"cannot be written: permission denied\. Check who owns"):
            write_store(Path(folder) / f"store.{suffix}", meta=META, **values)


@pytest.mark.parametrize("made", ["nothing", "text", "folder", "bytes"])
def test_what_is_no_store_says_so(path: Path, made: str) -> None:
    if made == "folder":
        path.mkdir()
    elif made != "nothing":
        path.write_bytes(b"words, no store" if made == "text" else bytes(10_000))
    with pytest.raises(StoreError, match=r"no store at|cannot be opened"):
        open_store(path)


def test_zarr_of_somebody_else_is_not_ours(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "theirs.zarr", mode="w", zarr_format=3)
    with pytest.raises(StoreError, match="is not a feature store"):
        open_store(tmp_path / "theirs.zarr")
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(StoreError, match="is not a feature store"):
        open_store(tmp_path / "theirs.h5")


def test_newer_format_is_refused(written: Path) -> None:
    change_attribute(written, "format_version", 2)
    with pytest.raises(StoreError, match=r"format version 2; this program reads up to 1.*upgrade"):
        open_store(written)


def test_missing_attribute_is_named(written: Path) -> None:
    change_attribute(written, "hop_s", None)
    with pytest.raises(StoreError, match="lacks the root attributes hop_s"):
        open_store(written)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("frames", 1 << 50, "frames is"),
        ("frames", 1 << 32, "beyond 4 GiB"),
        ("frames", 5, "expected|promise"),
        ("channels", -1, "channels is -1"),
        ("channels", True, "channels is True"),
        ("dtype", "object", "only float16 and float32"),
        ("dtype", "float32", "promise"),
        ("clip_s", float("inf"), "clip_s is inf|Infinity is no number"),
        ("shard_clips", 18, "no whole number of chunks"),
        ("extractor", 3, "extractor is not a short text"),
        ("card", [1], "card is not a table"),
        ("rate_hz", "x", "rate_hz is 'x'"),
    ],
)
def test_absurd_attributes_are_refused(written: Path, key: str, value: object, words: str) -> None:
    change_attribute(written, key, value)
    with pytest.raises(StoreError, match=words):
        open_store(written)


def test_forged_clip_count_is_refused_before_it_is_allocated(tmp_path: Path) -> None:
    write_store(tmp_path / "s.zarr", meta=META, **content())
    for name in ("clip_id", "failure", "n_frames", "state", "file_digest", "samples_digest", "clip_digest", "features"):
        document = tmp_path / "s.zarr" / name / "zarr.json"
        value = json.loads(document.read_text())
        value["shape"][0] = 1 << 40
        document.write_text(json.dumps(value))
    with pytest.raises(StoreError, match=r"claims 1,099,511,627,776 clips|1099511627776.*sensible"):
        open_store(tmp_path / "s.zarr")


def test_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    for name in ("s.h5", "other.h5"):
        write_store(tmp_path / name, meta=META, **content())
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        del file["features"]
        file["features"] = h5py.ExternalLink("other.h5", "/features")
    with pytest.raises(StoreError, match="no usable array 'features'"):
        open_store(tmp_path / "s.h5")


def test_damage_never_shows_as_anything_but_a_store_error(written: Path) -> None:
    """Bytes of every file are changed at random: the values are right, or an error says what is wrong."""
    rng, right = np.random.default_rng(0), np.asarray(content()["features"], np.float16)
    files = [written] if written.is_file() else [file for file in written.rglob("*") if file.is_file()]
    for _ in range(100):
        file = files[rng.integers(len(files))]
        before = file.read_bytes()
        changed = bytearray(before)
        for _ in range(rng.integers(1, 4)):
            changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
        file.write_bytes(changed)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with open_store(written) as reader:
                    found = reader.read(np.arange(len(reader)))
                    reader.canaries()
            assert found.shape != right.shape or np.array_equal(found, right)
        except StoreError:
            pass
        file.write_bytes(before)


def test_xarray_names_the_dimensions(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    write_store(tmp_path / "s.zarr", meta=META, **content())
    with xarray.open_zarr(tmp_path / "s.zarr", consolidated=False) as dataset:
        assert dict(dataset.features.sizes) == {"clip": N, "frame": FRAMES, "channel": CHANNELS}
        assert dataset.n_frames.dims == ("clip",)
        assert dataset.file_digest.dims == ("clip", "byte")
        assert str(dataset.clip_id.values[3]) == IDS[3]
        assert np.array_equal(dataset.features.values, np.asarray(content()["features"], np.float16))


def test_plain_zarr_and_h5py_read_it(written: Path) -> None:
    right = content()
    if written.is_dir():
        group = zarr.open_group(written, mode="r", use_consolidated=False)
        features, ids = group["features"][...], [str(text) for text in group["clip_id"][...]]
    else:
        with h5py.File(written, "r") as file:
            features, ids = file["features"][...], [text.decode() for text in file["clip_id"][...]]
            assert [dimension.label for dimension in file["features"].dims] == ["clip", "frame", "channel"]
            assert json.loads(file.attrs["hop_s"]) == META.hop_s
    assert np.array_equal(features, np.asarray(right["features"], np.float16))
    assert ids == IDS


def test_nothing_tells_who_made_it(written: Path) -> None:
    grow(written, [*IDS, "one more"])
    with StoreWriter(written, META, np.array([*IDS, "one more", "two"], object), make_canaries=dict) as writer:
        digests, zeros = np.zeros((7, 32), np.uint8), np.zeros((7, FRAMES, CHANNELS), np.float32)
        record = writer.target.write(
            2, clip_ids=[*IDS, "one more", "two"][32:], features=zeros, n_frames=np.zeros(7), state=np.ones(7),
            failure=[""] * 7, file_digest=digests, samples_digest=digests,
        )  # fmt: skip
        writer.record(record)
        places = [writer.work / "features" / name for name in ("lease.json", "journal.jsonl")]
        text = b"".join(place.read_bytes() for place in places)
        writer.finish(provenance.describe())
    files = [written] if written.is_file() else [file for file in written.rglob("*") if file.is_file()]
    text += b"".join(file.read_bytes() for file in files)
    for secret in {platform.node(), getpass.getuser(), str(Path.cwd()), str(written.parent), str(Path.home()) + "/"}:
        if len(secret) > 3:
            assert secret.encode() not in text, secret


def test_a_reader_travels_to_other_processes(reader: StoreReader) -> None:
    with pickle.loads(pickle.dumps(reader)) as twin:
        assert np.array_equal(twin.read(np.arange(N)), reader.read(np.arange(N)))


def test_many_processes_read_at_once(written: Path) -> None:
    """Forked after opening, as data loaders do, and opened apart."""
    code = (
        "import os, sys, numpy as np\n"
        "from pipeline.stores import open_store\n"
        "reader = open_store(sys.argv[1]); rows = np.arange(len(reader)); right = reader.read(rows[:3])\n"
        "children = []\n"
        "for _ in range(4):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        same = all((reader.read(rows)[:3] == right).all() for _ in range(20))\n"
        "        os._exit(0 if same and len(open_store(sys.argv[1])) == len(rows) else 1)\n"
        "    children.append(child)\n"
        "sys.exit(max(os.waitpid(child, 0)[1] for child in children))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, written], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def few_files() -> Iterator[int]:
    """A limit of open files under which a reader maps few shards at a time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    yield 256
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _one_clip_shards(path: Path, n: int) -> np.ndarray:
    meta = example_meta(chunk_clips=1, shard_clips=1, dtype="float16")
    features = np.arange(n, dtype=np.float32)[:, None, None] * np.ones((1, FRAMES, CHANNELS), np.float32)
    ids = [f"clip {row}" for row in range(n)]
    write_store(path, meta=meta, clip_id=ids, features=features, n_frames=np.full(n, FRAMES))
    return features.astype(np.float16)


def test_more_shards_than_file_descriptors(tmp_path: Path, few_files: int) -> None:
    features = _one_clip_shards(tmp_path / "s.zarr", 600)
    order = np.random.default_rng(0).permutation(600)
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    with open_store(tmp_path / "s.zarr") as reader:
        assert np.array_equal(reader.read(order), features[order])
        for row in range(100):
            assert np.array_equal(reader.read(np.array([row])), features[row : row + 1])
        if before:
            assert len(list(Path("/proc/self/fd").iterdir())) - before <= few_files // 8


def test_threads_read_while_others_let_shards_go(tmp_path: Path, few_files: int) -> None:
    """Copies are made outside the lock: what they read must stay mapped."""
    features = _one_clip_shards(tmp_path / "s.zarr", 200)
    with open_store(tmp_path / "s.zarr") as reader, ThreadPoolExecutor(8) as pool:
        draws = [np.random.default_rng(seed).integers(0, 200, 24) for seed in range(300)]
        for rows, found in zip(draws, pool.map(reader.read, draws), strict=True):
            assert np.array_equal(found, features[rows])


@pytest.mark.parametrize("format", ["zarr", "h5"])
def test_a_store_that_was_exchanged_is_not_read_on(tmp_path: Path, format: str) -> None:
    """As ``--removed drop`` exchanges it: the rows of the new one are other clips."""
    path, other = tmp_path / f"s.{format}", tmp_path / f"other.{format}"
    features = _one_clip_shards(path, 6)
    _one_clip_shards(other, 5)
    with open_store(path) as reader:
        reader.read(np.array([0]))
        path.rename(tmp_path / f"old.{format}")
        other.rename(path)
        if format == "h5":
            assert np.array_equal(reader.read(np.array([4])), features[4:5])  # the file that was opened is still there
            reader.close()
        with pytest.raises(StoreError, match="was replaced by another store since it was opened"):
            reader.read(np.array([3]))


def test_a_child_of_a_process_in_the_middle_of_a_read(tmp_path: Path) -> None:
    _one_clip_shards(tmp_path / "s.zarr", 6)
    code = (
        "import os, signal, sys, threading, numpy as np; from pipeline.stores import open_store\n"
        "reader = open_store(sys.argv[1])\n"
        "load, inside, go = reader._chunks._load, threading.Event(), threading.Event()\n"
        "def slow(*about): inside.set(); go.wait(); yield from load(*about)\n"
        "reader._chunks._load = slow\n"
        "threading.Thread(target=reader.read, args=[np.array([1])]).start(); inside.wait()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    signal.alarm(20); reader._chunks._load = load\n"
        "    os._exit(0 if reader.read(np.array([3]))[0, 0, 0] == 3 else 1)\n"
        "status = os.waitpid(child, 0)[1]; go.set(); sys.exit(status != 0)\n"
    )
    call = [sys.executable, "-c", code, tmp_path / "s.zarr"]
    done = subprocess.run(call, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("format", ["zarr", "h5"])
@pytest.mark.parametrize("clip_values", [1, 7, 40_000])
def test_any_width_of_clips_and_any_order(tmp_path: Path, format: str, clip_values: int) -> None:
    n, rng = 21, np.random.default_rng(0)
    meta = example_meta(frames=1, channels=clip_values, dtype="float32", chunk_clips=4, shard_clips=8)
    features = rng.standard_normal((n, 1, clip_values)).astype(np.float32)
    path = tmp_path / f"s.{format}"
    write_store(path, meta=meta, clip_id=[f"c{i}" for i in range(n)], features=features, n_frames=np.ones(n, int))
    with open_store(path) as reader:
        for rows in (np.array([], int), np.array([20]), np.array([5, 5, 0, 20, 5]), rng.permutation(n)):
            found = reader.read(rows)
            assert found.flags.writeable
            assert found.tobytes() == features[rows].tobytes()


def test_foreign_layout_is_read_through_zarr(tmp_path: Path) -> None:
    """Compressed features, as another program may have rewritten them."""
    write_store(tmp_path / "s.zarr", meta=META, **content())
    shutil.rmtree(tmp_path / "s.zarr" / "features")
    group = zarr.open_group(tmp_path / "s.zarr", mode="r+")
    array = group.create_array("features", shape=(N, FRAMES, CHANNELS), dtype="float16", chunks=(5, FRAMES, CHANNELS))
    array[...] = np.asarray(content()["features"], np.float16)
    with open_store(tmp_path / "s.zarr") as reader:
        rows = np.array([36, 3, 3, 0])
        assert np.array_equal(reader.read(rows), np.asarray(content()["features"], np.float16)[rows])
