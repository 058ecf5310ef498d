"""One line per store of a dataset, finished or not."""

from __future__ import annotations

from pipeline import layout
from pipeline.errors import StoreError
from pipeline.stores.opening import open_store
from pipeline.stores.schema import State

COLUMNS = ("store", "mode", "done", "failed", "pending", "complete", "licence")


def list_rows(dataset: str) -> list[tuple[str, ...]]:
    """Rows under :data:`COLUMNS`; a store that cannot be opened is listed as unreadable.

    Raises:
        StoreError: the dataset has no stores.
    """
    partial = (layout.dataset_dir(dataset) / "stores").glob("*/*.partial")
    paths = sorted({*layout.list_stores(dataset), *partial})
    if not paths:
        raise StoreError(f"{dataset!r} has no stores under {layout.dataset_dir(dataset)}. Make some with east extract.")
    rows = []
    for path in paths:
        name = f"{path.parent.name}/{path.name}"
        try:
            with open_store(path) as reader:
                counts = [f"{int((reader.state == s).sum()):,}" for s in (State.DONE, State.FAILED, State.PENDING)]
                whole = "yes" if reader.meta.complete and path.suffix != ".partial" else "no"
                rows.append((name, reader.meta.mode, *counts, whole, reader.meta.licence_weights))
        except StoreError:
            rows.append((name, "", "", "", "", "unreadable", ""))
    return rows
