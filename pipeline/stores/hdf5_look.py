"""The inside of the first look at an HDF5 file: a process that forks children, each of which may die of it.

See :mod:`pipeline.stores.hdf5_probe`, which starts it and asks.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import h5py

from pipeline.errors import StoreError
from pipeline.stores import guard
from pipeline.stores.exchange.hdf5_arrays import find_dataset, read_ids
from pipeline.stores.hdf5_guard import read_texts, require_inflatable, require_numbers
from pipeline.stores.schema import CLIP_ARRAYS, DAMAGE

#: Wall-clock seconds for each processor second that a look may take.
WALL_S = 10
OUT_OF_MEMORY = 3
_MOST_ARRAYS = 128
T = TypeVar("T")


def serve() -> None:
    """Fork a child for each line of standard input; say how it ended."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_look(request["path"], request["names"], request["cpu_s"], request["memory_bytes"]))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


def _look(path: str, names: Sequence[str], cpu_s: int, memory_bytes: int) -> int:
    """The look itself, behind limits whose breach the system answers by ending the process."""
    own_s = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))
    _limit(resource.RLIMIT_CPU, cpu_s + own_s, 1)  # ended by SIGXCPU, while SIGKILL comes from others
    _limit(resource.RLIMIT_AS, memory_bytes + _own_bytes())
    _limit(resource.RLIMIT_CORE, 0)
    signal.alarm(cpu_s * WALL_S)
    try:
        _touch(path, names)
    except MemoryError:
        return OUT_OF_MEMORY
    except Exception:  # who opens the file after this meets the same, and says it in words
        return 0
    return 0


def _limit(what: int, most: int, more: int = 0) -> None:
    with contextlib.suppress(ValueError, OSError):  # a lower limit holds already, or the system knows none
        resource.setrlimit(what, (most, most + more))


def _own_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return 1 << 32


def _touch(path: str, named: Sequence[str]) -> None:
    """Read all that is read of a store before its features are, and where the features lie; and what is named."""
    with h5py.File(path, "r", locking=False) as file:
        for key in _survive(lambda: list(file.attrs)) or ():
            _survive(partial(file.attrs.__getitem__, key))
        names = list(itertools.islice(file, _MOST_ARRAYS))
        canaries = file.get("canary") if "canary" in names else None
        if isinstance(canaries, h5py.Group):
            names += [f"canary/{name}" for name in itertools.islice(canaries, _MOST_ARRAYS)]
        for name in names:
            _survive(partial(_touch_array, file, name))
        for name in named:
            _survive(partial(_touch_named, file, name))


def _touch_array(file: h5py.File, name: str) -> None:
    own = isinstance(file.get(name, getlink=True), h5py.HardLink)
    dataset = file[name] if own else None
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        return
    where = str(file.filename)
    if name in CLIP_ARRAYS and h5py.check_string_dtype(dataset.dtype) is not None:
        read_texts(dataset, where, name)
        return
    if name not in CLIP_ARRAYS and not name.startswith("canary/"):
        _touch_chunks(dataset)
        return
    require_numbers(dataset, where, name)
    guard.require_chunk(where, name, int(dataset.nbytes))
    require_inflatable(dataset, where, name, 0, len(dataset) if dataset.ndim else 0)
    dataset[...]


def _touch_named(file: h5py.File, name: str) -> None:
    """Texts of any length, which lie in a heap, as a list of ids is read; of all else, where it lies."""
    dataset = find_dataset(file, name, str(file.filename))
    if (about := h5py.check_string_dtype(dataset.dtype)) and about.length is None:
        read_ids(dataset, str(file.filename), name)
    else:
        _touch_chunks(dataset)


def _touch_chunks(dataset: h5py.Dataset) -> None:
    if dataset.chunks:
        dataset.id.chunk_iter(lambda place: None)


def _survive(step: Callable[[], T]) -> T | None:
    """What a step gives; what merely raises is met again, and named, by who opens the file after this."""
    try:
        return step()
    except (StoreError, *DAMAGE):
        return None
