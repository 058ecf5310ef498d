"""A first look at an HDF5 file, in a process that may die of it.

HDF5's own library trusts what a file says: one flipped bit in a heap of texts makes it walk in a
circle for ever, and crafted metadata have made it crash.  So a file that is not known yet is opened
in a child with a limit on time and memory; only one that the child survives is opened here.  A file
that was looked at is remembered by what the disk says of it (inode, size, times), so that opening it
again costs nothing.

The children are forked by one helper process, which is started on first use, has loaded HDF5 and
has no threads: a look takes some milliseconds more than opening the file.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import h5py
import platformdirs

from pipeline.errors import StoreError
from pipeline.stores import guard
from pipeline.stores.hdf5_guard import read_texts, require_inflatable, require_numbers
from pipeline.stores.remote import CACHE_VARIABLE
from pipeline.stores.schema import CLIP_ARRAYS, DAMAGE
from pipeline.texts import shown

#: Processor seconds: for any file, and for each of its gigabytes; wall-clock seconds for one of these.
CPU_S, CPU_S_PER_GB, WALL_S = 3, 60, 10
#: Memory of a look beside what four times the file's bytes take.
MEMORY_BYTES = 1 << 32
_MOST_REMEMBERED = 1000
_MOST_ARRAYS = 128
_OUT_OF_MEMORY = 3
_VERSION = 1
T = TypeVar("T")


def require_safe(path: Path, *, cpu_s: int | None = None) -> None:
    """Look at a file in a child first, unless it is known.

    Args:
        cpu_s: processor seconds that the look may take; by the file's size unless given.

    Raises:
        StoreError: the child did not come to an end, crashed, or took more memory than any store.
    """
    try:
        about = path.stat()
    except OSError as error:
        raise StoreError(f"{path} cannot be opened as HDF5: {error.strerror or error}.") from error
    if not path.is_file():
        raise StoreError(f"{path} cannot be opened as HDF5: it is no plain file.")
    key = _identity(about)
    if key in _UNSAFE:
        raise StoreError(_UNSAFE[key])
    if key in _KNOWN or _is_remembered(key):
        return
    limit_s = cpu_s if cpu_s is not None else CPU_S + int(CPU_S_PER_GB * about.st_size / 1e9)
    try:
        _judge(_ask(path, limit_s, MEMORY_BYTES + 4 * about.st_size), path, limit_s)
    except StoreError as error:
        _UNSAFE[key] = str(error)
        raise
    _KNOWN.add(key)
    _remember(key)


def _judge(status: int, path: Path, limit_s: int) -> None:
    """Turn how the child ended, as a shell counts it, into words."""
    if status == 0:
        return
    if status in (-signal.SIGXCPU, -signal.SIGALRM, -signal.SIGKILL):
        why = f"reading its metadata comes to no end (stopped after {limit_s} s of work)"
    elif status == _OUT_OF_MEMORY:
        why = "its metadata would take more memory than those of any store"
    else:
        why = f"HDF5 crashes on its metadata (status {status})"
    raise StoreError(f"{path} is not opened: {why}: damaged or forged. Fetch it again, or extract it again.")


# --- what is known -------------------------------------------------------------------------------

_KNOWN: set[str] = set()
_UNSAFE: dict[str, str] = {}


def _identity(about: os.stat_result) -> str:
    facts = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    return hashlib.sha256(f"{_VERSION} {h5py.version.hdf5_version} {facts}".encode()).hexdigest()[:32]


def _memory_folder() -> Path:
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("east") / "stores") / "hdf5-seen"


def _is_remembered(key: str) -> bool:
    try:
        return (_memory_folder() / key).exists()
    except OSError:
        return False


def _remember(key: str) -> None:
    """An empty file by that name; the oldest are let go.  Without a cache folder, looks are repeated."""
    with contextlib.suppress(OSError):
        folder = _memory_folder()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / key).touch()
        if len(names := os.listdir(folder)) > _MOST_REMEMBERED:  # noqa: PTH208
            for old in sorted(folder / name for name in names)[: _MOST_REMEMBERED // 2]:
                old.unlink(missing_ok=True)


# --- the helper process, from outside ------------------------------------------------------------

_LOCK = threading.Lock()
_HELPER: list[subprocess.Popen[str]] = []
_INHERITED: list[subprocess.Popen[str]] = []


def _ask(path: Path, cpu_s: int, memory_bytes: int) -> int:
    """How a child ended that looked at the file: 0, an exit status, or minus a signal.

    Raises:
        StoreError: there is no helper to be had.
    """
    request = {"path": os.fspath(path.absolute()), "cpu_s": cpu_s, "memory_bytes": memory_bytes}
    with _LOCK:
        try:
            helper = _helper()
            return int(json.loads(_talk(helper, json.dumps(request)))["status"])
        except (OSError, ValueError) as error:
            _stop()
            raise StoreError(f"{path} cannot be looked at in a process of its own: {shown(str(error))}.") from error
        except BaseException:  # interrupted between question and answer
            _stop()
            raise


def _talk(helper: subprocess.Popen[str], line: str) -> str:
    if helper.stdin is None or helper.stdout is None:
        raise OSError("no pipes")
    helper.stdin.write(line + "\n")
    helper.stdin.flush()
    return helper.stdout.readline()


def _helper() -> subprocess.Popen[str]:
    if not _HELPER or _HELPER[0].poll() is not None:
        _HELPER.clear()
        root = str(Path(__file__).parents[2])
        paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
        _HELPER.append(
            subprocess.Popen(
                [sys.executable, "-c", "from pipeline.stores.hdf5_probe import serve; serve()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
                env=os.environ
                | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            )
        )
    return _HELPER[0]


def _stop() -> None:
    for helper in _HELPER:
        helper.kill()
        helper.communicate()
    _HELPER.clear()


def _after_fork() -> None:
    """A forked child starts a helper of its own."""
    global _LOCK  # noqa: PLW0603
    _LOCK = threading.Lock()
    _INHERITED.extend(_HELPER)
    _HELPER.clear()


atexit.register(_stop)
os.register_at_fork(after_in_child=_after_fork)


# --- the helper process, from inside -------------------------------------------------------------


def serve() -> None:
    """Fork a child for each line of standard input; say how it ended."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_look(request["path"], request["cpu_s"], request["memory_bytes"]))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps({"status": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


