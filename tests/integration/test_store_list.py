"""The overview of a dataset's stores, in both formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import layout
from pipeline.errors import StoreError
from pipeline.stores import example_meta, write_store
from pipeline.stores.overview import COLUMNS, list_rows


def test_stores_of_both_formats_and_damaged_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path))
    with pytest.raises(StoreError, match="has no stores"):
        list_rows("d")
    dataset = {"name": "d", "licence": "CC-BY-4.0"}
    for output, kind in (("a", "zarr"), ("b", "hdf5")):
        path = layout.store_path("d", "t", output, kind)  # type: ignore[arg-type]
        features = np.ones((2, 3, 60_000), np.float32)
        meta = example_meta(dataset=dataset, channels=60_000, chunk_clips=1, shard_clips=1)
        write_store(path, meta=meta, clip_id=["x", "y"], features=features, n_frames=np.array([3, 3]))
    (tmp_path / "d/stores/t/c.h5").write_bytes(b"no store")
    rows = list_rows("d")
    assert rows[0] == ("t/a.zarr", "exact", "2", "0", "0", "yes", rows[0][6], "CC-BY-4.0 (audio of d)")
    assert rows[1] == ("t/b.h5", "exact", "2", "0", "0", "yes", rows[1][6], "CC-BY-4.0 (audio of d)")
    assert rows[2] == ("t/c.h5", "", "", "", "", "unreadable", "0.0", "")
    assert rows[3][0] == "3 in all"
    sizes = [float(row[COLUMNS.index("MB")]) for row in rows]
    assert 1.4 <= sizes[0] <= 1.6
    assert sizes[3] == pytest.approx(sum(sizes[:3]), abs=0.11)
