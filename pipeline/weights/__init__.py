"""Weights by card: sources in order, digests checked before use, one cache per user.

Each :class:`~pipeline.cards.WeightsCard` is one file (or one folder).  Files of one package share
its archive, which is downloaded once.  Nothing is unpickled or run here.

The cache is ``east/weights`` in the platform's cache folder, or the folder in ``EAST_WEIGHTS``::

    CARD-NAME/FILENAME     what a card describes, verified
    archives/              packages and files as they came, and ``.part`` files to resume
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path

import filelock
import platformdirs

from pipeline.cards import WeightsCard
from pipeline.errors import WeightsError
from pipeline.events import Listener, Note, Warned, ignore
from pipeline.files import sha256_of
from pipeline.weights.archives import take
from pipeline.weights.sources import describe, obtain

__all__ = [
    "CACHE_VARIABLE",
    "cache_dir",
    "describe",
    "digest_of",
    "fetch",
    "fetch_all",
    "installed",
    "local_names",
    "locate",
    "place",
    "verify",
]

CACHE_VARIABLE = "EAST_WEIGHTS"


def cache_dir() -> Path:
    """Folder of fetched weights."""
    named = os.environ.get(CACHE_VARIABLE)
    return Path(named) if named else Path(platformdirs.user_cache_dir("east", appauthor=False)) / "weights"


def installed(card: WeightsCard) -> Path | None:
    """The fetched file, or None. Looks at place and size only; :func:`verify` reads it."""
    path = place(card)
    if not path.exists() or (path.is_file() and card.n_bytes and path.stat().st_size != card.n_bytes):
        return None
    return path


def place(card: WeightsCard) -> Path:
    """Where the file is, or goes."""
    return cache_dir() / card.name / card.filename


def local_names(card: WeightsCard) -> list[str]:
    """Names a file of the user's may have: the card's, and that inside the package."""
    inside = [source.member.rsplit("/", 1)[-1] for source in card.sources]
    return [name for name in (card.filename, *inside) if name]


def locate(card: WeightsCard, local: Path) -> Path:
    """The file itself, or the one in a folder that has the right name.

    Raises:
        WeightsError: there is none.
    """
    names = local_names(card)
    found = [local / name for name in names if (local / name).is_file()] if local.is_dir() else [local]
    is_folder = any(source.member.endswith("/") for source in card.sources)
    path = local if is_folder else found[0] if found else local / card.filename
    if not path.exists():
        raise WeightsError(f"{path}: no such file; {card.name} needs {card.filename} ({_size_in_words(card)}).")
    return path


def fetch_all(
    cards: Sequence[WeightsCard], *, local: Path | None = None, offline: bool = False, listener: Listener = ignore
) -> tuple[Path, ...]:
    """:func:`fetch` for the files of one teacher, in order; ``local`` is a folder where there are several."""
    if local is not None and len(cards) > 1 and not local.is_dir():
        names = ", ".join(card.filename for card in cards)
        raise WeightsError(f"{local}: these weights are {len(cards)} files ({names}); give the folder that holds them.")
    return tuple(fetch(card, local=local, offline=offline, listener=listener) for card in cards)


def fetch(card: WeightsCard, *, local: Path | None = None, offline: bool = False, listener: Listener = ignore) -> Path:
    """The verified file of a card: a local one, the cached one, or the first source that delivers.

    Args:
        local: a file given by the user, or a folder that holds it.  One whose digest is not the
            card's is used all the same, with a warning: what was made with it carries its own digest.
        offline: do not use the network.

    Raises:
        WeightsError: not to be had; the message says where to put the file by hand.
    """
    if local is not None:
        return _accept_local(card, local, listener)
    with _locked(card):
        kept = installed(card)
        if kept is not None:
            try:
                verify(card, kept)
                return kept
            except WeightsError as error:
                listener(Warned(f"{error} It is fetched again."))
        if offline:
            raise WeightsError(_by_hand(card, ["not tried: offline"]))
        return _fetch_from_sources(card, listener)


def verify(card: WeightsCard, path: Path) -> None:
    """Check size and digest of a file against its card.

    Raises:
        WeightsError: absent, of another size, or of another digest.
    """
    if not path.exists():
        raise WeightsError(f"{path}: no such file. Fetch it with: east weights get {card.name}")
    _check(card, path, str(path))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, or of a folder: of its sorted lines ``relative/path digest``."""
    if path.is_file():
        return sha256_of(path)
    files = sorted(child for child in path.rglob("*") if child.is_file())
    lines = [f"{child.relative_to(path).as_posix()} {sha256_of(child)}\n" for child in files]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _locked(card: WeightsCard) -> filelock.BaseFileLock:
    """Two processes do not fetch the same thing twice, nor into the same ``.part``."""
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    key = card.sources[0].package if card.sources and card.sources[0].package else card.name
    return filelock.FileLock(folder / f".{key.replace('/', '_')}.lock")


