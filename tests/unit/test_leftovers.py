"""A writer that is killed between the last byte of a store and its lease leaves nothing for good."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.stores import example_meta, write_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.journal import JOURNAL
from pipeline.stores.lease import LEASE, STALE_S, Lease
from pipeline.stores.leftovers import remove_leftovers

N = 5


def make(path: Path, n: int = N) -> Path:
    ids = [f"c{row}" for row in range(n)]
    write_store(path, meta=example_meta(), clip_id=ids, features=np.ones((n, 3, 4)), n_frames=np.full(n, 3))
    return path


def leave(folder: Path) -> None:
    """Lease, journal and a draft of a writer on another machine, long silent."""
    for name in (LEASE, JOURNAL, "features/.c.0.0.0.0123456789ab.tmp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
        os.utime(folder / name, (0, 0))


def names(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*"))


def test_inside_a_zarr_store(tmp_path: Path) -> None:
    path = make(tmp_path / "s.zarr")
    before = names(tmp_path)
    leave(path)
    assert verify_store(path, VerifyOptions()).notes
    remove_leftovers(path)
    assert names(tmp_path) == before
    assert not verify_store(path, VerifyOptions()).notes


def test_beside_an_hdf5_store(tmp_path: Path) -> None:
    path = make(tmp_path / "s.h5")
    leave(tmp_path / ".s.h5.partial.0123456789ab.tmp")
    (tmp_path / ".s.h5.0123456789ab.tmp").write_text("half")
    being_made = tmp_path / ".s.h5.partial.ba9876543210.tmp"
    being_made.mkdir()
    remove_leftovers(path)
    assert sorted(tmp_path.iterdir()) == [being_made, path]


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_half_a_file_goes_with_the_next_run(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path / f"s.{suffix}")
    (tmp_path / f".s.{suffix}.0123456789ab.tmp").write_text("half")
    make(path, N + 1)
    assert list(tmp_path.iterdir()) == [path]


def test_a_living_writer_keeps_its_own(tmp_path: Path) -> None:
    path = make(tmp_path / "s.zarr")
    with Lease(path, heartbeat_s=STALE_S):
        (path / JOURNAL).write_text("")
        remove_leftovers(path)
        assert (path / JOURNAL).exists()
