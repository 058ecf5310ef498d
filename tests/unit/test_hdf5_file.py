"""What HDF5 does not bear: a disk that fills up while it writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from extracting import ROOT

from pipeline.errors import StoreError
from pipeline.stores import example_meta, open_store, write_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.hdf5_file import calm_file

N = 37
FILL = """
import resource, sys
from test_hdf5_file import make
from pathlib import Path
from pipeline.errors import StoreError
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    make(Path(sys.argv[1]), frames=300)
except StoreError as error:
    print(error)
"""


def make(path: Path, frames: int = 3) -> Path:
    features = np.random.default_rng(0).standard_normal((N, frames, 4)).astype(np.float32)
    ids = [f"c{row}" for row in range(N)]
    write_store(path, meta=example_meta(frames=frames), clip_id=ids, features=features, n_frames=np.full(N, frames))
    return path


def in_process(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A crash would take this process with it."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "unit")])
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=90, check=False, env=os.environ | {"PYTHONPATH": path}
    )


@pytest.mark.parametrize("limit", [pytest.param(90_000, marks=pytest.mark.slow), 178_000])
def test_a_disk_that_fills_up_ends_in_words(tmp_path: Path, limit: int) -> None:
    """The working folder's files stay below the limit, the packed one does not."""
    assert make(tmp_path / "right.h5", frames=300).stat().st_size > limit
    done = in_process(FILL, tmp_path / "s.h5", limit)
    assert (done.returncode, done.stderr) == (0, "")
    assert "What was finished is kept: free some space" in done.stdout
    make(tmp_path / "s.h5", frames=300)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["right.h5", "s.h5"]


def break_in_the_middle(path: Path) -> None:
    with calm_file(path) as disk, h5py.File(disk, "w") as file:
        file.create_dataset("x", data=np.arange(10))
        disk.error = OSError("no room")
        file.create_dataset("y", data=np.arange(100_000))


def test_after_an_error_nothing_is_written_and_the_error_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no room"):
        break_in_the_middle(tmp_path / "a.h5")
    assert (tmp_path / "a.h5").stat().st_size < 100_000


def test_a_sound_file_reads_as_before(tmp_path: Path) -> None:
    path = make(tmp_path / "Ä 音.h5")
    assert not verify_store(path, VerifyOptions()).findings
    with open_store(path) as reader:
        assert reader.arrays.clip_id.tolist() == [f"c{row}" for row in range(N)]
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(StoreError, match="cannot be opened as HDF5"):
        open_store(path)
