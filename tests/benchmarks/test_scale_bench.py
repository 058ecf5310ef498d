"""The benchmark of scale does not rot: every step at a tiny size."""

from __future__ import annotations

from pathlib import Path

import bench_scale
import pytest


@pytest.mark.slow
def test_every_step(tmp_path: Path) -> None:
    found = bench_scale.run(64, bench_scale.STEPS, tmp_path)
    assert found.keys() == bench_scale.STEPS.keys()


def test_the_audio_and_the_table_agree(tmp_path: Path) -> None:
    bench = bench_scale.Bench(tmp_path, 20)
    bench.data.mkdir()
    bench_scale.table(bench)()
    table = bench.table()
    assert len(table) == 20
    assert {"train", "valid", "test"} == set(table.splits())
    assert all(Path(table.audio_path(row)).is_file() for row in range(20))
