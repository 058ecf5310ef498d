"""A shortened fault campaign; ``make faults`` is the long one, `test_kill` kills a run in the default tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.flips import choose, copy_in_chunks, flip_stores
from faults.ground import Ground, make_ground
from faults.plan import FULL, plan_run
from faults.runs import run_one

FLIPS = 60
#: In one worker of pytest-xdist, so that the ground is made once.
pytestmark = pytest.mark.xdist_group("faults")


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return make_ground(tmp_path_factory.mktemp("ground"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [33, *range(20, 30)])
def test_what_is_killed_comes_to_the_same_end(ground: Ground, tmp_path: Path, seed: int) -> None:
    result = run_one(ground, plan_run(seed), tmp_path)
    assert not result.failure
    assert result.hits.total() > 0
    assert result.again <= result.bound


def test_every_flipped_bit_is_found_and_rightly_named(ground: Ground, tmp_path: Path) -> None:
    result = list(flip_stores(ground.stores, FLIPS, 0, tmp_path))[-1]
    assert not result.failures
    assert result.named.total() == FLIPS
    assert len(result.named) >= 8, "flips reach all kinds of files"


def test_plans_are_repeatable_and_cover_all_faults() -> None:
    plans = [plan_run(seed) for seed in range(100)]
    assert plans == [plan_run(seed) for seed in range(100)]
    kinds = [fault.kind for plan in plans for fault in plan.faults]
    assert {"driver", "worker", "all workers", "group", "terminated", "interrupted", *FULL} == set(kinds)
    assert sum(any(fault.kind in FULL for fault in plan.faults) for plan in plans) == 20
    assert {plan.format for plan in plans} == {"zarr", "hdf5"}
    assert all(1 <= len(plan.faults) <= 4 for plan in plans)


def test_flips_hit_the_clips_they_say(ground: Ground, tmp_path: Path) -> None:
    path = copy_in_chunks(ground.stores["zarr"], tmp_path / "a.zarr")
    flips = [choose(path, f"x {number}", number) for number in range(90)]
    assert {flip.kind for flip in flips} > {"zarr: chunks of features", "zarr: index of a shard", "zarr: metadata"}
    assert all(len(flip.clips) == 4 for flip in flips if flip.clips is not None)
