"""The overview of a dataset's stores, in both formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import layout
from pipeline.errors import StoreError
from pipeline.stores import example_meta, write_store
from pipeline.stores.overview import list_rows


def test_stores_of_both_formats_and_damaged_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path))
    with pytest.raises(StoreError, match="has no stores"):
        list_rows("d")
    for output, kind in (("a", "zarr"), ("b", "hdf5")):
        path = layout.store_path("d", "t", output, kind)  # type: ignore[arg-type]
        features = np.ones((2, 3, 4), np.float32)
        write_store(path, meta=example_meta(), clip_id=["x", "y"], features=features, n_frames=np.array([3, 3]))
    (tmp_path / "d/stores/t/c.h5").write_bytes(b"no store")
    rows = list_rows("d")
    assert rows[0] == ("t/a.zarr", "exact", "2", "0", "0", "yes", "")
    assert rows[1] == ("t/b.h5", "exact", "2", "0", "0", "yes", "")
    assert rows[2][5] == "unreadable"
