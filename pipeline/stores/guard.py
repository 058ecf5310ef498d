"""Limits on what is read from a store, and the checks that hold them: a store may come from anyone.

What is promised is compared with a limit, and with the bytes that are there, before anything of
that size is read, decoded or allocated.  Every refusal is a :class:`StoreError` in words.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from pipeline.errors import StoreError
from pipeline.texts import shown

MAX_DOCUMENT_BYTES = 1 << 24
MAX_LEASE_BYTES = 1 << 16
MAX_JOURNAL_LINE_BYTES = 1 << 26
MAX_SUMS_BYTES = 1 << 28
MAX_CHUNK_BYTES = 1 << 30
MAX_SHARD_BYTES = 1 << 32
MAX_TEXT_BYTES = 1 << 28
MAX_TEXTS = 1 << 22
MAX_CHUNKS = 1 << 16
MAX_FILES = 1 << 22
MAX_DEPTH = 6
MAX_CANARIES = 64

#: No codec that is read makes more of a byte: Zstandard can make 128 KiB of a block of four bytes,
#: deflate 1032 bytes of one.  What is written here is not compressed at all.
MOST_COMPRESSED = 1 << 15
MOST_DEFLATED = 1032
#: Beside the texts themselves: what a text costs in a list, and a kilobyte of reason for each clip.
_TEXT_ALLOWANCE = 1 << 10


def open_regular(path: str | Path, *, follow: bool = False) -> BinaryIO:
    """Open a plain file for reading: no link, no pipe, no device; never waits.

    Args:
        follow: a link is followed: for what the user named, never for what a store holds.

    Raises:
        StoreError: it is something else, or may not be read.
        FileNotFoundError: there is nothing.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    except FileNotFoundError:
        raise
    except OSError as error:
        _refuse_file(path, error.strerror or str(error))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        _refuse_file(path, "it is no plain file")
    return os.fdopen(handle, "rb")


def _refuse_file(path: str | Path, why: str) -> NoReturn:
    raise StoreError(
        f"{path} cannot be read as a file of a store ({why}). Links, pipes and devices in a store are not followed: "
        "put the file itself there."
    )


def read_file(path: str | Path, most_bytes: int) -> bytes:
    """A whole small file of a store.

    Raises:
        StoreError: it is larger than allowed, or no plain file.
        FileNotFoundError: there is nothing.
    """
    with open_regular(path) as handle:
        size = os.fstat(handle.fileno()).st_size  # what is asked for is allocated at once
        content = handle.read(min(size, most_bytes) + 1)
    require_bytes(str(path), len(content), most_bytes)
    return content


def require_bytes(where: str, n_bytes: int, most: int) -> None:
    """Refuse what is larger than allowed.

    Raises:
        StoreError: it is.
    """
    if n_bytes > most:
        raise StoreError(f"{where} holds more than the {most:,} bytes that are read of it: damaged or forged.")


def load_json(content: bytes | str, where: str) -> Any:
    """Strict JSON: no NaN, no key twice, no nesting that would exhaust the stack.

    Raises:
        StoreError: it is not.
    """
    try:
        return json.loads(content, parse_constant=_no_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise StoreError(f"{where} is JSON nested too deep: damaged or forged.") from None
    except ValueError as error:
        raise StoreError(f"{where} is not valid JSON ({shown(str(error))}): damaged or forged.") from error


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def check_tree(folder: Path) -> dict[str, int]:
    """Look at every entry of a store's folder once, before anything in it is opened.

    The folder itself may be a link: the user named it.  Nothing in it may be one.

    Returns:
        stored bytes by the first part of the path inside the store, such as ``features``.

    Raises:
        StoreError: a link, a pipe or a device; more files or folders in folders than any store has.
    """
    sizes: dict[str, int] = {}
    folders, n_files = [(folder, "")], 0
    while folders:
        place, inside = folders.pop()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    name = f"{inside}{entry.name}"
                    n_files += 1
                    if n_files > MAX_FILES or name.count("/") >= MAX_DEPTH:
                        raise StoreError(f"{folder} has more files, or deeper folders, than a store: forged.")
                    if entry.is_dir(follow_symlinks=False):
                        folders.append((Path(entry.path), f"{name}/"))
                    else:
                        top = name.partition("/")[0]
                        sizes[top] = sizes.get(top, 0) + _plain_bytes(entry, folder, name)
        except FileNotFoundError:  # a draft of a store that is being written, renamed in the meantime
            continue
        except NotADirectoryError:
            raise StoreError(f"{folder} cannot be opened as a Zarr v3 store: it is no folder.") from None
        except OSError as error:
            raise StoreError(f"{place} cannot be listed: {error.strerror or error}.") from error
    return sizes


def _plain_bytes(entry: os.DirEntry[str], folder: Path, name: str) -> int:
    about = entry.stat(follow_symlinks=False)
    if stat.S_ISREG(about.st_mode):
        return about.st_size
    if stat.S_ISLNK(about.st_mode):
        raise StoreError(
            f"{folder} has a link in it, {shown(name)}: links in a store are not followed, since they may lead "
            "anywhere. Put the file itself in its place (a link to the whole store is fine)."
        )
    raise StoreError(f"{folder}: {shown(name)} is neither a file nor a folder: forged.")


def require_backed(where: str, name: str, promised: int, stored: int, ratio: int = MOST_COMPRESSED) -> None:
    """Refuse an array that promises far more than its bytes could ever decode to.

    Raises:
        StoreError: it does.
    """
    if promised > stored * ratio:
        raise StoreError(
            f"{where}: {name} promises {promised:,} bytes, but the {stored:,} bytes that are stored of it cannot hold "
            "them: cut short, half copied or forged."
        )


def require_chunk(where: str, name: str, n_bytes: int, most: int = MAX_CHUNK_BYTES) -> None:
    """Refuse a chunk that would fill the memory.

    Raises:
        StoreError: it would.
    """
    if n_bytes > most:
        raise StoreError(f"{where}: {name} has chunks of {n_bytes:,} bytes, at most {most:,} are read: forged.")


class TextBudget:
    """Counts texts as they come: how many bytes they may take in all, and that ids differ.

    Args:
        n_texts: how many there will be.
        unique: a text that stands twice in a lot, or a lot that stands twice, ends it, so that a forged
            count of ids costs nothing.
    """

    def __init__(self, where: str, name: str, n_texts: int, *, unique: bool) -> None:
        self._where, self._name, self._unique = where, name, unique
        self._left = MAX_TEXT_BYTES + n_texts * _TEXT_ALLOWANCE
        self._seen: set[str] = set()  # the first of each lot: ids of different lots are compared later

    def add(self, texts: Sequence[str]) -> None:
        """Count some more.

        Raises:
            StoreError: too much text in all, an id that stands twice, one that is no text.
        """
        if not all(issubclass(kind, str) for kind in set(map(type, texts))):
            raise StoreError(f"{self._where}: {self._name} holds something that is no text: damaged or forged.")
        self._left -= sum(map(len, texts))
        if self._left < 0:
            raise StoreError(f"{self._where}: the texts of {self._name} are longer than any store's: forged.")
        if self._unique and texts:
            if texts[0] in self._seen or len(set(texts)) != len(texts):
                raise StoreError(f"{self._where}: some {self._name} stand twice; ids must be unique.")
            self._seen.add(texts[0])
