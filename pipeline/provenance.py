"""Where numbers come from: versions, commit, machine type and time, as plain JSON values.

Stores and runs are shared, so no host name, user name or absolute path is recorded.  Versions are
read from package metadata: asking for them imports nothing heavy.
"""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

from pipeline import __version__

PACKAGES = ("torch", "numpy", "zarr", "h5py", "librosa", "soundfile", "soxr", "dask", "lightning")
_GIT_TIMEOUT_S = 5.0


def describe(**extra: Any) -> dict[str, Any]:
    """What made this: project, Python, libraries, machine type, UTC time, and ``extra`` as given.

    Returns:
        Keys ``version``, ``commit`` (None outside a checkout), ``dirty``, ``python``, ``packages``
        (name to version, absent packages left out), ``platform`` (``system``, ``machine``,
        ``cpu``) and ``time`` (ISO 8601, UTC, whole seconds), then those of ``extra``.
    """
    commit, dirty = git_state(Path(__file__).resolve().parent)
    return {
        "version": __version__,
        "commit": commit,
        "dirty": dirty,
        "python": platform.python_version(),
        "packages": dict(_package_versions()),
        "platform": {"system": platform.system(), "machine": platform.machine(), "cpu": _cpu_model()},
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    } | extra


def config_hash(mapping: Mapping[str, Any]) -> str:
    """SHA-256 over canonical JSON: sorted keys, no spaces, so that key order does not matter.

    Tuples count as lists, paths as their POSIX text, dataclasses as their fields.

    Raises:
        TypeError: a value that has no JSON form.
        ValueError: NaN or infinity.
    """
    text = json.dumps(
        mapping, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
    )
    return hashlib.sha256(text.encode()).hexdigest()


def git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit and whether tracked files differ from it; (None, None) outside a checkout of this project."""
    root = folder.parent
    if not (root / ".git").exists() or not (root / "pyproject.toml").exists():
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return None, None
    changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    return commit, None if changed is None else bool(changed)


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=_GIT_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@cache
def _package_versions() -> tuple[tuple[str, str], ...]:
    found = [(name, _version_or_none(name)) for name in PACKAGES]
    libsndfile = _libsndfile_version()
    return tuple((name, text) for name, text in [*found, ("libsndfile", libsndfile)] if text)


def _version_or_none(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _libsndfile_version() -> str | None:
    """soundfile is light (cffi), and libsndfile's version is nowhere in the metadata."""
    try:
        import soundfile
    except (ImportError, OSError):
        return None
    return str(soundfile.__libsndfile_version__)


@cache
def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _plain(value: Any) -> Any:
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} {value!r} has no JSON form, so it cannot be hashed.")
