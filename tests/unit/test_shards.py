from __future__ import annotations

import hashlib
import json
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
import zarr

from pipeline.errors import StoreError
from pipeline.stores import example_meta, write_store
from pipeline.stores.schema import choose_sizes
from pipeline.stores.shards import MappedShard, shard_key, write_shard

CHUNK, SHARD, SHAPE = 2, 8, (2, 3, 4)
INDEX_BYTES = SHARD // CHUNK * 16 + 4


def features(clips: int) -> np.ndarray:
    return np.random.default_rng(clips).standard_normal((clips, 3, 4)).astype("<f2")


def make(folder: Path, clips: int = 7) -> Path:
    path = folder / shard_key(0)
    write_shard(path, features(clips), chunk_clips=CHUNK, shard_clips=SHARD)
    return path


def mapped(path: Path) -> MappedShard:
    return MappedShard(path, chunk_shape=SHAPE, shard_clips=SHARD, dtype=np.dtype(np.float16))


def read_all(path: Path) -> np.ndarray:
    shard = mapped(path)
    return np.concatenate([shard.chunk(number) for number in range(SHARD // CHUNK)])


def with_index(content: bytes, index: list[tuple[int, int]]) -> bytes:
    """A shard whose index was replaced, its checksum made right."""
    tail = np.array(index, "<u8").tobytes()
    return content[:-INDEX_BYTES] + tail + int(google_crc32c.value(tail)).to_bytes(4, "little")


@pytest.mark.parametrize("clips", [1, 2, 3, 7, 8])
def test_zarr_itself_reads_the_same_bytes(tmp_path: Path, clips: int) -> None:
    meta = example_meta(chunk_clips=CHUNK, shard_clips=SHARD, dtype="float16")
    ids = [str(row) for row in range(clips)]
    values = features(clips).astype(np.float32)
    write_store(tmp_path / "s.zarr", meta=meta, clip_id=ids, features=values, n_frames=np.full(clips, 3))
    through_zarr = zarr.open_array(tmp_path / "s.zarr" / "features", mode="r")[...]
    assert np.array_equal(through_zarr, features(clips))
    assert np.array_equal(read_all(tmp_path / "s.zarr" / "features" / shard_key(0))[:clips], features(clips))


def test_rows_that_were_not_there_are_zero(tmp_path: Path) -> None:
    found = read_all(make(tmp_path, clips=3))
    assert np.array_equal(found[:3], features(3))
    assert not found[3:].any()


def test_digest_is_that_of_the_file_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / shard_key(5)
    digest = write_shard(path, features(8), chunk_clips=CHUNK, shard_clips=SHARD)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(tmp_path.iterdir()) == [path]
    assert path.name == "c.5.0.0"


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = make(tmp_path)
    before = path.read_bytes()
    for place in range(len(before)):
        changed = bytearray(before)
        changed[place] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(StoreError, match=r"checksum of (chunk \d+ \(rows \d+ to \d+|the shard's index)"):
            read_all(path)


def test_damage_names_its_chunk_and_leaves_the_others_readable(tmp_path: Path) -> None:
    path = make(tmp_path)
    changed = bytearray(path.read_bytes())
    changed[(2 * 3 * 4 * 2 + 4) + 5] ^= 1
    path.write_bytes(changed)
    shard = mapped(path)
    assert np.array_equal(shard.chunk(0), features(7)[:2])
    with pytest.raises(StoreError, match=r"chunk 1 \(rows 2 to 3 of the shard\) is wrong"):
        shard.chunk(1)
    assert np.array_equal(shard.chunk(2), features(7)[4:6])


def test_every_cut_is_found(tmp_path: Path) -> None:
    path = make(tmp_path)
    before = path.read_bytes()
    for keep in [*range(0, len(before), 7), len(before) - 1]:
        path.write_bytes(before[:keep])
        with pytest.raises(StoreError, match=r"too few for a shard|checksum of the shard's index"):
            mapped(path)


@pytest.mark.parametrize("offset", [1 << 40, (1 << 64) - 60, 52 * 4, 52 * 3 + 1])
def test_forged_offsets_are_refused(tmp_path: Path, offset: int) -> None:
    path = make(tmp_path)
    path.write_bytes(with_index(path.read_bytes(), [(0, 52), (52, 52), (104, 52), (offset, 52)]))
    with pytest.raises(StoreError, match="chunk 3 lies outside the shard"):
        mapped(path)


def test_forged_lengths_are_refused(tmp_path: Path) -> None:
    path = make(tmp_path)
    path.write_bytes(with_index(path.read_bytes(), [(0, 52), (52, 53), (104, 52), (156, 52)]))
    with pytest.raises(StoreError, match="chunk 1 lies outside"):
        mapped(path)


def test_chunks_in_another_order_are_read(tmp_path: Path) -> None:
    """The specification allows any order; another program may write one."""
    path = make(tmp_path, clips=8)
    path.write_bytes(with_index(path.read_bytes(), [(156, 52), (0, 52), ((1 << 64) - 1, (1 << 64) - 1), (52, 52)]))
    right = np.concatenate([features(8)[6:8], features(8)[:2], np.zeros((2, 3, 4)), features(8)[2:4]])
    assert np.array_equal(read_all(path), right)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = make(tmp_path)
    before = path.read_bytes()
    with pytest.raises(IndexError):
        write_shard(path, features(9), chunk_clips=CHUNK, shard_clips=SHARD)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("n_clips", [1, 100, 2_350, 10**6, 10**8])
@pytest.mark.parametrize("clip_bytes", [4, 40_000, 5 << 20, 1 << 31])
def test_sizes_are_powers_of_two_and_bounded(n_clips: int, clip_bytes: int) -> None:
    chunk, shard = choose_sizes(n_clips, clip_bytes)
    assert shard % chunk == 0
    assert chunk * clip_bytes <= 1 << 18 or chunk == 1
    assert shard * clip_bytes <= 1 << 29 or shard == 1


def test_metadata_of_features_follow_the_specification(tmp_path: Path) -> None:
    meta = example_meta(chunk_clips=CHUNK, shard_clips=SHARD, dtype="float16")
    write_store(tmp_path / "s.zarr", meta=meta, clip_id=["a"], features=np.zeros((1, 3, 4)), n_frames=np.array([3]))
    document = json.loads((tmp_path / "s.zarr" / "features" / "zarr.json").read_text())
    assert document["zarr_format"] == 3
    assert document["dimension_names"] == ["clip", "frame", "channel"]
    assert [codec["name"] for codec in document["codecs"]] == ["sharding_indexed"]


@pytest.mark.parametrize("n_clips", [10**6, 10**7, 10**8])
def test_very_many_clips_lie_in_thousands_of_files_not_in_hundreds_of_thousands(n_clips: int) -> None:
    _, shard = choose_sizes(n_clips, 4096)
    assert n_clips / shard < 25_000
    assert shard <= 4096