def _accept_local(card: WeightsCard, local: Path, listener: Listener) -> Path:
    path = locate(card, local)
    try:
        verify(card, path)
        _say_unverified(card, path, listener)
    except WeightsError as error:
        listener(Warned(f"{error} It is used as you asked, under its own digest {digest_of(path)[:12]}."))
    return path


def _fetch_from_sources(card: WeightsCard, listener: Listener) -> Path:
    reasons = []
    for source in card.sources:
        try:
            archive = obtain(source, cache_dir() / "archives", listener=listener)
            path = _publish(card, archive, source.member)
        except WeightsError as error:
            reasons.append(str(error))
            continue
        listener(Note(f"{card.name}: {card.filename} is there, from {describe(source)}"))
        _say_unverified(card, path, listener)
        return path
    raise WeightsError(_by_hand(card, reasons or ["the card names no source"]))


def _publish(card: WeightsCard, archive: Path, member: str) -> Path:
    """Draft beside the place, verify, rename: nobody sees half a file, or a wrong one."""
    path = place(card)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid.uuid4().hex[:12]}.draft")
    try:
        if member:
            take(archive, member, draft)
        else:
            archive.replace(draft)
        _check(card, draft, card.filename)
        if path.is_dir():
            shutil.rmtree(path)
        draft.replace(path)
        return path
    except WeightsError:
        archive.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True) if draft.is_dir() else draft.unlink(missing_ok=True)


def _by_hand(card: WeightsCard, reasons: Sequence[str]) -> str:
    known = f"SHA-256 {card.sha256}" if card.sha256 else f"MD5 {card.md5}" if card.md5 else "digest not known"
    tried = "\n".join(f"  - {reason}" for reason in reasons)
    from_where = "\n".join(
        f"  {describe(source)}" + (f", file {source.member}" if source.member else "") for source in card.sources
    )
    return (
        f"{card.filename} for {card.name} ({_size_in_words(card)}, {known}) could not be had:\n{tried}\n"
        f"Get it on a machine with network access from\n{from_where}\n"
        f"and put it at {place(card)}, or name it with --weights FILE."
    )


def _check(card: WeightsCard, path: Path, shown: str) -> None:
    size = _size_of(path)
    if card.n_bytes and size != card.n_bytes:
        cause = "It was cut short." if size < card.n_bytes else "It is another file."
        raise WeightsError(f"{shown} has {size:,} bytes where {card.name} has {card.n_bytes:,}. {cause}")
    kind, wanted = ("SHA-256", card.sha256) if card.sha256 else ("MD5", card.md5)
    found = digest_of(path) if card.sha256 else _md5_of(path) if card.md5 else ""
    if found != wanted:
        raise WeightsError(f"{shown} has {kind} {found} where {card.name} has {wanted}: another or a damaged file.")


def _say_unverified(card: WeightsCard, path: Path, listener: Listener) -> None:
    if not card.sha256 and not card.md5:
        listener(
            Warned(
                f"{path}: no digest of {card.filename} is known, so that nothing tells it from another file. "
                f"What is made with it carries its own digest, {digest_of(path)[:12]}."
            )
        )


def _size_in_words(card: WeightsCard) -> str:
    return f"{card.n_bytes:,} bytes" if card.n_bytes else "size not known"


def _size_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(child.stat().st_size for child in path.rglob("*") if child.is_file())


def _md5_of(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
