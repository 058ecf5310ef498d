"""One line per store of a dataset, finished or not, and their total."""

from __future__ import annotations

from pathlib import Path

from pipeline import layout
from pipeline.errors import StoreError
from pipeline.stores.info import disk_bytes
from pipeline.stores.licensing import strictest_licence
from pipeline.stores.opening import open_store
from pipeline.stores.schema import State
from pipeline.texts import one_line

COLUMNS = ("store", "mode", "done", "failed", "pending", "complete", "MB", "licence")


def list_rows(dataset: str) -> list[tuple[str, ...]]:
    """Rows under :data:`COLUMNS`, the last the total; a store that cannot be opened is listed as unreadable.

    Sizes are megabytes (10^6 bytes) on the disk.

    Raises:
        StoreError: the dataset has no stores.
    """
    partial = (layout.dataset_dir(dataset) / "stores").glob("*/*.partial")
    paths = sorted({*layout.list_stores(dataset), *partial})
    if not paths:
        raise StoreError(f"{dataset!r} has no stores under {layout.dataset_dir(dataset)}. Make some with east extract.")
    rows, total = [], 0
    for path in paths:
        n_bytes = _bytes(path)
        total += n_bytes or 0
        rows.append(_row(path, "?" if n_bytes is None else f"{n_bytes / 1e6:,.1f}"))
    return [*rows, (f"{len(rows)} in all", "", "", "", "", "", f"{total / 1e6:,.1f}", "")]


def _row(path: Path, size: str) -> tuple[str, ...]:
    name = one_line(f"{path.parent.name}/{path.name}")
    try:
        with open_store(path) as reader:
            counts = [f"{int((reader.state == s).sum()):,}" for s in (State.DONE, State.FAILED, State.PENDING)]
            whole = "yes" if reader.meta.complete and path.suffix != ".partial" else "no"
            return name, one_line(reader.meta.mode), *counts, whole, size, strictest_licence(reader.meta)
    except StoreError:
        return name, "", "", "", "", "unreadable", size, ""


def _bytes(path: Path) -> int | None:
    try:
        return disk_bytes(str(path))
    except StoreError:
        return None
