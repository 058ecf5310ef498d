"""A folder that stores are shared in: files appear whole, links below it are not followed."""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from pipeline.errors import StoreError
from pipeline.files import publish_bytes, publishing, sha256_of
from pipeline.stores.disk import writing
from pipeline.stores.guard import open_regular
from pipeline.stores.sharing.places import BLOCK, Advance, Place, Stream
from pipeline.texts import shown

_LOCK_S = 60.0


class FolderPlace(Place):
    """A local or mounted folder; it may be a link itself, since the user named it."""

    def __init__(self, root: Path) -> None:
        self.root, self.address = root, str(root)

    def read(self, name: str, most: int) -> bytes | None:
        """See :class:`Place`."""
        try:
            with open_regular(self._inside(name)) as handle:
                return handle.read(most + 1)
        except FileNotFoundError:
            return None

    def read_tail(self, name: str, n_bytes: int, size: int) -> bytes:
        """See :class:`Place`."""
        with open_regular(self._inside(name)) as handle:
            handle.seek(max(0, size - n_bytes))
            return handle.read(n_bytes)

    def read_range(self, name: str, start: int, stop: int) -> bytes | None:
        """See :class:`Place`."""
        with open_regular(self._inside(name)) as handle:
            handle.seek(start)
            return handle.read(stop - start)

    def size(self, name: str) -> int | None:
        """See :class:`Place`."""
        try:
            return self._inside(name).lstat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    @contextmanager
    def stream(self, name: str, start: int = 0) -> Iterator[Stream]:
        """See :class:`Place`."""
        with open_regular(self._inside(name)) as handle:
            handle.seek(start)
            yield start, iter(lambda: handle.read(BLOCK), b"")

    def holds(self, name: str, path: Path, sha256: str) -> bool:
        """See :class:`Place`."""
        there = self._inside(name)
        return self.size(name) == path.stat().st_size and there.is_file() and sha256_of(there) == sha256

    def put(self, name: str, path: Path, sha256: str, advance: Advance) -> None:
        """See :class:`Place`."""
        there, digest = self._inside(name), hashlib.sha256()
        with writing(there), publishing(there) as draft, draft.open("xb") as sink:
            with path.open("rb") as source:
                while block := source.read(BLOCK):
                    digest.update(block)
                    sink.write(block)
                    advance(len(block))
            if digest.hexdigest() != sha256:
                raise StoreError(f"{path} does not have its digest: damaged. Look with east store verify.")
        if sha256_of(there) != sha256:
            raise StoreError(f"{there} did not arrive as it was sent. Try again; what came is kept.")

    def change(self, name: str, most: int, make: Callable[[bytes | None], bytes]) -> None:
        """See :class:`Place`; other writers on the same folder wait for a lock beside the file."""
        there = self._inside(name)
        lock = self._inside(f".{name}.lock")
        with writing(there):
            there.parent.mkdir(parents=True, exist_ok=True)
            try:
                with filelock.FileLock(lock, timeout=_LOCK_S):
                    publish_bytes(there, make(self.read(name, most)))
            except filelock.Timeout:
                raise StoreError(f"{there} is held by another push for {_LOCK_S:.0f} s ({lock}). Try again.") from None

    def names(self, folder: str) -> list[str]:
        """See :class:`Place`; links are names like others, not ways."""
        found = []
        for base, folders, files in os.walk(self._inside(folder)):
            links = [name for name in folders if (Path(base) / name).is_symlink()]
            found += [(Path(base) / name).relative_to(self.root).as_posix() for name in (*files, *links)]
        return found

    def entries(self, folder: str, most: int) -> list[str] | None:
        """See :class:`Place`."""
        try:
            with os.scandir(self._inside(folder)) as entries:
                some = list(itertools.islice(entries, most))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{self.below(folder)} cannot be listed: {error.strerror or error}.") from error
        plain = [entry for entry in some if not entry.is_symlink()]
        return sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in plain)

    def remove(self, name: str) -> None:
        """See :class:`Place`; of a link, the link."""
        path = self._inside(name, last=False)
        with writing(path):
            path.unlink()

    def _inside(self, name: str, *, last: bool = True) -> Path:
        """The path of a name, none of whose parts is a link; ``last`` says whether the last counts."""
        path, parts = self.root, name.split("/") if name else []
        for number, part in enumerate(parts):
            path = path / part
            if (number < len(parts) - 1 or last) and _is_link(path):
                raise StoreError(
                    f"{self.address} has a link in it, {shown(name)}: links below a shared place are not followed, "
                    "since they may lead anywhere. Remove it, or name another place."
                )
        return path


def _is_link(path: Path) -> bool:
    try:
        return stat.S_ISLNK(path.lstat().st_mode)
    except OSError:
        return False
