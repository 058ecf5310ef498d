"""The plan: which shards of which stores are to be made, what that takes, and whether it fits.

Pure: nothing is opened, started or written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pipeline.errors import PlanError
from pipeline.extraction.jobs import ClipJob, OutputJob, ShardJob

_BASE_BYTES = 600 << 20
_GROUPS_IN_MEMORY = 4
_ACTIVATION_FACTOR = 40
_DISK_MARGIN = 1.05


@dataclass(frozen=True, eq=False)
class StorePlan:
    """One store to fill: its rows in order, its pending shards, the job of one output.

    ``n_numbers``: what the network holds in float32, weights and what it makes from them.
    ``packed``: the finished shards are copied into one file at the end, and need their space twice.
    ``copied``: rows whose features are there already.  ``dropped``: clips that the store loses; None
    where it is not written anew without some.
    """

    output: OutputJob
    clip_ids: np.ndarray
    pending: tuple[int, ...]
    n_numbers: int
    rate_hz: int
    packed: bool = False
    copied: frozenset[int] = frozenset()
    dropped: int | None = None

    @property
    def shard_clips(self) -> int:
        """Clips of one shard."""
        return self.output.target.shard_clips

    @property
    def n_bytes(self) -> int:
        """Bytes of features still to be written."""
        target = self.output.target
        whole = self.packed + (self.dropped is not None)
        clips = sum(self._clips_in(shard) for shard in self.pending) + whole * len(self.clip_ids)
        return clips * target.frames * target.channels * np.dtype(target.dtype).itemsize

    def job(self, shard: int) -> OutputJob:
        """What a task is told of this store, with the positions of the clips that are copied."""
        first = shard * self.shard_clips
        here = frozenset(row for row in range(self._clips_in(shard)) if first + row in self.copied)
        return replace(self.output, planned=here)

    def _clips_in(self, shard: int) -> int:
        return min(self.shard_clips, len(self.clip_ids) - shard * self.shard_clips)


@dataclass(frozen=True)
class Plan:
    """Jobs in order, and what they are expected to take. Bytes and seconds of audio."""

    jobs: tuple[ShardJob, ...]
    n_clips: int
    audio_s: float
    disk_bytes: Mapping[str, int]
    worker_bytes: int
    n_workers: int
    n_copied: Mapping[str, int] = field(default_factory=dict)
    n_dropped: Mapping[str, int] = field(default_factory=dict)
    clip_s: float = 0.0

    @property
    def total_bytes(self) -> int:
        """Bytes to be written in all."""
        return sum(self.disk_bytes.values())


def make_plan(
    stores: Sequence[StorePlan],
    clips: Mapping[str, ClipJob],
    *,
    clip_s: float,
    device: str,
    threads: int,
    n_workers: int,
) -> Plan:
    """Jobs for all pending shards; stores with the same rows share one decode pass.

    Args:
        clips: by id; what a store holds beyond them is copied where its shard is made again.
    """
    jobs: list[ShardJob] = []
    for group in _same_rows(stores):
        ids = group[0].clip_ids
        for shard in sorted({shard for store in group for shard in store.pending}):
            rows = ids[shard * group[0].shard_clips : (shard + 1) * group[0].shard_clips].tolist()
            outputs = tuple(store.job(shard) for store in group if shard in store.pending)
            found = tuple(clips.get(row) or ClipJob(row, "", 0.0, 0.0) for row in rows)
            jobs.append(ShardJob(shard, found, outputs, clip_s, device, threads))
    computed = [job.clips[row] for job in jobs for row in job.computed_rows()]
    return Plan(
        jobs=tuple(jobs),
        n_clips=len(computed),
        audio_s=sum(clip.duration_s for clip in computed),
        n_copied={store.output.target.name: len(store.copied) for store in stores if store.copied},
        n_dropped={store.output.target.name: store.dropped for store in stores if store.dropped is not None},
        disk_bytes={store.output.target.name: store.n_bytes for store in stores},
        worker_bytes=estimate_worker_bytes(stores, clip_s),
        n_workers=n_workers,
        clip_s=clip_s,
    )


def _same_rows(stores: Sequence[StorePlan]) -> list[list[StorePlan]]:
    groups: list[list[StorePlan]] = []
    for store in stores:
        for group in groups:
            same = group[0].shard_clips == store.shard_clips
            if same and np.array_equal(group[0].clip_ids, store.clip_ids):
                group.append(store)
                break
        else:
            groups.append([store])
    return groups


def estimate_worker_bytes(stores: Sequence[StorePlan], clip_s: float) -> int:
    """Memory one worker needs: libraries, weights, clips in flight, activations, the shard.

    Does not depend on the number of clips or on the length of files.
    """
    total = _BASE_BYTES
    heard, networks = set(), set()
    for store in stores:
        spec, target = store.output.spec, store.output.target
        total += target.shard_clips * target.frames * target.channels * 8
        clip_bytes = int(clip_s * store.rate_hz) * 4
        total += clip_bytes * spec.batch_clips * _GROUPS_IN_MEMORY * (spec not in heard)
        heard.add(spec)
        if spec.clean() in networks:
            continue
        networks.add(spec.clean())
        total += 4 * store.n_numbers
        total += clip_bytes * spec.batch_clips * _ACTIVATION_FACTOR
    return total


def require_fits(plan: Plan, *, free_disk: int, free_memory: int) -> None:
    """Refuse work that would not fit, with both numbers.

    Raises:
        PlanError: names what is short, how much is needed, how much there is, and what to change.
    """
    needed = int(plan.total_bytes * _DISK_MARGIN)
    if needed > free_disk:
        raise PlanError(
            f"The stores need {show_bytes(needed)} of disk and {show_bytes(free_disk)} are free. Free some, set "
            "EAST_HOME to a larger disk, or take fewer outputs."
        )
    memory = plan.worker_bytes * max(1, plan.n_workers)
    if memory > free_memory:
        fit = max(1, free_memory // plan.worker_bytes)
        raise PlanError(
            f"{plan.n_workers} workers need about {show_bytes(memory)} of memory and {show_bytes(free_memory)} are "
            f"free. Use --workers {fit} or fewer."
        )


def show_bytes(n: float) -> str:
    """For people: 1.5 GB.

    >>> show_bytes(1_500_000_000), show_bytes(12)
    ('1.5 GB', '12 B')
    """
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    raise AssertionError


def describe(plan: Plan) -> str:
    """The plan in words, for ``--dry-run`` and the log."""
    stores = ", ".join(f"{name} {show_bytes(n)}" for name, n in plan.disk_bytes.items())
    copied = [f"{name} {n:,} clips ({n * plan.clip_s / 3600:.2f} h)" for name, n in plan.n_copied.items()]
    saved = f"copied, not computed: {', '.join(copied)}; " if copied else ""
    dropped = ", ".join(f"{name} {n:,} clips" for name, n in plan.n_dropped.items())
    lost = f"dropped, since they left the table: {dropped}; " if dropped else ""
    return (
        f"{plan.n_clips:,} clips ({plan.audio_s / 3600:.2f} h of audio) in {len(plan.jobs):,} shards; "
        f"{saved}{lost}to write: {stores}; "
        f"about {show_bytes(plan.worker_bytes)} of memory per worker, {max(1, plan.n_workers)} at work"
    )
