"""All malformed stores and tables through the command, in one process with little memory: one error each, no more."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import crafted_hdf5
import crafted_tables
import crafted_zarr
import pytest
from extracting import ROOT

#: Of addresses, of which allocators reserve a gigabyte at once; and of memory that is really used.
ADDRESS_BYTES, MEMORY_BYTES = 1 << 32, 1 << 30
LIMIT_S = 5.0
CODE = """
import contextlib, io, json, resource, sys, time
import numpy, pyarrow, h5py, zarr, cli
import pipeline.extraction.checking, pipeline.extraction.request
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
own = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (own + int(sys.argv[1]),) * 2)
for words in json.load(sys.stdin):
    said, status = io.StringIO(), 0
    began = time.process_time()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            cli.main(words)
        except SystemExit as end:
            status = end.code
        except BaseException as error:
            status = repr(error)
    used = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
    print(json.dumps([used, status, time.process_time() - began, said.getvalue()]), flush=True)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """One command for each, all kinds in one list."""
    folder, commands = tmp_path_factory.mktemp("corpus"), []
    for suffix, kind in (("zarr", crafted_zarr), ("h5", crafted_hdf5)):
        good = kind.write_good(folder / f"good.{suffix}")
        for name, (make, _) in kind.CASES.items():
            path = folder / f"{name}.{suffix}"
            shutil.copytree(good, path) if good.is_dir() else shutil.copy(good, path)
            make(path)
            commands.append(["store", "info", str(path)])
            if name != "heap-circle":  # it takes its seconds once
                commands.append(["store", "verify", "--no-canaries", str(path)])
    (folder / "tables").mkdir()
    for name, (make, _) in crafted_tables.CASES.items():
        make(folder / "tables" / name)
        data = str(folder / "tables" / name)
        commands.append(["extract", "--data", data, "--teacher", "none", "--dry-run"])
    return commands


def test_every_one_gives_one_error_in_bounded_time_and_memory(corpus: list[list[str]], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(ADDRESS_BYTES)], input=json.dumps(corpus), capture_output=True, text=True,
        check=False, cwd=ROOT, env=os.environ | {"EAST_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(corpus) > 140, done.stderr[-2_000:]
    wrong = [
        (words[1:], status, round(elapsed_s, 1), said[-300:])
        for words, (_, status, elapsed_s, said) in zip(corpus, results, strict=True)
        if status != 1 or elapsed_s > LIMIT_S or said.count("error: ") < 1 or "Traceback" in said
    ]
    assert not wrong, "\n".join(map(str, wrong))
    assert results[-1][0] < MEMORY_BYTES
    assert not (tmp_path / "home").exists() or not list((tmp_path / "home").rglob("*.zarr"))
