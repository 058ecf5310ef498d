"""All checks of an HDF5 store: what HDF5's checksums cover, clips' digests, and the seal over the whole file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pipeline.errors import StoreError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted
from pipeline.stores.checking.diagnosis import Diagnosis
from pipeline.stores.checking.findings import report_rows
from pipeline.stores.checking.report import Log
from pipeline.stores.checking.small import CHECK, ReadRows, Small, check_content, check_small, read_small
from pipeline.stores.coordinates import TIME, check_times
from pipeline.stores.guard import open_regular
from pipeline.stores.hdf5_guard import require_inflatable, require_numbers, require_texts
from pipeline.stores.hdf5_probe import require_safe
from pipeline.stores.reader import require_plausible
from pipeline.stores.schema import CLIP_ARRAYS, DAMAGE, MAX_STRING, StoreMeta, parse_meta
from pipeline.stores.seal import SEAL_BYTES, SEALED, Seal, hdf5_bytes, parse_seal

SEAL = "seal"
Advance = Callable[[int], None]
_BLOCK_BYTES = 1 << 23
_CRC = 4
_MOST_ATTRIBUTE = 1 << 24


def verify_hdf5(path: Path, log: Log, listener: Listener) -> Diagnosis:
    """Check a file; what is found goes to ``log``, what is known comes back."""
    with open_regular(path, follow=True) as handle:
        size = os.fstat(handle.fileno()).st_size
        head = handle.read(96)
        handle.seek(max(0, size - SEAL_BYTES))
        seal = parse_seal(handle.read(SEAL_BYTES))
    task = f"verify {path.name}"
    listener(TaskStarted(task, size / 1e6, "MB"))
    found = Diagnosis(path)
    with ThreadPoolExecutor(1, thread_name_prefix="seal") as pool:
        digest = pool.submit(_digest, path, size - SEAL_BYTES if seal else 0, found)
        try:
            sealed = _check_inside(path, found, log, partial(_advance, listener, task))
        except BaseException:
            found.stopped = True
            raise
        if seal is not None:
            _check_seal(seal, digest.result(), size, log)
        else:
            _check_missing_seal(size, hdf5_bytes(head), sealed, log)
    log.n_bytes += size
    listener(TaskFinished(task))
    return found


def _advance(listener: Listener, task: str, n_bytes: int) -> None:
    listener(TaskAdvanced(task, n_bytes / 1e6))


def _digest(path: Path, n_bytes: int, found: Diagnosis) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while n_bytes > 0 and not found.stopped and (block := handle.read(min(n_bytes, _BLOCK_BYTES))):
            digest.update(block)
            n_bytes -= len(block)
    return digest.hexdigest()


def _check_seal(seal: Seal, digest: str, size: int, log: Log) -> None:
    if seal.n_bytes != size - SEAL_BYTES:
        log.find(SEAL, "", f"the file was sealed with {seal.n_bytes:,} bytes and has {size - SEAL_BYTES:,}")
    elif seal.sha256 != digest:
        log.find(SEAL, "", "its bytes are not those that were sealed: the file is damaged")
    log.close(SEAL, f"SHA-256 of all {seal.n_bytes:,} bytes")


def _check_missing_seal(size: int, promised: int | None, sealed: bool | None, log: Log) -> None:
    if promised == size and not sealed:
        log.skip(
            SEAL, "there is none, as in older stores: texts, attributes, HDF5's own trees and unused bytes are covered "
            "as far as HDF5's checksums, the clips' digests and the fingerprint go"
        )  # fmt: skip
    else:
        log.find(SEAL, "", _no_seal(size, promised))
        log.close(SEAL, "not to be used")


def _no_seal(size: int, promised: int | None) -> str:
    if promised is None:
        return "the file's first bytes are not those of HDF5, and there is no seal"
    if size < promised:
        return f"the file is cut short: {size:,} of {promised:,} bytes"
    if size == promised:
        return "the seal is gone: a program has changed the file since, or its end was cut off"
    if size == promised + SEAL_BYTES:
        return "the seal itself is damaged; so it says nothing of the rest of the file"
    return f"{size - promised:,} bytes behind the end of HDF5's data are no whole seal"


def _check_inside(path: Path, found: Diagnosis, log: Log, advance: Advance) -> bool | None:
    """What HDF5 gives to read; returns whether the file says that it is sealed."""
    try:
        require_safe(path)
        file = h5py.File(path, "r", locking=False)
    except (StoreError, *DAMAGE) as error:
        log.find("root attributes", "", f"HDF5 cannot open it: {error}")
        log.close("root attributes", "cannot be read")
        return None
    with file:
        try:
            attributes = read_attributes(file)
            found.meta = parse_meta(attributes, path.name)
        except (StoreError, *DAMAGE) as error:
            log.find("root attributes", "", str(error))
            log.close("root attributes", "cannot be read")
            return None
        meta = found.meta
        log.close("root attributes", f"{meta.name}, {meta.mode}, {meta.dtype}, format version 1")
        found.small = _small_arrays(file, meta, log)
        if found.small is not None:
            found.flags = np.zeros(len(found.facts()), np.uint8)
            _check_features(file, meta, found, log, advance)
            check_content(found.small, meta, log)
        return bool(attributes.get(SEALED, False))


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """Root attributes, each a JSON text.

    Raises:
        ValueError, OSError and the like: damaged.
    """
    texts = {key: file.attrs[key] for key in file.attrs}
    return {
        key: json.loads(text) for key, text in texts.items() if isinstance(text, str) and len(text) <= _MOST_ATTRIBUTE
    }


def own_dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A dataset that lies in this file itself.

    Raises:
        StoreError: there is none.
    """
    own = isinstance(file.get(name, getlink=True), h5py.HardLink)
    dataset = file[name] if own else None
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise StoreError(f"there is no usable array {name!r}")
    return dataset


