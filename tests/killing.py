"""Help for tests that kill: the processes below a command, and waiting until they are gone."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence

import psutil


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes below it; its workers among them. None where it has ended."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Those of the family that do the work."""
    return [child for child in family(process) if "spawn_main" in _command_of(child)]


def require_gone(children: Sequence[psutil.Process], within_s: float = 15.0) -> None:
    """Wait until all have ended."""
    stop = time.monotonic() + within_s
    while living := [child for child in children if lives(child)]:
        assert time.monotonic() < stop, f"still there: {living}"
        time.sleep(0.1)


def lives(process: psutil.Process) -> bool:
    """Whether it still runs; one that nobody has waited for has ended."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
