"""``east store verify``: whether a store is what it says, bit for bit."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import StoreError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, ignore
from pipeline.stores.checking.audio_files import AudioPlaces, check_audio
from pipeline.stores.checking.diagnosis import Diagnosis
from pipeline.stores.checking.findings import report_rows
from pipeline.stores.checking.report import Log, VerifyReport
from pipeline.stores.checking.small import Small, check_content, check_small
from pipeline.stores.checking.verify_hdf5 import verify_hdf5
from pipeline.stores.checking.verify_zarr import verify_zarr
from pipeline.stores.lease import LEASE
from pipeline.stores.opening import open_store
from pipeline.stores.reader import StoreReader
from pipeline.stores.schema import HDF5_SUFFIXES, State, StoreMeta
from pipeline.stores.target import working_path

CANARIES = "canaries"


@dataclass(frozen=True)
class CanaryResult:
    """What came of computing a store's canaries again; ``agrees`` is None where that was not possible."""

    agrees: bool | None
    text: str


#: Computes canaries again: root attributes and the arrays under ``canary/`` in.
Recompute = Callable[[StoreMeta, dict[str, np.ndarray]], CanaryResult]


@dataclass(frozen=True)
class VerifyOptions:
    """What is checked beyond the store's own bytes.

    Attributes:
        recompute: for the canaries; None leaves them out, and the report says so.
        audio: where the clips' audio is; None leaves it out.
    """

    recompute: Recompute | None = None
    audio: AudioPlaces | None = None


def verify_store(path: str | Path, options: VerifyOptions, listener: Listener = ignore) -> VerifyReport:
    """Check a store: a folder, a file (finished or its working folder), or the URL of a Zarr store.

    Raises:
        StoreError: there is nothing at ``path``.
    """
    if "://" in str(path):
        return _verify_remote(str(path), options, listener)
    return diagnose(find_place(Path(path)), options, listener)[0]


def find_place(path: Path) -> Path:
    """What is looked at: the working folder of an HDF5 store comes before the file it will replace.

    Raises:
        StoreError: there is nothing.
    """
    place = next((place for place in (working_path(path), path) if place.exists()), None)
    if place is None:
        raise StoreError(f"There is no store at {path}.")
    return place


def diagnose(
    place: Path, options: VerifyOptions, listener: Listener, *, held: bool = False
) -> tuple[VerifyReport, Diagnosis]:
    """Check a store on a disk; the diagnosis is what a repair starts from, which holds the lease itself."""
    began, log = time.monotonic(), Log()
    if not held and place.is_dir() and (place / LEASE).exists():
        log.notes.append("A writer holds the store, or died: what it is writing may look unfinished or damaged.")
    with _quiet_libraries():
        if place.is_dir():
            found = verify_zarr(place, log, listener)
        elif place.suffix in HDF5_SUFFIXES:
            found = verify_hdf5(place, log, listener)
        else:
            raise StoreError(f"{place} is neither a folder nor an HDF5 file ({', '.join(HDF5_SUFFIXES)}).")
        _check_canaries(found, options.recompute, log)
    if options.audio is not None and found.small is not None:
        check_audio(found.small, options.audio, log, listener)
    return _report(str(place), found.meta, found.small, log, began), found


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Zarr and numpy warn of odd metadata and values; here they are findings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_canaries(found: Diagnosis, recompute: Recompute | None, log: Log) -> None:
    if found.meta is None or found.small is None:
        log.skip(CANARIES, "not without the root attributes and small arrays")
        return
    if any(name.startswith("canary/") for name in found.damaged):
        log.skip(CANARIES, "they are damaged")
        return
    try:
        with open_store(found.place) as reader:
            stored = reader.canaries()
    except StoreError as error:
        log.skip(CANARIES, f"cannot be read: {error}")
        return
    take_canaries(found.meta, stored, recompute, log)


def take_canaries(meta: StoreMeta, stored: dict[str, np.ndarray], recompute: Recompute | None, log: Log) -> None:
    """Compute canaries again, or say why not."""
    if not stored:
        log.skip(CANARIES, "the store has none" + (": it is made from other stores" if meta.derived else ""))
    elif recompute is None:
        log.skip(CANARIES, "left out as asked")
    else:
        result = recompute(meta, stored)
        if result.agrees is None:
            log.skip(CANARIES, result.text)
            return
        if not result.agrees:
            log.find(CANARIES, "", result.text)
        log.close(CANARIES, result.text)


def _verify_remote(url: str, options: VerifyOptions, listener: Listener) -> VerifyReport:
    """A store at an address: through the reader, which checks what it reads chunk by chunk."""
    began, log = time.monotonic(), Log()
    with open_store(url) as reader:
        meta, small = reader.meta, Small(reader.arrays, {})
        check_small(small, meta.frames, log)
        flags, facts = np.zeros(len(reader), np.uint8), small.facts()
        listener(TaskStarted(f"verify {meta.name}", reader.n_bytes / 1e6, "MB"))
        for rows in reader.blocks():
            if facts.finished[rows].any():
                report_rows(_blocks(reader, rows), "features", facts, flags, log)
            log.n_bytes += len(rows) * meta.clip_bytes
            listener(TaskAdvanced(f"verify {meta.name}", len(rows) * meta.clip_bytes / 1e6))
        log.close("features", f"read through the reader; digest, zero rows, finite values of {len(facts):,} clips")
        check_content(small, meta, log)
        log.skip("digest list", "read over the network; fetch the store to have every file checked")
        take_canaries(meta, reader.canaries(), options.recompute, log)
        listener(TaskFinished(f"verify {meta.name}"))
    if options.audio is not None:
        check_audio(small, options.audio, log, listener)
    return _report(url, meta, small, log, began)


def _blocks(reader: StoreReader, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray | None, str]]:
    try:
        yield rows, reader.read(rows), ""
        return
    except StoreError:
        pass
    for first in range(0, len(rows), reader.meta.chunk_clips):
        part = rows[first : first + reader.meta.chunk_clips]
        try:
            yield part, reader.read(part), ""
        except StoreError as error:
            yield part, None, str(error)


def _report(place: str, meta: StoreMeta | None, small: Small | None, log: Log, began: float) -> VerifyReport:
    state = small.arrays.state if small is not None else np.zeros(0, np.uint8)
    complete = bool(meta is not None and meta.complete and not place.endswith(".partial"))
    return VerifyReport(
        path=place,
        format="hdf5" if place.endswith(HDF5_SUFFIXES) else "zarr",
        complete=complete,
        n_done=int((state == State.DONE).sum()),
        n_failed=int((state == State.FAILED).sum()),
        n_pending=int((state == State.PENDING).sum()),
        checks=tuple(log.checks),
        findings=tuple(log.findings),
        notes=tuple(log.notes),
        n_bytes=log.n_bytes,
        elapsed_s=time.monotonic() - began,
    )
