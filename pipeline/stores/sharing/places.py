"""Places that stores are shared at: folders, object storage, web servers.

Folders are used with links refused; everything else goes through fsspec.  What a connection says
when it fails is put into words here, and here it is decided how often it is tried again.
"""

from __future__ import annotations

import hashlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

from pipeline.errors import StoreError, require

_T = TypeVar("_T")
TRIES = 4
PAUSE_S = 0.5
BLOCK = 1 << 20

#: Whether a block may be had again: what a file's reader gives, from which byte on.
Stream = tuple[int, Iterator[bytes]]
Advance = Callable[[int], None]


class Place(ABC):
    """A folder at an address; files are named by POSIX paths below it."""

    address: str

    @abstractmethod
    def read(self, name: str, most: int) -> bytes | None:
        """A small file whole, at most ``most`` bytes and one more of it; None where there is none."""

    @abstractmethod
    def read_tail(self, name: str, n_bytes: int, size: int) -> bytes:
        """The last bytes of a file that has ``size`` of them; empty where only whole files can be had."""

    @abstractmethod
    def read_range(self, name: str, start: int, stop: int) -> bytes | None:
        """Bytes ``start`` to ``stop`` of a file, which has them; None where only whole files can be had.

        Raises:
            FileNotFoundError: no such file.
            StoreError: the connection failed, or other bytes came.
        """

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Bytes of a file; None where there is none, or where that is not said."""

    @abstractmethod
    def stream(self, name: str, start: int = 0) -> AbstractContextManager[Stream]:
        """A file's bytes in blocks from ``start`` on, or from 0 where only whole files can be had."""

    @abstractmethod
    def holds(self, name: str, path: Path, sha256: str) -> bool:
        """Whether a file is there and has the bytes of ``path``, whose SHA-256 is given."""

    @abstractmethod
    def put(self, name: str, path: Path, sha256: str, advance: Advance) -> None:
        """Send a local file; it gets its name once it is whole. ``advance`` is told of bytes sent.

        Raises:
            StoreError: the file does not have its digest, here or there; the connection failed.
        """

    @abstractmethod
    def change(self, name: str, most: int, make: Callable[[bytes | None], bytes]) -> None:
        """Replace a small file by what ``make`` makes of it, with as much care for other writers as can be had."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """All files below a folder."""

    @abstractmethod
    def entries(self, folder: str, most: int) -> list[str] | None:
        """Names directly in a folder, folders with a ``/``, at most so many; None where they cannot be listed."""

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove a file."""

    def below(self, name: str) -> str:
        """The address of a file or folder."""
        return f"{self.address}/{name}" if name else self.address


class Patience:
    """How often a connection may fail: a few times in a row without anything new."""

    def __init__(self, where: str) -> None:
        self._where, self._n = where, 0

    def progress(self) -> None:
        """Something new came."""
        self._n = 0

    def after(self, error: Exception) -> None:
        """Wait a while, longer each time.

        Raises:
            StoreError: it failed too often, or trying again is of no use.
        """
        self._n += 1
        reason, useless = explain(error)
        if useless:
            raise StoreError(f"{self._where}: {reason}") from error
        if self._n >= TRIES:
            raise StoreError(
                f"{self._where}: {reason} What came is kept; the same command goes on from there."
            ) from error
        time.sleep(PAUSE_S * 2 ** (self._n - 1))


def trying(where: str, work: Callable[[], _T]) -> _T:
    """The same work a few times: connections are cut.

    Raises:
        FileNotFoundError: it says so.
        StoreError: it failed too often.
    """
    patience = Patience(where)
    while True:
        try:
            return work()
        except StoreError:
            raise
        except Exception as error:  # each file system raises its own kinds
            if isinstance(error, FileNotFoundError) and not _no_bucket(error):
                raise
            patience.after(error)


def explain(error: Exception) -> tuple[str, bool]:
    """What a client library says, in words with the next step; and whether trying again is of no use."""
    kinds = {kind.__name__ for kind in type(error).__mro__}
    status = getattr(error, "status", None)
    text = " ".join(str(error).split()) or type(error).__name__
    if kinds & {"NoCredentialsError", "PartialCredentialsError", "ProfileNotFound", "TokenRetrievalError"}:
        return (
            f"no usable credentials ({text.rstrip('.')}). They are looked for where the client library does: "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile of ~/.aws (AWS_PROFILE); "
            "AWS_ENDPOINT_URL names a storage that is not Amazon's.",
            True,
        )
    if _no_bucket(error):
        return "there is no such bucket. Make it first, or look at its name and at AWS_ENDPOINT_URL.", True
    if isinstance(error, PermissionError) or status in (401, 403):
        return f"refused ({text}). These credentials, or none, may not do that here.", True
    if isinstance(error, NotImplementedError) or status in (405, 501):
        return "this kind of place can only be read. Push to a folder or to object storage (s3://).", True
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 425, 429):
        return f"the server answers {status}, {getattr(error, 'message', '')}.", True
    return f"{text.rstrip('.')}.", False


def _no_bucket(error: Exception) -> bool:
    return isinstance(error, FileNotFoundError) and "bucket does not exist" in str(error)


def find_place(address: str) -> Place:
    """The place at an address: a folder (``file://`` too), or what fsspec knows.

    Raises:
        StoreError: no file system for such an address.
        MissingExtraError: one that needs an optional package.
    """
    from pipeline.stores.sharing.folders import FolderPlace
    from pipeline.stores.sharing.remotes import RemotePlace

    address = address.rstrip("/") or "/"
    require_client(address)
    if "://" in address and not address.startswith("file://"):
        return RemotePlace(address)
    return FolderPlace(Path(address.removeprefix("file://")))


def require_client(address: str) -> None:
    """Refuse an address whose client library is not installed.

    Raises:
        MissingExtraError: says which extra brings it.
    """
    if address.startswith(("s3://", "s3a://")):
        require("s3fs", extra="s3")


def split_address(address: str, suffixes: Collection[str]) -> tuple[str, str]:
    """The folder that a store lies in, and its name there; the name is empty where it is no store's."""
    address = address.rstrip("/")
    if not address.endswith(tuple(suffixes)):
        return address, ""
    folder, _, name = address.rpartition("/")
    if folder.endswith(":/"):  # a bucket or a host of such a name
        return address, ""
    return folder or ("/" if address.startswith("/") else "."), name


def digest_of(place: Place, name: str) -> str:
    """SHA-256 of a file that is read back."""

    def work() -> str:
        digest = hashlib.sha256()
        with place.stream(name) as (_, blocks):
            for block in blocks:
                digest.update(block)
        return digest.hexdigest()

    return trying(place.below(name), work)
