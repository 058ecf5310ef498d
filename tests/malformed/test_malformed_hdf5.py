"""Crafted HDF5 stores: each is refused in words; HDF5 never hangs, crashes or fills the memory of this process."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest
from crafted_hdf5 import CASES, DAMAGED, heap_circle, write_good

from pipeline.errors import StoreError
from pipeline.stores import hdf5_probe, open_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_good(tmp_path_factory.mktemp("good") / "s.h5")


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hdf5_probe, "CPU_S", 1)
    monkeypatch.setenv("EAST_STORE_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", CASES)
def test_crafted_file_is_refused_in_words(good: Path, tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(good, tmp_path / "s.h5"))
    make, words = CASES[name]
    make(path)
    with pytest.raises(StoreError, match=words), open_store(path) as reader:
        reader.canaries()


@pytest.mark.parametrize("name", [*CASES, *DAMAGED])
def test_verify_says_what_is_wrong_and_ends(good: Path, tmp_path: Path, name: str) -> None:
    path = Path(shutil.copy(good, tmp_path / "s.h5"))
    make, words = CASES.get(name) or DAMAGED[name]
    make(path)
    began = time.process_time()
    try:
        report = verify_store(path, VerifyOptions())
        found = "\n".join(finding.text for finding in report.findings)
    except StoreError as error:
        found = str(error)
    assert time.process_time() - began < 5
    assert re.search(words if name in DAMAGED else "[a-z]", found)


def test_a_file_is_looked_at_once_and_again_when_it_changed(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(good, tmp_path / "s.h5"))
    hdf5_probe.require_safe(path)
    monkeypatch.setattr(hdf5_probe, "_KNOWN", set())
    monkeypatch.setattr(hdf5_probe, "_helper", lambda: pytest.fail("it was looked at again"))
    hdf5_probe.require_safe(path)
    monkeypatch.undo()
    monkeypatch.setenv("EAST_STORE_CACHE", str(tmp_path / "cache"))
    heap_circle(path)
    with pytest.raises(StoreError, match="comes to no end"):
        hdf5_probe.require_safe(path, cpu_s=1)
