from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PlanError
from pipeline.extraction.jobs import ClipJob, ExtractorSpec, OutputJob
from pipeline.extraction.plan import Plan, StorePlan, describe, make_plan, require_fits
from pipeline.stores import ShardTarget

CLIP_S = 10.0


def store(
    name: str, ids: list[str], pending: tuple[int, ...], *, spec: str = "net", shard: int = 4, packed: bool = False
) -> StorePlan:
    target = ShardTarget(name, f"/nowhere/{name}", 10, 512, "float16", 2, shard)
    output = OutputJob(ExtractorSpec(spec, ("out",), "fast"), name.partition("/")[2], target)
    return StorePlan(output, np.array(ids, object), pending, 80_000_000, 32_000, packed)


def clips(ids: list[str]) -> dict[str, ClipJob]:
    return {clip_id: ClipJob(clip_id, f"/nowhere/{clip_id}", 0.0, CLIP_S) for clip_id in ids}


def plan(*stores: StorePlan, ids: list[str], n_workers: int = 2) -> Plan:
    return make_plan(stores, clips(ids), clip_s=CLIP_S, device="cpu", threads=1, n_workers=n_workers)


IDS = [f"clip {row}" for row in range(10)]


def test_stores_with_the_same_rows_share_one_decode_pass() -> None:
    found = plan(store("net/a", IDS, (0, 1, 2)), store("net/b", IDS, (1, 2)), ids=IDS)
    assert [job.shard for job in found.jobs] == [0, 1, 2]
    assert [len(job.outputs) for job in found.jobs] == [1, 2, 2]
    assert [len(job.clips) for job in found.jobs] == [4, 4, 2]
    assert found.n_clips == 10
    assert found.audio_s == 100.0
    assert found.disk_bytes == {"net/a": 10 * 10_240, "net/b": 6 * 10_240}


def test_stores_with_other_rows_have_jobs_of_their_own() -> None:
    found = plan(store("net/a", IDS, (0,)), store("net/b", IDS[::-1], (0,)), ids=IDS)
    assert [[clip.clip_id for clip in job.clips] for job in found.jobs] == [IDS[:4], IDS[::-1][:4]]


def test_planning_touches_nothing(tmp_path: Path) -> None:
    plan(store("net/a", IDS, (0, 1)), ids=IDS)
    assert not list(tmp_path.iterdir())
    assert not Path("/nowhere").exists()


def test_clips_that_left_the_table_have_no_audio() -> None:
    plan(store("net/a", IDS, (0,)), ids=IDS[:4])
    (job,) = plan(store("net/a", IDS, (1,)), ids=IDS[:6]).jobs
    assert [clip.path for clip in job.clips] == ["/nowhere/clip 4", "/nowhere/clip 5", "", ""]


def test_copied_clips_are_not_counted_and_said() -> None:
    kept = replace(store("net/a", IDS, (0, 1)), copied=frozenset({0, 1, 5}))
    found = plan(kept, store("net/b", IDS, (0, 1)), ids=IDS)
    assert [sorted(job.outputs[0].planned) for job in found.jobs] == [[0, 1], [1]]
    assert found.n_clips == 8
    alone = plan(kept, ids=IDS)
    assert (alone.n_clips, alone.audio_s) == (5, 50.0)
    assert describe(alone).startswith(
        "5 clips (0.01 h of audio) in 2 shards; copied, not computed: net/a 3 clips (0.01 h);"
    )


def test_disk_is_refused_with_both_numbers() -> None:
    found = plan(store("net/a", IDS, (0, 1, 2)), ids=IDS)
    with pytest.raises(PlanError, match=r"need 107\.5 kB of disk and 50\.0 kB are free.*EAST_HOME"):
        require_fits(found, free_disk=50_000, free_memory=1 << 40)
    require_fits(found, free_disk=110_000, free_memory=1 << 40)


def test_packed_stores_need_their_space_twice() -> None:
    once, twice = (plan(store("net/a", IDS, (0, 1, 2), packed=packed), ids=IDS) for packed in (False, True))
    assert twice.total_bytes == 2 * once.total_bytes


def test_memory_is_refused_with_both_numbers_and_a_way_out() -> None:
    found = plan(store("net/a", IDS, (0,)), ids=IDS, n_workers=4)
    free = int(found.worker_bytes * 2.5)
    with pytest.raises(
        PlanError, match=r"4 workers need about \d\.\d GB of memory and \d\.\d GB are free.*--workers 2"
    ):
        require_fits(found, free_disk=1 << 40, free_memory=free)
    require_fits(replace(found, n_workers=2), free_disk=1 << 40, free_memory=free)


def test_memory_of_a_worker_does_not_grow_with_clips() -> None:
    many = [f"clip {row}" for row in range(4_000)]
    small, large = plan(store("net/a", IDS, (0,)), ids=IDS), plan(store("net/a", many, tuple(range(1_000))), ids=many)
    assert small.worker_bytes == large.worker_bytes
    assert len(large.jobs) == 1_000


def test_more_networks_need_more_memory() -> None:
    one = plan(store("net/a", IDS, (0,)), ids=IDS)
    two = plan(store("net/a", IDS, (0,)), store("other/a", IDS, (0,), spec="other"), ids=IDS)
    assert two.worker_bytes > one.worker_bytes


def test_plan_in_words() -> None:
    text = describe(plan(store("net/a", IDS, (0, 1, 2)), ids=IDS))
    assert text.startswith("10 clips (0.03 h of audio) in 3 shards; to write: net/a 102.4 kB; about ")
    assert text.endswith("of memory per worker, 2 at work")
