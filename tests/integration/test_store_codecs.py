"""Compressed and rounded copies: lossless ones equal to the bit, lossy ones with their error measured."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import cli
from pipeline.errors import SettingError, StoreError
from pipeline.stores import StoreMeta, StoreWriter, example_meta, open_store, write_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.making.convert import convert_store
from pipeline.stores.making.lossy import round_bits
from pipeline.stores.sharing.pull import pull_store
from pipeline.stores.sharing.push import push_store

N, FRAMES, CHANNELS = 40, 5, 16
IDS = [f"c{row}" for row in range(N)]
FEATURES = np.random.default_rng(0).standard_normal((N, FRAMES, CHANNELS)).astype(np.float32)
FEATURES[:, :, 8:] = 0  # something to compress
FEATURES[3, 2] = 0


def make(path: Path, **changes: object) -> StoreMeta:
    sizes = {"frames": FRAMES, "channels": CHANNELS, "hop_s": 0.6, "chunk_clips": 4, "shard_clips": 8}
    meta = example_meta(**(sizes | changes))
    return write_store(path, meta=meta, clip_id=IDS, features=FEATURES, n_frames=np.full(N, FRAMES))


@pytest.fixture
def store(tmp_path: Path) -> str:
    make(tmp_path / "s.zarr")
    return str(tmp_path / "s.zarr")


@pytest.mark.parametrize(("codec", "suffix"), [("zstd", "zarr"), ("zstd:9", "zarr"), ("gzip", "h5"), ("gzip:1", "h5")])
def test_lossless_codecs_keep_every_bit(store: str, tmp_path: Path, codec: str, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    meta, error = convert_store(store, out, codec=codec)
    with open_store(store) as source, open_store(out) as reader:
        assert (meta.content_digest, meta.fingerprint) == (source.meta.content_digest, source.meta.fingerprint)
        rows = np.random.default_rng(1).permutation(N)
        assert np.array_equal(reader.read(rows), FEATURES[rows])
    assert error.text() == "Values are equal to the bit."
    assert not verify_store(out, VerifyOptions()).findings
    plain = tmp_path / f"plain.{suffix}"
    assert convert_store(str(out), plain)[0].content_digest == meta.content_digest
    assert _feature_bytes(out) < 0.8 * _feature_bytes(plain)


def _feature_bytes(path: Path) -> int:
    if path.is_file():
        with h5py.File(path) as file:
            return int(file["features"].id.get_storage_size())
    return sum(file.stat().st_size for file in (path / "features").glob("c.*"))


def test_others_read_it_with_nothing_of_ours(store: str, tmp_path: Path) -> None:
    convert_store(store, tmp_path / "z.zarr", codec="zstd")
    convert_store(store, tmp_path / "g.h5", codec="gzip")
    assert np.array_equal(zarr.open_group(tmp_path / "z.zarr", mode="r")["features"][...], FEATURES)
    with h5py.File(tmp_path / "g.h5") as file:
        assert (file["features"].compression, file["features"].shuffle, file["features"].fletcher32) == (
            "gzip",
            True,
            True,
        )
        assert np.array_equal(file["features"][...], FEATURES)


@pytest.mark.parametrize(("codec", "suffix"), [("zstd", "zarr"), ("gzip", "h5")])
def test_what_grows_keeps_its_codec(store: str, tmp_path: Path, codec: str, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    meta, _ = convert_store(store, out, codec=codec)
    more = np.array([*IDS, *(f"new {row}" for row in range(9))], object)
    features = np.concatenate([FEATURES, FEATURES[:9]])
    with StoreWriter(out, meta, more, make_canaries=dict) as writer:
        for shard in writer.pending_shards():
            rows = np.arange(shard * 8, min(shard * 8 + 8, len(more)))
            digests = np.zeros((len(rows), 32), np.uint8)
            record = writer.target.write(
                shard, clip_ids=more[rows].tolist(), features=features[rows], n_frames=np.full(len(rows), FRAMES),
                state=np.ones(len(rows), np.uint8), failure=[""] * len(rows), file_digest=digests,
                samples_digest=digests,
            )  # fmt: skip
            writer.record(record)
        writer.finish({})
    assert not verify_store(out, VerifyOptions()).findings
    with open_store(out) as reader:
        assert np.array_equal(reader.read(np.arange(len(more))), features)
    if suffix == "h5":
        with h5py.File(out) as file:
            assert file["features"].compression == "gzip"


def test_a_layout_of_others_is_not_added_to(store: str, tmp_path: Path) -> None:
    meta, _ = convert_store(store, tmp_path / "z.zarr", codec="zstd")
    place = tmp_path / "z.zarr/features/zarr.json"
    document = json.loads(place.read_text())
    document["codecs"][0]["configuration"]["codecs"][1] = {"name": "gzip", "configuration": {"level": 5}}
    place.write_text(json.dumps(document))
    with (
        StoreWriter(tmp_path / "z.zarr", meta, np.array([*IDS, "new"], object), make_canaries=dict) as writer,
        pytest.raises(StoreError, match=r"in another layout \(bytes, gzip, crc32c\).*east store convert"),
    ):
        _ = writer.target


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_every_flipped_bit_of_compressed_features_is_found(store: str, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out.{suffix}"
    convert_store(store, out, codec="zstd" if suffix == "zarr" else "gzip")
    files = [out] if out.is_file() else sorted((out / "features").glob("c.*"))
    rng = np.random.default_rng(0)
    for number in range(12):
        file = files[number % len(files)]
        before = file.read_bytes()
        content = bytearray(before)
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        file.write_bytes(content)
        assert verify_store(out, VerifyOptions()).findings
        file.write_bytes(before)


def test_a_compressed_store_travels(store: str, tmp_path: Path) -> None:
    meta, _ = convert_store(store, tmp_path / "z.zarr", codec="zstd")
    push_store(tmp_path / "z.zarr", f"{tmp_path}/shared/z.zarr")
    pull_store(f"{tmp_path}/shared/z.zarr", tmp_path / "back.zarr")
    with open_store(tmp_path / "back.zarr") as reader:
        assert reader.meta.content_digest == meta.content_digest
        assert np.array_equal(reader.read(np.arange(N)), FEATURES)


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 7), ("float32", 22), ("float16", 4)])
def test_rounding_is_measured_and_recorded(store: str, tmp_path: Path, dtype: str, bits: int) -> None:
    meta, error = convert_store(store, tmp_path / "out.zarr", dtype=dtype, codec=f"bitround:{bits}")  # type: ignore[arg-type]
    with open_store(tmp_path / "out.zarr") as reader:
        kept = reader.read(np.arange(N)).astype(np.float64)
    wanted = FEATURES.astype(np.float64)
    assert error.absolute == np.abs(kept - wanted).max() > 0
    assert error.relative == error.absolute / np.abs(wanted).max()
    norms = np.linalg.norm(kept, axis=2) * np.linalg.norm(wanted, axis=2)
    cosines = (kept * wanted).sum(axis=2)[norms > 0] / norms[norms > 0]
    assert error.cosine == pytest.approx(cosines.min(), abs=1e-12)
    assert error.cosine < 1
    assert meta.derived["settings"]["error"] == {
        "absolute": error.absolute,
        "relative": error.relative,
        "cosine": error.cosine,
    }
    assert np.abs(kept - wanted).max() <= 2.0 ** -(bits + 1) * 8 * 1.01
    assert meta.card["parameters"]["bitround"] == bits
    assert "smallest cosine similarity of a frame 1 - " in error.text()
    with open_store(store) as source:
        assert meta.fingerprint != source.meta.fingerprint
    assert not verify_store(tmp_path / "out.zarr", VerifyOptions()).findings


def test_numbers_that_no_extraction_gives_have_a_fingerprint_of_their_own(store: str, tmp_path: Path) -> None:
    """float16 from float32 is what an extraction stores; float32 from float16 is not."""
    half, _ = convert_store(store, tmp_path / "half.zarr", dtype="float16")
    assert half.fingerprint == make(tmp_path / "extracted.zarr", dtype="float16").fingerprint
    back, error = convert_store(str(tmp_path / "half.zarr"), tmp_path / "back.zarr", dtype="float32")
    assert not error.absolute
    with open_store(store) as source:
        assert back.fingerprint != source.meta.fingerprint


def test_rounding_bits() -> None:
    """To the nearest, ties to even, the sign kept; what would become infinite is cut."""
    values = np.array([1.0, 1.25, 1.26, -1.75, 3.1, 0.0, np.finfo(np.float32).max], np.float32)
    assert round_bits(values, 1)[:6].tolist() == [1.0, 1.0, 1.5, -2.0, 3.0, 0.0]
    assert np.isfinite(round_bits(values, 1)).all()
    random = np.random.default_rng(0).standard_normal(10_000).astype(np.float16)
    assert (np.abs(round_bits(random, 6) - random) <= np.abs(random) * 2.0**-7).all()


@pytest.mark.parametrize(
    ("codec", "out", "message"),
    [("lz4", "o.zarr", r"a Zarr store is written with none or zstd"), ("zstd", "o.h5", r"HDF5 file .* none or gzip"),
     ("zstd:99", "o.zarr", r"zstd has the levels 1 to 22"), ("gzip", "o.zarr", r"a Zarr store is written with"),
     ("bitround", "o.zarr", r"say how many bits"), ("bitround:23", "o.zarr", r"float32 keeps 1 to 22 bits"),
     ("bitround:x", "o.zarr", r"say how many bits")],
)  # fmt: skip
def test_codecs_that_are_refused(store: str, tmp_path: Path, codec: str, out: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        convert_store(store, tmp_path / out, codec=codec)
    assert not (tmp_path / out).exists()


def test_values_beyond_the_type_are_refused_not_cut(tmp_path: Path) -> None:
    features = FEATURES.copy()
    features[7, 0, 0] = 1e6
    meta = example_meta(frames=FRAMES, channels=CHANNELS, hop_s=0.6)
    write_store(tmp_path / "s.zarr", meta=meta, clip_id=IDS, features=features, n_frames=np.full(N, FRAMES))
    with pytest.raises(StoreError, match=r"clip 'c7' has a feature of magnitude 1e\+06"):
        convert_store(str(tmp_path / "s.zarr"), tmp_path / "o.zarr", dtype="float16", codec="bitround:4")


def test_command(store: str, tmp_path: Path) -> None:
    arguments = ["store", "convert", store, str(tmp_path / "o.zarr"), "--codec", "bitround:7"]
    done = CliRunner().invoke(cli.east, arguments, obj={})
    assert done.exit_code == 0, done.output
    assert "smallest cosine similarity" in done.output
