"""Renders many arrangements on all cores, and goes on where it was stopped.

Every finished clip is a line in ``rendered.jsonl``, whose first line is the digest of the plan; a
journal of another plan is started anew, and all clips are rendered again in place.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path

from pipeline.datasets.corpora.arrange import Arrangement
from pipeline.datasets.corpora.render import RATE_HZ, VERSION, Rendered, Renderer
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, ignore

JOURNAL = "rendered.jsonl"
_BATCH = 8
_renderer: Renderer | None = None  # one per worker process


def render_all(
    arrangements: Sequence[Arrangement],
    folder: Path,
    banks: Sequence[Path],
    *,
    task: str = "rendering",
    n_workers: int = 0,
    listener: Listener = ignore,
) -> dict[str, Rendered]:
    """Render what is not there yet below ``folder/audio``; gives all clips by path.

    Args:
        banks: sound bank files; a part's ``bank`` counts in this list.
        n_workers: processes; 0 takes the cores this process may use, 1 renders right here.
    """
    digest = plan_digest(arrangements, banks)
    journal = folder / JOURNAL
    done = _read_journal(journal, folder / "audio", digest)
    left = [arrangement for arrangement in arrangements if arrangement.path not in done]
    listener(TaskStarted(task, len(arrangements), "clips"))
    listener(TaskAdvanced(task, len(arrangements) - len(left), "found"))
    try:
        with journal.open("a", encoding="utf-8") as lines:
            for batch in _rendered(left, folder / "audio", banks, n_workers or len(os.sched_getaffinity(0))):
                lines.writelines(json.dumps(asdict(clip)) + "\n" for clip in batch)
                lines.flush()
                done |= {clip.path: clip for clip in batch}
                listener(TaskAdvanced(task, len(batch)))
    finally:
        listener(TaskFinished(task))
    return {arrangement.path: done[arrangement.path] for arrangement in arrangements}


def plan_digest(arrangements: Sequence[Arrangement], banks: Sequence[Path]) -> str:
    """SHA-256 over all that decides the samples: version, rate, the banks' names, every note."""
    digest = hashlib.sha256(json.dumps([VERSION, RATE_HZ, [bank.name for bank in banks]]).encode())
    for arrangement in arrangements:
        digest.update(repr(arrangement).encode())
    return digest.hexdigest()


def _read_journal(journal: Path, audio: Path, digest: str) -> dict[str, Rendered]:
    """Clips that the journal names and that are on the disk in full; starts one where there is none."""
    lines = journal.read_text("utf-8").splitlines() if journal.is_file() else []
    if not lines or lines[0] != digest:
        journal.parent.mkdir(parents=True, exist_ok=True)
        journal.write_text(digest + "\n", "utf-8")
        return {}
    clips = [Rendered(**json.loads(line)) for line in lines[1:] if line.endswith("}}")]
    if not journal.read_bytes().endswith(b"\n"):
        with journal.open("a", encoding="utf-8") as handle:
            handle.write("\n")
    return {clip.path: clip for clip in clips if _size(audio / clip.path) == clip.n_bytes}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _rendered(
    arrangements: Sequence[Arrangement], audio: Path, banks: Sequence[Path], n_workers: int
) -> Iterator[list[Rendered]]:
    batches = [arrangements[start : start + _BATCH] for start in range(0, len(arrangements), _BATCH)]
    if n_workers == 1 or len(batches) <= 1:
        renderer = Renderer(banks) if batches else None
        yield from ([renderer.render(clip, audio) for clip in batch] for batch in batches if renderer)
        return
    pool = ProcessPoolExecutor(
        n_workers, multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(list(banks),)
    )
    try:
        pending: set[Future[list[Rendered]]] = {pool.submit(_work, batch, audio) for batch in batches}
        while pending:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(banks: Sequence[Path]) -> None:
    global _renderer  # noqa: PLW0603 - a worker process holds its sound banks
    _renderer = Renderer(banks)


def _work(batch: Sequence[Arrangement], audio: Path) -> list[Rendered]:
    if _renderer is None:
        raise RuntimeError("the worker was not started with its sound banks")
    return [_renderer.render(arrangement, audio) for arrangement in batch]
