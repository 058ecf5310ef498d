"""Local files and addresses as open byte streams, with typed errors."""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO, cast

import fsspec

from pipeline.errors import AudioEmptyError, AudioMissingError, AudioUnreadableError, require

__all__ = ["file_name", "is_url", "open_descriptor", "open_stream", "stream_size"]

_URL = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]+):/{1,2}(?=[^/])")


def is_url(path: Path | str) -> bool:
    """Whether ``path`` is an address such as ``https://...`` or ``s3://...``.

    >>> is_url("s3://bucket/a.wav"), is_url(Path("https://host/a.wav")), is_url("/tmp/a.wav")
    (True, True, False)
    """
    return _URL.match(str(path)) is not None


def file_name(path: Path | str) -> str:
    """The last part of a path or address: what errors may show."""
    return str(path).rstrip("/").rpartition("/")[2]


def open_stream(path: Path | str) -> BinaryIO:
    """Open for reading bytes, with seeking.

    Raises:
        AudioMissingError: there is nothing, or a link that leads nowhere, or a folder.
        AudioUnreadableError: it may not be read, or the address does not answer.
        AudioEmptyError: a file of zero bytes.
    """
    if is_url(path):
        return _open_url(path)
    return os.fdopen(open_descriptor(path), "rb")


def open_descriptor(path: Path | str) -> int:
    """Open a local file and give its descriptor; raises like :func:`open_stream`."""
    path, name = Path(path), file_name(path)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise AudioMissingError(_why_missing(path), name=name) from error
    except PermissionError as error:
        raise AudioUnreadableError("permission denied; this user may not read the file", name=name) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "the name is not a usable path"
        raise AudioUnreadableError(f"could not be opened: {why}", name=name) from error
    try:
        _check_regular(descriptor, name)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def stream_size(stream: BinaryIO) -> int:
    """Length in bytes; the position is left at the start."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    return size


def _why_missing(path: Path) -> str:
    if path.is_symlink():
        return "a link that leads nowhere; its target was moved or deleted"
    return "no such file; it was moved, or the audio folder is another one"


def _check_regular(descriptor: int, name: str) -> None:
    found = os.fstat(descriptor)
    if stat.S_ISDIR(found.st_mode):
        raise AudioMissingError("a folder, not a file", name=name)
    if not stat.S_ISREG(found.st_mode):
        raise AudioUnreadableError("a pipe or device, not a file", name=name)
    if found.st_size == 0:
        raise AudioEmptyError("a file of 0 bytes; its copy or download was interrupted", name=name)


def _open_url(path: Path | str) -> BinaryIO:
    """Path objects fold the two slashes of an address into one; they are put back."""
    url, name = _URL.sub(r"\1://", str(path)), file_name(path)
    protocol = url.partition("://")[0]
    if protocol in ("s3", "s3a"):
        require("s3fs", extra="s3")
    try:
        stream = fsspec.open(url, "rb").open()
        return stream if stream.seekable() else _spooled(stream)
    except (OSError, ValueError, ImportError) as error:
        reached = not isinstance(error.__cause__, OSError)
        if isinstance(error, FileNotFoundError) and reached:
            raise AudioMissingError(f"the {protocol} server has no such file", name=name) from error
        raise AudioUnreadableError(
            f"could not be opened over {protocol} ({type(error).__name__})", name=name
        ) from error


def _spooled(stream: BinaryIO) -> BinaryIO:
    """A server without ranges: the whole file goes to a temporary one on disk."""
    spool = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with stream:
        shutil.copyfileobj(stream, spool)
    spool.seek(0)
    return cast(BinaryIO, spool)
