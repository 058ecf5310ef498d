"""What a writer leaves that is killed when its store is finished already, but not yet put down."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from pipeline.errors import StoreBusyError
from pipeline.stores.disk import remove_drafts
from pipeline.stores.journal import JOURNAL
from pipeline.stores.lease import LEASE, Lease
from pipeline.stores.target import working_path
from pipeline.stores.zarr_store import FEATURES


def remove_leftovers(path: Path) -> None:
    """Remove lease, folded journal, drafts and working folder of a writer that died; a living one keeps its own.

    Args:
        path: of a store that is complete.
    """
    with contextlib.suppress(OSError, StoreBusyError):  # the store is whole all the same
        if path.is_dir():
            _inside(path)
        elif not working_path(path).exists():
            _beside(path)


def _inside(path: Path) -> None:
    drafts = list((path / FEATURES).glob(".*.tmp"))
    if not drafts and not any((path / name).exists() for name in (LEASE, JOURNAL)):
        return
    with Lease(path):
        for left in (path / JOURNAL, *drafts):
            left.unlink(missing_ok=True)
        remove_drafts(path)


def _beside(path: Path) -> None:
    """Half a packed file, and a working folder that was on its way out: it has been leased, a new one has not."""
    for draft in path.parent.glob(f".{path.name}.*.tmp"):
        if draft.is_file():
            draft.unlink(missing_ok=True)
        elif (draft / LEASE).exists():
            shutil.rmtree(draft, ignore_errors=True)
