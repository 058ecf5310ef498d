"""The use case of stage one: a clip table and extractors in, finished stores out."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from pipeline import cluster, layout, provenance, registry
from pipeline.errors import NOT_IN_TABLE_REASON, SettingError, StoreError
from pipeline.events import (
    ClipFailed,
    ClipShort,
    Listener,
    Note,
    ShardDone,
    TaskAdvanced,
    TaskFinished,
    TaskStarted,
    Warned,
    ignore,
)
from pipeline.extraction import plan as planning
from pipeline.extraction.canaries import compare_canaries, compute_canaries, make_canaries
from pipeline.extraction.census import Census
from pipeline.extraction.jobs import ClipJob, ClipTrouble, ExtractorSpec, ShardJob, ShardResult
from pipeline.extraction.outcome import report_of
from pipeline.extraction.preflight.gate import require_preflight
from pipeline.extraction.reuse import Copier, Reuse, match, open_sources, require_canaries, require_useful
from pipeline.extraction.run_stores import RunStore, drop_removed, make_spec, preview_stores
from pipeline.extraction.runners import DaskRunner, Runner, SerialRunner
from pipeline.extraction.settings import ExtractReport, ExtractSettings
from pipeline.extraction.task import clip_path
from pipeline.manifest import ClipTable, require_valid
from pipeline.manifest.index import AudioIndex
from pipeline.stores import State, StoreWriter
from pipeline.stores.leftovers import remove_leftovers
from pipeline.texts import counted


def extract(table: ClipTable, settings: ExtractSettings, listener: Listener = ignore) -> ExtractReport:
    """Fill one store per output over all clips of the table.

    Stores that are complete are left alone; unfinished ones are resumed, after their canaries
    agree; new clips of the table are added.  Nothing is written before the plan is found to fit and
    the teachers of new stores have passed their preflight.

    Raises:
        EastError: unusable settings, missing weights, a plan that does not fit, a teacher that fails
            a check, foreign stores.
    """
    require_valid(table)
    _require_one_teacher_for_weights(settings)
    specs = [make_spec(request, settings, listener) for request in settings.requests]
    chosen = cluster.choose_layout(settings.n_workers, settings.device)
    clips = _clip_jobs(table)
    with ExitStack() as stack:
        index = stack.enter_context(_open_index(table, settings))
        census = Census(table, index, clips, listener)
        stores = [store for spec in specs for store in preview_stores(table, spec, settings, census)]
        census.require_audio([store.arrays for store in stores])
        sources = open_sources(stack, settings.reuse, stores)
        require_useful(sources, stores)
        for store in stores:
            store.places = match(store, census, sources)
        planned = _plan(stores, clips, table.clip_s, chosen)
        return _run(settings, stores, chosen, planned, reuse=Reuse(census, sources), listener=listener)


def _open_index(table: ClipTable, settings: ExtractSettings) -> AudioIndex:
    """Beside the clip table; only read where nothing is to be written."""
    return AudioIndex(layout.index_path(table.name), read_only=settings.dry_run)


def _run(
    settings: ExtractSettings,
    stores: list[RunStore],
    chosen: cluster.WorkerLayout,
    planned: planning.Plan,
    *,
    reuse: Reuse,
    listener: Listener,
) -> ExtractReport:
    text = planning.describe(planned)
    if settings.dry_run:
        return dataclasses.replace(report_of(stores, text), dry_run=True)
    if planned.jobs or planned.n_dropped:
        free_disk = shutil.disk_usage(_existing_parent(stores[0].path)).free
        planning.require_fits(planned, free_disk=free_disk, free_memory=psutil.virtual_memory().available)
        listener(Note(f"Plan: {text}."))
        return _execute(settings, stores, chosen, planned, reuse=reuse, listener=listener)
    if all(store.meta.complete for store in stores):
        for store in stores:
            remove_leftovers(store.path)
        listener(Note("Nothing to do: the stores are complete."))
        return report_of(stores, text)
    return _execute(settings, stores, chosen, planned, reuse=reuse, listener=listener)


def _require_one_teacher_for_weights(settings: ExtractSettings) -> None:
    names = {registry.split_view(registry.split_request(request)[0])[0] for request in settings.requests}
    teachers = [name for name in names if registry.find_extractor(name).weights]
    if settings.weights is not None and len(teachers) != 1:
        raise SettingError(f"--weights goes with one teacher; this run has {len(teachers)}.")


def _clip_jobs(table: ClipTable) -> dict[str, ClipJob]:
    root = clip_path(table.root).rstrip("/")
    whole = {path: f"{root}/{path}" for path in table.path.tolist()}  # clips of a file share its path
    columns = (column.tolist() for column in (table.clip_id, table.path, table.start_s, table.duration_s))
    return {clip_id: ClipJob(clip_id, whole[path], *times) for clip_id, path, *times in zip(*columns, strict=True)}


def _plan(
    stores: Sequence[RunStore], clips: dict[str, ClipJob], clip_s: float, chosen: cluster.WorkerLayout
) -> planning.Plan:
    plans = [store.plan() for store in stores]
    return planning.make_plan(
        plans, clips, clip_s=clip_s, device=chosen.device, threads=chosen.threads, n_workers=chosen.n_workers
    )


def _existing_parent(path: Path) -> Path:
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def _execute(
    settings: ExtractSettings,
    stores: list[RunStore],
    chosen: cluster.WorkerLayout,
    planned: planning.Plan,
    *,
    reuse: Reuse,
    listener: Listener,
) -> ExtractReport:
    began = time.monotonic()
    peak, audio_s = 0, 0.0
    with ExitStack() as stack:
        runner = _start(stack, settings, chosen, planned, listener)
        listener(TaskStarted("extract", planned.n_clips, "clips"))
        listener(TaskAdvanced("extract", 0.0))  # checks and canaries first, and a shard can take a minute
        require_preflight(
            stores, runner, device=chosen.device, threads=chosen.threads, skip=not settings.preflight, listener=listener
        )
        require_canaries(stores, reuse.sources, partial(_canaries_again, runner, chosen.device), listener)
        _open_writers(stack, stores, runner, device=chosen.device, listener=listener)
        listener(TaskAdvanced("extract", 0.0, "first shards"))
        by_name = {store.meta.name: store for store in stores}
        copier = stack.enter_context(Copier(stores, reuse, listener))
        jobs = {(job.shard, job.outputs[0].target.name): job for job in planned.jobs}
        for result in runner.results(planned.jobs, listener, copier.fill):
            _learn(reuse.census, jobs[result.shard, result.records[0][0]], result)
            audio_s, peak = audio_s + result.audio_s, max(peak, result.peak_bytes)
            _take(result, by_name, listener)
            speed = audio_s / (time.monotonic() - began)
            listener(TaskAdvanced("extract", result.n_clips, f"{speed:,.0f} x real time"))
        listener(TaskFinished("extract"))
        run = provenance.describe(
            device=chosen.device, n_workers=chosen.n_workers, threads=chosen.threads,
            batch_clips={store.card.name: store.spec.batch_clips for store in stores},
            requests={store.card.name: store.spec.name for store in stores if _may_be_shared(store)},
        )  # fmt: skip
        for store in stores:
            if store.writer is not None:
                store.meta = store.writer.finish(run, listener)
    elapsed = time.monotonic() - began
    return dataclasses.replace(
        report_of(stores, planning.describe(planned)),
        audio_s=audio_s,
        elapsed_s=elapsed,
        peak_bytes=peak,
        n_copied=copier.n_copied.total(),
        n_dropped=sum(planned.n_dropped.values()),
    )


def _may_be_shared(store: RunStore) -> bool:
    """Whether a request names no file of this machine: a model in a local folder does."""
    name, repository = store.spec.name, str(store.card.parameters.get("repository") or "")
    return not {"/", "\\"} & set(name) or bool(repository and name.startswith(f"hf:{repository}"))


def _start(
    stack: ExitStack,
    settings: ExtractSettings,
    chosen: cluster.WorkerLayout,
    planned: planning.Plan,
    listener: Listener,
) -> Runner:
    if not planned.jobs or (chosen.n_workers == 0 and not settings.scheduler):
        return SerialRunner()
    own = f"Starting {counted(chosen.n_workers, 'local worker')} on {chosen.device}, {chosen.threads} threads each."
    listener(Note(f"Working on the Dask cluster at {settings.scheduler}." if settings.scheduler else own))
    client = stack.enter_context(
        cluster.running(
            chosen,
            scheduler=settings.scheduler,
            worker_bytes=planned.worker_bytes,
            preload="pipeline.extraction.worker",
        )
    )
    n_workers = len(client.scheduler_info(n_workers=-1)["workers"]) if settings.scheduler else chosen.n_workers
    return DaskRunner(client, max(1, n_workers))


def _open_writers(
    stack: ExitStack,
    stores: list[RunStore],
    runner: Runner,
    *,
    device: str,
    listener: Listener,
) -> None:
    made: dict[ExtractorSpec, dict[str, dict[str, np.ndarray]]] = {}
    for store in stores:
        if store.meta.complete and not store.pending:
            continue
        drop_removed(store, partial(_canaries_again, runner, device), listener)

        def canaries(store: RunStore = store) -> dict[str, np.ndarray]:
            if store.spec not in made:
                made[store.spec] = runner.call(make_canaries, store.spec, device)
            return made[store.spec][store.meta.output]

        store.writer = stack.enter_context(
            StoreWriter(store.path, store.meta, store.clip_ids, make_canaries=canaries, update=store.update)
        )
        if store.resumed and store.pending and store.smaller is None and (stored := store.writer.canaries()):
            again = runner.call(compute_canaries, store.spec, device, stored)[store.meta.output]
            if text := compare_canaries(str(store.path), stored, again, store.card.tolerance):
                listener(Warned(text))


def _canaries_again(
    runner: Runner, device: str, store: RunStore, stored: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    return runner.call(compute_canaries, store.spec, device, dict(stored))[store.meta.output]


def _learn(census: Census, job: ShardJob, result: ShardResult) -> None:
    """Take down which files and samples were read, so that the next run need not."""
    if result.file_digest is None or result.samples_digest is None:
        return
    census.learn(
        [job.clips[row].clip_id for row in result.computed],
        [result.file_digest[row].tobytes() for row in result.computed],
        [result.samples_digest[row].tobytes() for row in result.computed],
    )


def _take(result: ShardResult, by_name: dict[str, RunStore], listener: Listener) -> None:
    """Journal a finished shard in each of its stores, and tell."""
    for name, record in result.records:
        writer = by_name[name].writer
        if writer is None:
            raise StoreError(f"{name} got a shard, but is not being written.")
        writer.record(record)
        n_failed = int((record.state == State.FAILED).sum())
        listener(ShardDone(name, record.shard, len(record) - n_failed, n_failed, result.audio_s))
    for trouble in result.troubles:
        if trouble.reason != NOT_IN_TABLE_REASON:
            listener(_event(trouble))


def _event(trouble: ClipTrouble) -> ClipShort | ClipFailed:
    if trouble.kind == "short":
        return ClipShort(trouble.clip_id, trouble.reason)
    return ClipFailed(trouble.clip_id, trouble.kind, trouble.reason)
