"""Places that stores are shared at: folders, object storage, web servers, all through fsspec."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Set
from typing import Any, TypeVar

import fsspec

from pipeline.errors import StoreError, require

_T = TypeVar("_T")
_TRIES = 4
_PAUSE_S = 0.5
_BLOCK = 1 << 20


class Place:
    """A folder at an address; files are named by POSIX paths below it.

    Raises:
        StoreError: no file system for such an address.
        MissingExtraError: one that needs an optional package.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        if self.address.startswith(("s3://", "s3a://")):
            require("s3fs", extra="s3")
        try:
            self.files, self.root = fsspec.core.url_to_fs(self.address)
        except (ValueError, ImportError) as error:
            raise StoreError(f"{address} cannot be used: {error}.") from error
        self.local = not hasattr(self.files, "async_impl") or not self.files.async_impl

    def below(self, name: str) -> Place:
        """A folder below this one."""
        return Place(f"{self.address}/{name}")

    def read(self, name: str, most: int) -> bytes | None:
        """A small file whole; None where there is none. One byte more than ``most`` is read at most."""

        def read() -> bytes | None:
            try:
                with self.files.open(f"{self.root}/{name}", "rb", **_plain(self.files)) as source:
                    return bytes(source.read(most + 1))
            except FileNotFoundError:
                return None

        return self._try(name, read)

    def fetch(self, name: str, take: Callable[[bytes], Any], again: Callable[[], Any]) -> None:
        """Give a file's bytes in blocks to ``take``; ``again`` is called before each try.

        Raises:
            FileNotFoundError: there is none.
            StoreError: the connection failed several times.
        """

        def read() -> None:
            again()
            with self.files.open(f"{self.root}/{name}", "rb", **_plain(self.files)) as source:
                while block := source.read(_BLOCK):
                    take(block)

        self._try(name, read)

    def write(self, name: str, blocks: Callable[[], Any]) -> None:
        """Write a file from blocks of bytes; on a disk beside its place, then renamed."""

        def write() -> None:
            path = f"{self.root}/{name}"
            self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
            draft = path.rpartition("/")[0] + f"/.{path.rpartition('/')[2]}.tmp" if self.local else path
            with self.files.open(draft, "wb") as sink:
                for block in blocks():
                    sink.write(block)
            if draft != path:
                self.files.mv(draft, path)

        self._try(name, write)

    def digest(self, name: str, n_bytes: int) -> str | None:
        """SHA-256 of a file that has this many bytes, read back; None where it is not there, or not so long."""
        path = f"{self.root}/{name}"
        if not self._try(name, lambda: self.files.exists(path)) or self.files.info(path)["size"] != n_bytes:
            return None
        digest = hashlib.sha256()

        def again() -> None:
            nonlocal digest
            digest = hashlib.sha256()

        def take(block: bytes) -> None:
            digest.update(block)

        self.fetch(name, take, again)
        return digest.hexdigest()

    def remove_others(self, listed: Set[str]) -> None:
        """Remove what a replaced store left here and the new one does not have."""
        for path in self._try("", lambda: self.files.find(self.root)):
            name = str(path)[len(self.root) :].lstrip("/")
            if name not in listed:
                self.remove(name)

    def remove(self, name: str) -> None:
        """Remove a file."""
        self._try(name, lambda: self.files.rm_file(f"{self.root}/{name}"))

    def _try(self, name: str, work: Callable[[], _T]) -> _T:
        """A few times, with longer and longer pauses: connections are cut."""
        for number in range(_TRIES):
            try:
                return work()
            except (FileNotFoundError, StoreError):
                raise
            except Exception as error:  # each file system raises its own kinds
                if number == _TRIES - 1 or isinstance(error, PermissionError):
                    raise StoreError(
                        f"{self.address}/{name}: {str(error) or type(error).__name__}. What came is kept; the same "
                        "command goes on from there. Credentials are looked for where the client library does."
                    ) from error
                time.sleep(_PAUSE_S * 2**number)
        raise AssertionError


def _plain(files: Any) -> dict[str, Any]:
    """Web servers are read in one stream: not all of them know byte ranges."""
    protocols = files.protocol if isinstance(files.protocol, tuple | list) else (files.protocol,)
    return {"block_size": 0} if "http" in protocols else {}
