"""What a table holds, in rows for people."""

from __future__ import annotations

import numpy as np

from pipeline import layout, registry
from pipeline.datasets.resolve import list_made
from pipeline.manifest import UNKNOWN, ClipTable, read_table

__all__ = ["class_rows", "dataset_rows", "split_rows"]


def dataset_rows() -> list[tuple[str, ...]]:
    """Name, clips made so far, task and summary of every dataset: those with a card, then your own."""
    cards, made = registry.datasets(), list_made()
    rows: list[tuple[str, ...]] = [
        (name, _clips(name) if name in made else "no table", card.task, card.summary) for name, card in cards.items()
    ]
    for name in [name for name in made if name not in cards]:
        table = read_table(layout.table_path(name))
        rows.append((name, f"{len(table):,} clips", table.task, f"your own audio in {table.root}"))
    return rows


def split_rows(table: ClipTable) -> list[tuple[str, ...]]:
    """Split, clips, files, groups and hours of each split."""
    rows: list[tuple[str, ...]] = []
    for name in table.splits() or ("",):
        part = table.select(table.split == name)
        hours = float(part.duration_s.sum()) / 3600
        counts = (len(part), len(set(part.path)), len(set(part.group)))
        rows.append((name or "none", *(f"{count:,}" for count in counts), f"{hours:.2f}"))
    return rows


def class_rows(table: ClipTable) -> list[tuple[str, ...]]:
    """For each class: its name, then per split the clips that have it over those where it is known."""
    rows = []
    for index, name in enumerate(table.classes):
        cells = []
        for split in table.splits() or ("",):
            labels = table.labels[table.split == split, index]
            cells.append(f"{int(np.sum(labels == 1)):,}/{int(np.sum(labels != UNKNOWN)):,}")
        rows.append((name, *cells))
    return rows


def _clips(name: str) -> str:
    return f"{len(read_table(layout.table_path(name))):,} clips"
