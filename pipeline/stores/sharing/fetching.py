"""One file from a shared place to the disk: in drafts that go on where they were cut, checked, renamed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.files import sha256_of, sync
from pipeline.stores.disk import writing
from pipeline.stores.sharing.places import BLOCK, Advance, Patience, Place


@dataclass(frozen=True)
class Wanted:
    """A file that is to come.

    Attributes:
        name: POSIX path below the place.
        path: where it goes.
        sha256: its digest; empty where it is not known before the file is here.
        most: bytes that it may have at most.
        n_bytes: bytes that it has, where the place says so.
    """

    name: str
    path: Path
    sha256: str
    most: int
    n_bytes: int | None = None

    @property
    def draft(self) -> Path:
        """Where it grows; kept when the connection is cut."""
        return self.path.with_name(f".{self.path.name}.part")

    def is_here(self) -> bool:
        """Whether it came before, with its digest."""
        return self.path.is_file() and not self.path.is_symlink() and sha256_of(self.path) == self.sha256


def fetch_file(place: Place, wanted: Wanted, advance: Advance) -> str:
    """Fetch one file and give its SHA-256; what an earlier try left of it is gone on from.

    Raises:
        StoreError: it is not there, larger than it may be, does not have its digest, or the
            connection failed several times without anything new; the disk is full.
    """
    with writing(wanted.path):
        wanted.path.parent.mkdir(parents=True, exist_ok=True)
    draft = _Draft(wanted, advance)
    old = draft.n_bytes
    found = _fill(place, wanted, draft)
    if wanted.sha256 and found != wanted.sha256 and old:  # the beginning may be of another file
        draft.restart(0)
        found = _fill(place, wanted, draft)
    if wanted.sha256 and found != wanted.sha256:
        wanted.draft.unlink(missing_ok=True)
        raise StoreError(
            f"{place.below(wanted.name)} does not have its digest: damaged there or on the way. Try again; if it "
            "happens again, tell its owners."
        )
    with writing(wanted.path):
        sync(wanted.draft)
        wanted.draft.replace(wanted.path)
        sync(wanted.path.parent)
    return found


class _Draft:
    """The part of a file that is here, and its digest so far."""

    def __init__(self, wanted: Wanted, advance: Advance) -> None:
        self._wanted, self._advance = wanted, advance
        self._digest, self.n_bytes = hashlib.sha256(), 0
        path = wanted.draft
        if path.is_symlink() or (path.exists() and path.stat().st_size > wanted.most):
            path.unlink()
        with writing(wanted.path):
            path.touch()
        with path.open("rb") as source:
            while block := source.read(BLOCK):
                self._count(block)

    def restart(self, at: int) -> None:
        """Only the first ``at`` bytes count: none, or all that are here."""
        if at != self.n_bytes:
            self._wanted.draft.write_bytes(b"")
            self._advance(-self.n_bytes)
            self._digest, self.n_bytes = hashlib.sha256(), 0

    def add(self, block: bytes) -> None:
        """More bytes, on the disk at once."""
        if self.n_bytes + len(block) > self._wanted.most:
            self._wanted.draft.unlink(missing_ok=True)
            raise StoreError(
                f"{self._wanted.name} has more than the {self._wanted.most:,} bytes that it may have by the store's "
                "metadata: damaged or forged."
            )
        with writing(self._wanted.path), self._wanted.draft.open("ab") as sink:
            sink.write(block)
        self._count(block)

    def drop_if_empty(self) -> None:
        """Leave nothing where nothing came."""
        if not self.n_bytes:
            self._wanted.draft.unlink(missing_ok=True)

    def sha256(self) -> str:
        """Of what is here."""
        return self._digest.hexdigest()

    def _count(self, block: bytes) -> None:
        self._digest.update(block)
        self.n_bytes += len(block)
        self._advance(len(block))


def _fill(place: Place, wanted: Wanted, draft: _Draft) -> str:
    """Until the file is whole; a server that knows no ranges starts over each time."""
    patience, furthest, anew = Patience(place.below(wanted.name)), draft.n_bytes, False
    while wanted.n_bytes is None or draft.n_bytes < wanted.n_bytes:
        try:
            with place.stream(wanted.name, draft.n_bytes) as (at, blocks):
                draft.restart(at)
                for block in blocks:
                    draft.add(block)
            if wanted.n_bytes is None or draft.n_bytes >= wanted.n_bytes:
                break
            raise ConnectionError(f"{draft.n_bytes:,} of {wanted.n_bytes:,} bytes came")
        except FileNotFoundError:
            draft.drop_if_empty()
            raise StoreError(f"{place.below(wanted.name)} is not there: another address, or a half copy.") from None
        except StoreError:
            raise
        except Exception as error:  # each file system raises its own kinds
            if getattr(error, "status", None) == 416 and draft.n_bytes and not anew:
                draft.restart(0)  # nothing follows what is here: all of it came, or the file became shorter
                furthest, anew = 0, True
                continue
            if draft.n_bytes > furthest:
                patience.progress()
            furthest = max(furthest, draft.n_bytes)
            patience.after(error)
    return draft.sha256()