def _look(path: str, cpu_s: int, memory_bytes: int) -> int:
    """The look itself, behind limits whose breach the system answers by ending the process."""
    _limit(resource.RLIMIT_CPU, cpu_s + int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2])))
    _limit(resource.RLIMIT_AS, memory_bytes + _own_bytes())
    _limit(resource.RLIMIT_CORE, 0)
    signal.alarm(cpu_s * WALL_S)
    try:
        _touch(path)
    except MemoryError:
        return _OUT_OF_MEMORY
    except Exception:  # who opens the file after this meets the same, and says it in words
        return 0
    return 0


def _limit(what: int, most: int) -> None:
    with contextlib.suppress(ValueError, OSError):  # a lower limit holds already, or the system knows none
        resource.setrlimit(what, (most, most))


def _own_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, ValueError):
        return 1 << 32


def _touch(path: str) -> None:
    """Read all that is read of a store before its features are, and where the features lie."""
    with h5py.File(path, "r", locking=False) as file:
        for key in _survive(lambda: list(file.attrs)) or ():
            _survive(partial(file.attrs.__getitem__, key))
        names = list(itertools.islice(file, _MOST_ARRAYS))
        canaries = file.get("canary") if "canary" in names else None
        if isinstance(canaries, h5py.Group):
            names += [f"canary/{name}" for name in itertools.islice(canaries, _MOST_ARRAYS)]
        for name in names:
            _survive(partial(_touch_array, file, name))


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
        if dataset.chunks:
            dataset.id.chunk_iter(lambda place: None)
        return
    require_numbers(dataset, where, name)
    guard.require_chunk(where, name, int(dataset.nbytes))
    require_inflatable(dataset, where, name, 0, len(dataset) if dataset.ndim else 0)
    dataset[...]


def _survive(step: Callable[[], T]) -> T | None:
    """What a step gives; what merely raises is met again, and named, by who opens the file after this."""
    try:
        return step()
    except (StoreError, *DAMAGE):
        return None
