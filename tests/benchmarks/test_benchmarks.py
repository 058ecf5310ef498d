"""The benchmarks do not rot: each runs at a tiny size; nothing here is timed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bench_convolution
import bench_extraction
import bench_gpu
import bench_reading
import bench_stores
import pytest
from extracting import ROOT


def test_reading() -> None:
    found = bench_reading.run(64)
    assert bench_reading.TARGETS.keys() <= found.keys()
    assert all(value > 0 for value in found.values())


def test_stores() -> None:
    found = bench_stores.run(64)
    assert bench_stores.TARGETS.keys() <= found.keys()
    assert all(value > 0 for value in found.values())


def test_extraction() -> None:
    found = bench_extraction.run(3)
    assert bench_extraction.TARGETS.keys() <= found.keys()
    assert all(value > 0 for value in found.values())


def test_convolution() -> None:
    found = bench_convolution.run(1, {"small": (1, 128, 128, 9, 5)})
    assert found["small"] > 0


def test_gpu_says_so_where_there_is_none() -> None:
    if bench_gpu.torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert bench_gpu.run() == {}


@pytest.mark.slow
def test_gpu_bench_compares_on_the_cpu_with_itself() -> None:
    """The same code, with the CPU in the GPU's place and narrow networks."""
    for name, card, build in bench_gpu.networks(width=2):
        found = bench_gpu.compare(card, build, 2, "cpu")
        assert found["GPU / CPU"] > 0, name
        assert found[f"exact differs by (tolerance {card.tolerance:g})"] <= card.tolerance


@pytest.mark.gpu
def test_networks_agree_on_the_gpu() -> None:
    if not bench_gpu.torch.cuda.is_available():
        pytest.skip("PyTorch sees no GPU here")
    assert bench_gpu.run(4)


def test_all_of_them_are_found_and_one_is_run_by_name() -> None:
    command = [sys.executable, "-c", "import sys; sys.argv = ['bench', 'nothing_like_it']; import runpy; "]
    command[-1] += "runpy.run_module('tests.benchmarks', run_name='__main__')"
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "No module named 'bench_nothing_like_it'" in done.stderr
    assert {path.name for path in Path(__file__).parent.glob("bench_*.py")} >= {"bench_reading.py", "bench_dcor.py"}
