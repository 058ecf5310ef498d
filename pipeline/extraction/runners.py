"""Where tasks run: in this process, or on a Dask cluster.  Both give results as they come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from distributed import Client, Future, as_completed
from distributed.scheduler import KilledWorker

from pipeline.errors import PlanError
from pipeline.events import Listener, Warned
from pipeline.extraction.isolate import find_killers
from pipeline.extraction.jobs import ShardJob, ShardResult
from pipeline.extraction.task import run_shard

_T = TypeVar("_T")
Fill = Callable[[ShardJob], ShardJob]
_STRIKES = 3


class Runner(Protocol):
    """Runs one function, or all shards, somewhere."""

    def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """Run one function where the work is done, and wait for it."""

    def results(self, jobs: Sequence[ShardJob], listener: Listener, fill: Fill) -> Iterator[ShardResult]:
        """Run shards, each filled with what need not be computed first; results in the order they finish."""


class SerialRunner:
    """In this process, one after the other: for debugging."""

    def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """See :class:`Runner`."""
        return function(*arguments)

    def results(self, jobs: Sequence[ShardJob], listener: Listener, fill: Fill) -> Iterator[ShardResult]:
        """See :class:`Runner`."""
        del listener
        yield from map(run_shard, map(fill, jobs))


class DaskRunner:
    """On a cluster; two shards per worker are in flight, so that nobody waits and little is lost."""

    def __init__(self, client: Client, n_workers: int) -> None:
        self.client, self.n_workers = client, n_workers

    def call(self, function: Callable[..., _T], *arguments: Any) -> _T:
        """See :class:`Runner`."""
        found: _T = self.client.submit(function, *arguments, pure=False, retries=1).result()
        return found

    def results(self, jobs: Sequence[ShardJob], listener: Listener, fill: Fill) -> Iterator[ShardResult]:
        """See :class:`Runner`.

        Raises:
            PlanError: a shard kills its workers though every clip of it decodes alone.
        """
        waiting = iter(jobs)
        flying: dict[Any, ShardJob] = {}
        strikes: Counter[int] = Counter()
        completed = as_completed([])

        def launch() -> Iterator[ShardResult]:
            """Keep the workers busy; what is all there already is written here."""
            while len(flying) < 2 * self.n_workers and (job := next(waiting, None)) is not None:
                filled = fill(job)
                if filled.computed_rows():
                    completed.add(self._submit(filled, flying))
                else:
                    yield run_shard(filled)

        try:
            yield from launch()
            for future in completed:
                job = flying.pop(future.key)
                again = self._lost(future, job, strikes, listener)
                if again is not None:
                    completed.add(self._submit(again, flying))
                    continue
                result = future.result()
                future.release()
                yield from launch()
                yield result
        finally:
            self.client.cancel([Future(key, self.client) for key in flying])

    def _submit(self, job: ShardJob, flying: dict[Any, ShardJob]) -> Future[ShardResult]:
        future = self.client.submit(run_shard, job, pure=False)
        flying[future.key] = job
        return future

    def _lost(
        self, future: Future[ShardResult], job: ShardJob, strikes: Counter[int], listener: Listener
    ) -> ShardJob | None:
        """The job to run again when its workers died, without the clips that killed them."""
        if future.status != "error" or not isinstance(future.exception(), KilledWorker):
            return None
        listener(Warned(f"{job.key}: its worker died. Looking for the clip that kills it."))
        alive = [clip for row, clip in enumerate(job.clips) if row not in job.dead]
        rows = [row for row in range(len(job.clips)) if row not in job.dead]
        killers = {rows[row]: reason for row, reason in find_killers(alive, job.clip_s).items()}
        strikes[job.shard] += 1
        if not killers and strikes[job.shard] >= _STRIKES:
            raise PlanError(
                f"Shard {job.shard} killed its workers {_STRIKES} times, though each of its clips decodes alone; "
                f"it starts with {job.clips[0].clip_id!r}. Too little memory is likely: use fewer workers "
                "(--workers), or look with --workers 0."
            )
        return replace(job, dead={**job.dead, **killers})
