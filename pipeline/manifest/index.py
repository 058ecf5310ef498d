"""What is known of audio files that were read before: an index beside the clip table.

Two kinds of facts, true of any store: a file of this path, size and time has these bytes (their
SHA-256), and a segment of such bytes decodes to these samples (their SHA-256).  They spare reading
files that did not change.  The index is a cache: without it everything is read again.  It is local
and never part of a store, since times and paths are nobody else's business.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files(
    path TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clips(
    digest BLOB NOT NULL, start_s REAL NOT NULL, duration_s REAL NOT NULL, samples BLOB NOT NULL,
    PRIMARY KEY(digest, start_s, duration_s)
) WITHOUT ROWID;
"""
_TIMEOUT_S = 20.0

#: Bytes of a file (SHA-256), start and duration in seconds.
Segment = tuple[bytes, float, float]


@dataclass(frozen=True)
class Stamp:
    """A file as it lies there: bytes, and time of its last change in nanoseconds."""

    size: int
    mtime_ns: int


class AudioIndex:
    """The index of one dataset. Use as a context manager.

    One that cannot be opened or written (damaged, read-only, locked by a network disk that knows no
    locks), or that has no path, is done without: facts are then kept in memory for this run only.

    Args:
        read_only: the file is only read, and new facts are kept in memory.
    """

    def __init__(self, path: Path | None, *, read_only: bool = False) -> None:
        there = path if path is not None and path.exists() else None
        self.path, self._to_be_made = path, path is not None and there is None and not read_only
        self._known = _open_to_read(there) if read_only and there else None
        self._base = _open(None if read_only else there)

    def __enter__(self) -> AudioIndex:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for base in filter(None, (self._known, self._base)):
            base.close()

    def file_digests(self, stamps: Mapping[str, Stamp]) -> dict[str, bytes]:
        """SHA-256 of the files that are known and lie there as they did, by path."""
        found = {}
        for path, size, mtime_ns, digest in self._rows("SELECT path, size, mtime_ns, digest FROM files"):
            stamp = stamps.get(path)
            if stamp is not None and (stamp.size, stamp.mtime_ns) == (size, mtime_ns):
                found[path] = bytes(digest)
        return found

    def samples_digests(self, segments: Iterable[Segment]) -> dict[Segment, bytes]:
        """SHA-256 of the decoded samples of the segments that are known."""
        wanted = set(segments)
        rows = self._rows("SELECT digest, start_s, duration_s, samples FROM clips") if wanted else ()
        return {key: samples for *key_, samples in rows if (key := _segment(key_)) in wanted}

    def remember(
        self, files: Sequence[tuple[str, Stamp, bytes]], segments: Sequence[tuple[Segment, bytes]] = ()
    ) -> None:
        """Take down what was read; the first facts make the file."""
        if self._to_be_made:
            self._base.close()
            self._base, self._to_be_made = _open(self.path), False
        with contextlib.suppress(sqlite3.Error), self._base:
            self._base.executemany(
                "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                [(path, stamp.size, stamp.mtime_ns, digest) for path, stamp, digest in files],
            )
            self._base.executemany(
                "INSERT OR REPLACE INTO clips VALUES (?, ?, ?, ?)", [(*key, samples) for key, samples in segments]
            )

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        for base in filter(None, (self._known, self._base)):
            with contextlib.suppress(sqlite3.Error):  # what cannot be read is read from the audio again
                yield from base.execute(query)


def _segment(row: Sequence[Any]) -> Segment:
    digest, start_s, duration_s = row
    return bytes(digest), float(start_s), float(duration_s)


def _open_to_read(path: Path) -> sqlite3.Connection | None:
    try:
        return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=_TIMEOUT_S, uri=True)
    except sqlite3.Error:
        return None


def _open(path: Path | None) -> sqlite3.Connection:
    for place in (path, None):
        base = None
        try:
            if place is not None:
                place.parent.mkdir(parents=True, exist_ok=True)
            base = sqlite3.connect(place or ":memory:", timeout=_TIMEOUT_S)
            base.execute("PRAGMA synchronous=OFF")  # losing a fact costs reading a file again
            base.executescript(_SCHEMA)
            return base
        except (sqlite3.Error, OSError):
            if base is not None:
                base.close()
    raise AssertionError  # a database in memory can always be opened
