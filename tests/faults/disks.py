"""Disks that are full: a small tmpfs where it may be mounted, or a limit on the size of files."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_TMPFS_BYTES = 8 << 20
_BLOCK = 1 << 12


@contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """Mount a tmpfs of 8 MB at ``place`` for the block; gives False, and mounts nothing, where that is not allowed."""
    place.mkdir(parents=True, exist_ok=True)
    mounted = _succeeds("mount", "-t", "tmpfs", "-o", f"size={_TMPFS_BYTES}", "tmpfs", str(place))
    try:
        yield mounted
    finally:
        if mounted and not _succeeds("umount", str(place)):
            _succeeds("umount", "--lazy", str(place))


def _succeeds(*command: str) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def fill(place: Path, left_bytes: int) -> Path:
    """Fill the disk of ``place`` but for about ``left_bytes``; gives the file to be removed."""
    ballast = place / "ballast"
    handle = os.open(ballast, os.O_WRONLY | os.O_CREAT, 0o644)
    size = 0
    try:
        while True:
            size += os.write(handle, bytes(_BLOCK))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        os.ftruncate(handle, max(0, size - left_bytes))
    finally:
        os.close(handle)
    return ballast


def limit_files(processes: list[psutil.Process], n_bytes: int) -> None:
    """From now on, no file that one of the processes (or a child to come) writes may grow beyond ``n_bytes``."""
    for process in processes:
        try:
            process.rlimit(psutil.RLIMIT_FSIZE, (n_bytes, n_bytes))
        except psutil.NoSuchProcess:
            continue
