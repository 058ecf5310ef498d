"""Archives and files from each kind of source, through its ordinary client."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.cards import Source
from pipeline.errors import WeightsError
from pipeline.events import Listener, TaskFinished, TaskStarted
from pipeline.files import sha256_of
from pipeline.weights.http import download

_TIMEOUT_S = 1800.0


def describe(source: Source) -> str:
    """A source in a few words."""
    if source.kind == "url":
        return source.url
    version = f" {source.version}" if source.version else ""
    kind = {"pypi": "PyPI", "npm": "npm", "debian": "Debian"}[source.kind]
    return f"{kind} package {source.package}{version}"


def obtain(source: Source, archives: Path, *, listener: Listener) -> Path:
    """The file behind a source, kept in ``archives`` so that its members cost one download.

    Raises:
        WeightsError: the client is missing or fails, or the digest is not the card's.
    """
    archives.mkdir(parents=True, exist_ok=True)
    kept = archives / _kept_name(source)
    if not kept.exists():
        part = kept.with_name(kept.name + ".part")
        _FETCHERS[source.kind](source, part, listener)
        _check_archive(source, part)
        part.replace(kept)
    elif source.archive_sha256 and sha256_of(kept) != source.archive_sha256:
        kept.unlink()
        return obtain(source, archives, listener=listener)
    return kept


def _kept_name(source: Source) -> str:
    what = f"{source.kind} {source.package} {source.version} {source.url} {source.archive_sha256}"
    readable = source.url.rsplit("/", 1)[-1] if source.kind == "url" else f"{source.package}-{source.version}"
    safe = "".join(char if char.isalnum() or char in "._-=" else "_" for char in readable)
    return f"{hashlib.sha256(what.encode()).hexdigest()[:12]}-{safe[-80:]}"


def _check_archive(source: Source, path: Path) -> None:
    if not source.archive_sha256:
        return
    found = sha256_of(path)
    if found != source.archive_sha256:
        path.unlink()
        raise WeightsError(
            f"{describe(source)} came with SHA-256 {found} where {source.archive_sha256} is expected; not used"
        )


def _fetch_url(source: Source, part: Path, listener: Listener) -> None:
    download(source.url, part, listener=listener)


def _fetch_pypi(source: Source, part: Path, listener: Listener) -> None:
    options = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python"]
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        *quiet,
        f"{source.package}=={source.version}",
        "-d",
        ".",
    ]
    _run_client(source, command, "*.whl", part, listener)


def _fetch_npm(source: Source, part: Path, listener: Listener) -> None:
    _run_client(source, ["npm", "pack", "--silent", f"{source.package}@{source.version}"], "*.tgz", part, listener)


def _fetch_debian(source: Source, part: Path, listener: Listener) -> None:
    wanted = f"{source.package}={source.version}" if source.version else source.package
    _run_client(source, ["apt-get", "download", "--quiet", wanted], "*.deb", part, listener)


def _run_client(source: Source, command: Sequence[str], pattern: str, part: Path, listener: Listener) -> None:
    """Run a package client in a folder of its own and take the one file it leaves."""
    task = f"download {source.package}"
    listener(TaskStarted(task, None, "B"))
    try:
        with tempfile.TemporaryDirectory(dir=part.parent) as folder:
            _call(source, command, Path(folder))
            found = sorted(Path(folder).glob(pattern))
            if len(found) != 1:
                raise WeightsError(f"{describe(source)}: expected one {pattern} file, the client left {len(found)}")
            shutil.move(found[0], part)
    finally:
        listener(TaskFinished(task))


def _call(source: Source, command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=_TIMEOUT_S, check=False)
    except FileNotFoundError as error:
        raise WeightsError(f"{describe(source)}: {command[0]} is not installed here") from error
    except subprocess.TimeoutExpired as error:
        raise WeightsError(f"{describe(source)}: {command[0]} gave nothing in {_TIMEOUT_S:.0f} s") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        told = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "no message")
        raise WeightsError(f"{describe(source)}: {told.strip()}")


_FETCHERS: dict[str, Callable[[Source, Path, Listener], None]] = {
    "url": _fetch_url,
    "pypi": _fetch_pypi,
    "npm": _fetch_npm,
    "debian": _fetch_debian,
}
