from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pipeline.stores import StoreWriter, example_meta, write_store
from pipeline.stores.sums import SUMS, read

META = example_meta(chunk_clips=2, shard_clips=4)
IDS = [f"clip {row}" for row in range(10)]


def check(store: Path) -> None:
    """``sha256sum`` itself, in the store's folder; and every file is on the list."""
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    done = subprocess.run(["sha256sum", "-c", "--quiet", SUMS], cwd=store, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    files = {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file()}
    assert files - set(read(store)) == {SUMS}


def record(writer: StoreWriter, shard: int, value: float) -> None:
    ids = writer.arrays.clip_id.tolist()[shard * 4 : shard * 4 + 4]
    n, digests = len(ids), np.zeros((len(ids), 32), np.uint8)
    writer.record(
        writer.target.write(
            shard,
            clip_ids=ids,
            features=np.full((n, 3, 4), value, np.float32),
            n_frames=np.full(n, 3),
            state=np.ones(n, np.uint8),
            failure=[""] * n,
            file_digest=digests,
            samples_digest=digests,
        )
    )


def test_list_holds_for_a_new_store(tmp_path: Path) -> None:
    write_store(tmp_path / "s.zarr", meta=META, clip_id=IDS, features=np.ones((10, 3, 4)), n_frames=np.full(10, 3))
    check(tmp_path / "s.zarr")


def test_list_holds_when_a_shard_is_made_again_and_the_run_is_killed(tmp_path: Path) -> None:
    """The shard's old digest is on the list, its new one only in the journal."""
    path = tmp_path / "s.zarr"
    write_store(path, meta=META, clip_id=IDS, features=np.ones((10, 3, 4)), n_frames=np.full(10, 3))
    more = np.array([*IDS, "new", "newer", "newest"], object)
    with StoreWriter(path, META, more, make_canaries=dict) as writer:
        assert writer.pending_shards() == [2, 3]
        record(writer, 2, 2.0)
    with StoreWriter(path, META, more, make_canaries=dict) as writer:
        assert writer.pending_shards() == [3]
        record(writer, 3, 3.0)
        writer.finish({})
    check(path)


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    write_store(path, meta=META, clip_id=IDS, features=np.ones((10, 3, 4)), n_frames=np.full(10, 3))
    shard = path / "features" / "c.1.0.0"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    done = subprocess.run(["sha256sum", "-c", SUMS], cwd=path, capture_output=True, text=True, check=False)
    assert "features/c.1.0.0: FAILED" in done.stdout
