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
import json
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

import h5py
import platformdirs

from pipeline.errors import StoreError
from pipeline.interpreter import python, python_path
from pipeline.stores.hdf5_look import OUT_OF_MEMORY, WALL_S
from pipeline.stores.remote import CACHE_VARIABLE
from pipeline.texts import shown

#: Processor seconds: for any file, and for each of its gigabytes.
CPU_S, CPU_S_PER_GB = 3, 60
#: Memory of a look beside what four times the file's bytes take.
MEMORY_BYTES = 1 << 32
_MOST_REMEMBERED = 1000
_VERSION = 2
#: How a child ends that others end: the machine's want of memory, a long wait for the disk, a user.
_BY_OTHERS = tuple(-number for number in (signal.SIGALRM, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))


def require_safe(path: Path, *, names: Sequence[str] = (), cpu_s: int | None = None) -> None:
    """Look at a file in a child first, unless it is known.

    Args:
        names: datasets that will be read beside those of a store, by their paths in the file.
        cpu_s: processor seconds that the look may take; by the file's size unless given.

    Raises:
        StoreError: the child did not come to an end, crashed, or took more memory than any store; or none
            could be started, which is asked anew the next time.
    """
    try:
        about = path.stat()
    except OSError as error:
        raise StoreError(f"{path} cannot be opened as HDF5: {error.strerror or error}.") from error
    if not path.is_file():
        raise StoreError(f"{path} cannot be opened as HDF5: it is no plain file.")
    key = _identity(about, names)
    if key in _UNSAFE:
        raise StoreError(_UNSAFE[key])
    if key in _KNOWN or _is_remembered(key):
        return
    limit_s = cpu_s if cpu_s is not None else CPU_S + int(CPU_S_PER_GB * about.st_size / 1e9)
    request = {"path": os.fspath(path.absolute()), "names": list(names), "cpu_s": limit_s}
    status = _ask(path, request | {"memory_bytes": MEMORY_BYTES + 4 * about.st_size})
    if status:
        message = _in_words(status, path, limit_s)
        if status not in _BY_OTHERS:
            _UNSAFE[key] = message
        raise StoreError(message)
    _KNOWN.add(key)
    _remember(key)


def _in_words(status: int, path: Path, limit_s: int) -> str:
    """How the child ended: an exit status, or minus a signal."""
    if status in _BY_OTHERS:
        why = f"took more than {limit_s * WALL_S} s" if status == -signal.SIGALRM else f"was ended by signal {-status}"
        return f"{path} is not opened: the first look at it {why}: is the disk slow, or the memory full? Try again."
    if status == -signal.SIGXCPU:
        why = f"reading its metadata comes to no end (stopped after {limit_s} s of work)"
    elif status == OUT_OF_MEMORY:
        why = "its metadata would take more memory than those of any store"
    else:
        why = f"HDF5 crashes on its metadata (status {status})"
    return f"{path} is not opened: {why}: damaged or forged. Fetch it again, or extract it again."


# --- what is known -------------------------------------------------------------------------------

_KNOWN: set[str] = set()
_UNSAFE: dict[str, str] = {}


def _identity(about: os.stat_result, names: Sequence[str]) -> str:
    facts = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns, *names)
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


def _ask(path: Path, request: dict[str, object]) -> int:
    """How a child ended that looked at the file: 0, an exit status, or minus a signal.

    Raises:
        StoreError: there is no helper to be had.
    """
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
        _HELPER.append(
            subprocess.Popen(
                python("-c", "from pipeline.stores.hdf5_look import serve; serve()"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
                env=os.environ | python_path() | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
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
