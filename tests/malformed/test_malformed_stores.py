"""Crafted stores: each is refused in words, before anything large is read or allocated."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from crafted_zarr import CASES, N, write_good

from pipeline.errors import StoreError
from pipeline.stores import open_store


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good(tmp_path_factory.mktemp("good") / "s.zarr")


@pytest.mark.parametrize("name", CASES)
def test_crafted_store_is_refused_in_words(good: Path, tmp_path: Path, name: str) -> None:
    path = Path(shutil.copytree(good, tmp_path / "s.zarr"))
    make, words = CASES[name]
    make(path)
    with pytest.raises(StoreError, match=words):
        open_store(path)


def test_a_link_to_a_whole_store_is_fine(good: Path, tmp_path: Path) -> None:
    (tmp_path / "link.zarr").symlink_to(good)
    with open_store(tmp_path / "link.zarr") as reader:
        assert (reader.read(np.arange(N)) == 1).all()
