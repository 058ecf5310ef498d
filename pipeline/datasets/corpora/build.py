"""Renders many arrangements on all cores, and goes on where it was stopped.

Every finished clip is a line in ``rendered.jsonl`` with the digest of its arrangement, so that a plan
that grows or changes renders what is new or different and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path

import psutil

from pipeline.datasets.corpora.arrange import Arrangement
from pipeline.datasets.corpora.render import RATE_HZ, VERSION, BankFile, Rendered, Renderer
from pipeline.datasets.corpora.workers import count_workers, make_pool
from pipeline.errors import ManifestError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, ignore

JOURNAL = "rendered.jsonl"
_BATCH = 8
_renderer: Renderer | None = None  # one per worker process


def render_all(
    arrangements: Sequence[Arrangement],
    folder: Path,
    banks: Sequence[BankFile],
    *,
    task: str = "rendering",
    n_workers: int = 0,
    listener: Listener = ignore,
) -> dict[str, Rendered]:
    """Render what is not there yet below ``folder/audio``; gives all clips by path.

    Args:
        banks: sound banks; a part's ``bank`` counts in this list.
        n_workers: processes; 0 takes the cores this process may use, 1 renders right here.

    Raises:
        ManifestError: a process that renders was killed, or a file cannot be written.
    """
    digests = {arrangement.path: clip_digest(arrangement, banks) for arrangement in arrangements}
    journal = folder / JOURNAL
    done = _read_journal(journal, folder / "audio", digests)
    left = [arrangement for arrangement in arrangements if arrangement.path not in done]
    listener(TaskStarted(task, len(arrangements), "clips"))
    if n_found := len(arrangements) - len(left):
        listener(TaskAdvanced(task, n_found, "found", found=True))
    else:
        listener(TaskAdvanced(task, 0.0))
    _remove_drafts(folder / "audio")
    try:
        with journal.open("a", encoding="utf-8") as lines:
            for batch in _rendered(left, folder / "audio", banks, count_workers(n_workers)):
                lines.writelines(json.dumps({"digest": digests[clip.path]} | asdict(clip)) + "\n" for clip in batch)
                lines.flush()
                done |= {clip.path: clip for clip in batch}
                listener(TaskAdvanced(task, len(batch)))
    finally:
        listener(TaskFinished(task))
    return {arrangement.path: done[arrangement.path] for arrangement in arrangements}


def plan_digest(arrangements: Sequence[Arrangement], banks: Sequence[BankFile]) -> str:
    """SHA-256 over all that decides the samples: version, rate, the banks' names, every note."""
    digest = hashlib.sha256(json.dumps([VERSION, RATE_HZ, [bank.name for bank in banks]]).encode())
    for arrangement in arrangements:
        digest.update(repr(arrangement).encode())
    return digest.hexdigest()


def clip_digest(arrangement: Arrangement, banks: Sequence[BankFile]) -> str:
    """:func:`plan_digest` of one clip and of those banks only that play in it, shortened."""
    used = sorted({part.bank for part in arrangement.parts})
    return plan_digest([arrangement], [banks[index] for index in used])[:24]


def _read_journal(journal: Path, audio: Path, digests: Mapping[str, str]) -> dict[str, Rendered]:
    """Clips that the journal names under the plan's digest and that are on the disk in full."""
    text = journal.read_text("utf-8") if journal.is_file() else ""
    journal.parent.mkdir(parents=True, exist_ok=True)
    if text and not text.endswith("\n"):  # a line cut short by a kill ends here
        with journal.open("a", encoding="utf-8") as handle:
            handle.write("\n")
    found = {}
    for line in text.splitlines():
        if not (line.startswith("{") and line.endswith("}}")):
            continue
        values = json.loads(line)
        if values.pop("digest", "") == digests.get(values["path"], "-"):
            found[values["path"]] = Rendered(**values)
    return {path: clip for path, clip in found.items() if _size(audio / path) == clip.n_bytes}


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _remove_drafts(audio: Path) -> None:
    """Remove what processes that were killed had begun to write."""
    for draft in audio.glob("**/.*.tmp"):
        pid = draft.name.split(".")[-2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            draft.unlink(missing_ok=True)


def _rendered(
    arrangements: Sequence[Arrangement], audio: Path, banks: Sequence[BankFile], n_workers: int
) -> Iterator[list[Rendered]]:
    batches = [arrangements[start : start + _BATCH] for start in range(0, len(arrangements), _BATCH)]
    if n_workers == 1 or len(batches) <= 1:
        renderer = Renderer(banks) if batches else None
        yield from ([renderer.render(clip, audio) for clip in batch] for batch in batches if renderer)
        return
    pool = make_pool(n_workers, _start_worker, list(banks))
    try:
        pending: set[Future[list[Rendered]]] = {pool.submit(_work, batch, audio) for batch in batches}
        while pending:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in finished)
    except BrokenProcessPool as error:
        raise ManifestError(
            f"One of the {n_workers} processes that render ended without a word; memory may have run out. "
            "What is rendered is kept: build again, with a smaller --workers if it happens twice."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(banks: Sequence[BankFile]) -> None:
    global _renderer  # noqa: PLW0603 - a worker process holds its sound banks
    _renderer = Renderer(banks)


def _work(batch: Sequence[Arrangement], audio: Path) -> list[Rendered]:
    if _renderer is None:
        raise RuntimeError("the worker was not started with its sound banks")
    return [_renderer.render(arrangement, audio) for arrangement in batch]
