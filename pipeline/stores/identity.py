"""Whether a path still leads to what was opened there: stores are exchanged while others read them."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import StoreError

Identity = tuple[int, int]


def identity_of(path: str | Path) -> Identity:
    """What the system knows a file or folder by: device and inode.

    Raises:
        OSError: there is nothing.
    """
    about = Path(path).stat()
    return about.st_dev, about.st_ino


def require_same(path: str, known: Identity | None) -> Identity:
    """The identity of what lies at ``path``, which must be the known one, if there is one.

    Raises:
        StoreError: something else lies there now, whose rows are other clips.
    """
    try:
        found = identity_of(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be read any more ({error.strerror}): it was removed while it was read."
        ) from error
    if known not in (None, found):
        raise StoreError(f"{path} was replaced by another store since it was opened. Open it again.")
    return found
