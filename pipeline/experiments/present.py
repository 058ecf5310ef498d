"""Which cells of a recipe are runs already."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline import layout
from pipeline.distillation.settings import NO_TEACHER
from pipeline.errors import EastError
from pipeline.evaluation.runs import Run, list_runs
from pipeline.experiments.recipe import Cell
from pipeline.manifest import read_table
from pipeline.stores import open_store


def complete_runs(data: str) -> list[Run]:
    """Complete runs of a dataset whose clip table and stores are still those they were made from."""
    runs, _ = list_runs(layout.runs_dir(data))
    table = layout.table_path(data)
    if not runs or not table.is_file():
        return []
    digest, contents = read_table(table).digest(), _store_contents(data)
    return [run for run in runs if run.dataset.digest == digest and _same_stores(run, contents)]


def is_there(cell: Cell, runs: Sequence[Run]) -> bool:
    """Whether one of the runs has exactly this cell's settings."""
    wanted = json.loads(json.dumps(cell.settings.config()))
    return any(run.kind == cell.row.kind and _same_settings(wanted, run.config) for run in runs)


def _same_settings(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> bool:
    """Equal but for stores: a run names what it read (``musicnn/pools``), a cell what it asks for (``musicnn``)."""
    others = wanted.keys() - {"teacher", "store"}
    if wanted["store"] or any(wanted[key] != found.get(key) for key in others):
        return False
    asked, read = [name for name in wanted["teacher"] if name != NO_TEACHER], found.get("teacher", [])
    return len(asked) == len(read) and all(
        name == one or one.startswith(f"{name}/") for name, one in zip(asked, read, strict=True)
    )


def _store_contents(data: str) -> Mapping[tuple[str, str], str]:
    found = {}
    for path in layout.list_stores(data):
        try:
            store = open_store(path)
        except EastError:
            continue
        found[store.meta.extractor, store.meta.output] = str(store.meta.content_digest)
        store.close()
    return found


def _same_stores(run: Run, contents: Mapping[tuple[str, str], str]) -> bool:
    """Stores that lie elsewhere cannot be looked up here; training itself checks them."""
    for store in run.stores:
        key = str(store.get("extractor")), str(store.get("output"))
        if key in contents and contents[key] != store.get("content_digest"):
            return False
    return True
