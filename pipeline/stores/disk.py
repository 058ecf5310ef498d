"""Errors of the disk in words, at the border where a store is written."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import StoreError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def writing(place: str | Path) -> Iterator[None]:
    """Turn what the disk says while ``place`` is written into an error that names the next step.

    Raises:
        StoreError: the disk is full, may not be written, or fails.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(f"{place} cannot be written: {_explain(error)}") from error


def _explain(error: OSError) -> str:
    text = (error.strerror or str(error)).lower()
    if error.errno in _FULL or "no space left" in text or "file too large" in text:
        return f"{text}. What was finished is kept: free some space, and the same command goes on from there."
    if error.errno in _FORBIDDEN:
        return (
            f"{text}. Check who owns the folder and whether the disk is mounted read-only, or choose another place "
            "(EAST_HOME for the home folder)."
        )
    return f"{text}. What was finished is kept; the same command goes on from there."


def remove_drafts(path: Path) -> None:
    """Remove the unfinished ``.NAME.*.tmp`` files and folders that killed writers left beside ``path``."""
    for draft in path.parent.glob(f".{path.name}.*.tmp"):
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)
