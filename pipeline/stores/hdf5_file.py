"""The file that HDF5 writes into: it takes a full disk calmly.

HDF5 cannot close a file that it could not write to the end: it complains at length and, when the
process ends, crashes.  This file keeps the first error to itself, forgets what is written after
it, and says so when it is asked.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class CalmFile(io.RawIOBase):
    """A new file for reading and writing, as h5py's driver for Python files wants it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        self._at = self._size = 0

    def require_written(self) -> None:
        """Raise the first error, if there was one.

        Raises:
            OSError: as the system gave it.
        """
        if self.error is not None:
            raise self.error

    def readable(self) -> bool:
        """Yes."""
        return True

    def writable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Where the next byte is read or written."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Go somewhere; the end is where it would be had everything been written."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """What lies here; zeros where it was not written."""
        view = memoryview(buffer).cast("B")
        content = os.pread(self._handle, len(view), self._at)
        view[:] = content.ljust(len(view), b"\0")
        self._at += len(view)
        return len(view)

    def write(self, content: ReadableBuffer, /) -> int:
        """Write all, unless an earlier write failed."""
        view = memoryview(content).cast("B")
        n = len(view)
        try:
            while view and self.error is None:
                done = os.pwrite(self._handle, view, self._at + n - len(view))
                view = view[done:]
        except OSError as error:
            self.error = error
        self._at += n
        self._size = max(self._size, self._at)
        return n

    def truncate(self, size: int | None = None, /) -> int:
        """Cut or grow to ``size``, unless a write failed."""
        self._size = self._at if size is None else size
        try:
            if self.error is None:
                os.ftruncate(self._handle, self._size)
        except OSError as error:
            self.error = error
        return self._size

    def close(self) -> None:
        """Close the file; an error stays where it is."""
        if not self.closed:
            os.close(self._handle)
        super().close()


@contextmanager
def calm_file(path: Path) -> Iterator[CalmFile]:
    """A file for the block, which ends with the first error that writing gave.

    Raises:
        OSError: the disk is full or fails.
    """
    with CalmFile(path) as file:
        try:
            yield file
        finally:
            file.require_written()