def _small_arrays(file: h5py.File, meta: StoreMeta, log: Log) -> Small | None:
    readers: dict[str, tuple[ReadRows, int]] = {}
    n = -1
    for name, (shape, kind) in CLIP_ARRAYS.items():
        try:
            dataset = own_dataset(file, name)
            if name == "clip_id":
                n = int(dataset.shape[0])
                require_plausible(str(file.filename), n, dataset.id.get_storage_size())
            if dataset.shape != (n, *shape):
                raise StoreError(f"it has shape {dataset.shape}, expected {(n, *shape)}")
            if kind is str:
                require_texts(dataset, str(file.filename), name)
            else:
                require_numbers(dataset, str(file.filename), name, np.dtype(kind))
                require_inflatable(dataset, str(file.filename), name, 0, n)
        except (StoreError, *DAMAGE) as error:
            log.find(CHECK, name, str(error))
            if name == "clip_id":
                log.skip(CHECK, "without the ids nothing can be said of the clips")
                log.skip("features", "not without the clips' ids")
                return None
            continue
        step = dataset.chunks[0] if dataset.chunks else n
        readers[name] = (partial(_texts if kind is str else _numbers, dataset), step)
    _check_time(file, meta, log)
    small = read_small(readers, n, log)
    check_small(small, meta.frames, log)
    return small


def _check_time(file: h5py.File, meta: StoreMeta, log: Log) -> None:
    """Where frames begin; stores of earlier releases have no such array."""
    try:
        if TIME not in file:
            return
        dataset = own_dataset(file, TIME)
        faults = list(check_times(dataset.shape, partial(_numbers, dataset), meta))
    except (StoreError, *DAMAGE) as error:
        faults = [str(error)]
    for text in faults:
        log.find(CHECK, TIME, text)


def _numbers(dataset: h5py.Dataset, rows: slice) -> np.ndarray:
    return np.asarray(dataset[rows])


def _texts(dataset: h5py.Dataset, rows: slice) -> np.ndarray:
    values = dataset[rows].tolist()
    if not all(isinstance(value, bytes) and len(value) <= 4 * MAX_STRING for value in values):
        raise ValueError("not short texts")
    return np.array([value.decode("utf-8", "surrogateescape") for value in values], object)


def _check_features(file: h5py.File, meta: StoreMeta, found: Diagnosis, log: Log, advance: Advance) -> None:
    facts = found.facts()
    try:
        features = own_dataset(file, "features")
        if features.shape != (len(facts), meta.frames, meta.channels) or features.dtype != np.dtype(meta.dtype):
            raise StoreError(f"they are {features.dtype} {features.shape}, the attributes promise other ones")
        require_numbers(features, str(file.filename), "features")
    except (StoreError, *DAMAGE) as error:
        log.find("features", "features", str(error))
        log.close("features", "cannot be read")
        return
    found.features_ok = True
    report_rows(read_blocks(features, meta, advance), "features", facts, found.flags, log)
    n = int(facts.finished.sum())
    log.close("features", f"HDF5's checksums of all chunks; digest, zero rows, finite values of {n:,} clips")


def read_blocks(
    features: h5py.Dataset, meta: StoreMeta, advance: Advance
) -> Iterator[tuple[np.ndarray, np.ndarray | None, str]]:
    """Rows, features and, where HDF5 refuses a chunk, why; such a chunk's bytes are then read as they are."""
    n, step = features.shape[0], features.chunks[0] if features.chunks else 1
    block = max(step, _BLOCK_BYTES // max(1, meta.clip_bytes) // step * step)
    for first in range(0, n, block):
        rows = np.arange(first, min(first + block, n))
        try:
            require_inflatable(features, "it", "features", first, int(rows[-1]) + 1)
            whole: np.ndarray | None = np.asarray(features[first : rows[-1] + 1])
        except (StoreError, *DAMAGE):
            whole = None
        if whole is not None:
            yield rows, whole, ""
        else:
            for start in range(first, int(rows[-1]) + 1, step):
                yield _one_chunk(features, np.arange(start, min(start + step, n)))
        advance(len(rows) * meta.clip_bytes)


def _one_chunk(features: h5py.Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, str]:
    first, stop = int(rows[0]), int(rows[-1]) + 1
    try:
        require_inflatable(features, "it", "features", first, stop)
        return rows, np.asarray(features[first:stop]), ""
    except (StoreError, *DAMAGE) as error:
        why = str(error)
    try:
        if features.compression is not None:
            return rows, None, why
        _, content = features.id.read_direct_chunk((first, 0, 0))
        raw = np.frombuffer(content[:-_CRC], features.dtype).reshape(features.chunks)
        return rows, raw[: len(rows)], why
    except DAMAGE:
        return rows, None, why
