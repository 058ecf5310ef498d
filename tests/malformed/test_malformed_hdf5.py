"""Crafted HDF5 stores: each is refused in words; HDF5 never hangs, crashes or fills the memory of this process."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
from crafted_hdf5 import CASES, DAMAGED, TEXT, heap_circle, write_good

from pipeline.errors import StoreError
from pipeline.stores import hdf5_probe, open_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.exchange.importing import ImportOptions, open_source
from pipeline.stores.exchange.sources import Cast


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


@pytest.mark.parametrize(
    ("name", "option"), [("keys", ""), ("ids", ""), ("sample_key", ""), ("tracks", "tracks"), ("a/b/ids", "a/b/ids")]
)
def test_ids_to_be_imported_are_read_in_the_child_first(tmp_path: Path, name: str, option: str) -> None:
    path = write_theirs(tmp_path / "theirs.h5", name)
    options = ImportOptions(ids_name=option)
    with ExitStack() as stack:
        assert open_source(path, Cast(), stack, options).names == [f"clip {row}" for row in range(10)]
    heap_circle(path)
    hdf5_probe.require_safe(path)  # for who reads no ids, it is
    with ExitStack() as stack, pytest.raises(StoreError, match="comes to no end"):
        open_source(path, Cast(), stack, options)


@pytest.mark.parametrize(("kind", "dtype"), [("O", TEXT), ("S", None)])
def test_many_ids_in_one_chunk_are_no_endless_work(tmp_path: Path, kind: str, dtype: object) -> None:
    n, path = 400_000, tmp_path / "theirs.h5"
    with h5py.File(path, "w") as file:
        file["features"] = np.ones((n, 1), "f4")
        texts = [f"clip {row}" for row in range(n)]
        file.create_dataset("keys", data=np.array(texts, kind), dtype=dtype, chunks=(n,), compression="gzip")
    with ExitStack() as stack:
        assert open_source(path, Cast(), stack, ImportOptions()).names == texts


def write_theirs(path: Path, name: str) -> Path:
    """Features and ids, as other programs write them."""
    with h5py.File(path, "w") as file:
        file["features"] = np.ones((10, 4), "f4")
        file.create_dataset(name, data=np.array([f"clip {row}" for row in range(10)], object), dtype=TEXT)
    return path


def test_without_a_helper_nothing_is_held_against_the_file(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copy(good, tmp_path / "s.h5"))
    hdf5_probe._stop()
    with monkeypatch.context() as without:
        without.setattr(sys, "executable", str(tmp_path / "no-python"))
        with pytest.raises(StoreError, match="cannot be looked at in a process of its own"):
            hdf5_probe.require_safe(path)
    hdf5_probe.require_safe(path)


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGALRM, "took more than 600 s"), (signal.SIGKILL, "was ended by signal 9")]
)
def test_a_look_that_others_ended_is_repeated(good: Path, tmp_path: Path, number: int, words: str) -> None:
    hdf5_probe.require_safe(good)
    path = Path(shutil.copy(good, tmp_path / "s.h5"))
    heap_circle(path)
    helper = psutil.Process(hdf5_probe._helper().pid)
    ending = threading.Thread(target=end_the_look, args=(helper, number))
    ending.start()
    with pytest.raises(StoreError, match=words):
        hdf5_probe.require_safe(path, cpu_s=60)
    ending.join()
    with pytest.raises(StoreError, match="comes to no end"):
        hdf5_probe.require_safe(path)


def end_the_look(helper: psutil.Process, number: int) -> None:
    while not (children := helper.children()):
        time.sleep(0.01)
    time.sleep(0.3)
    children[0].send_signal(number)
