"""The comparison as rows of text: for the terminal, for the page, as CSV and as JSON."""

from __future__ import annotations

import csv
import io

from pipeline.evaluation.results import Comparison, Row
from pipeline.reporting.words import count, difference, ends, row_titles, spread

_CSV_PER_SET = ("map", "roc_auc", "f1", "accuracy")


COLUMNS = (
    *("row", "seeds", "set", "mAP", "ROC-AUC", "difference", "95 % interval"),
    *("parameters", "MACs per clip", "training"),
)


def text_rows(comparison: Comparison) -> list[list[str]]:
    """Cells under :data:`COLUMNS`, one line per row and set; ± is the standard deviation over seeds."""
    titles = row_titles(comparison.rows)
    return [
        _cells(row, titles[row.group] if index == 0 else "", name)
        for row in comparison.rows
        for index, name in enumerate(comparison.sets)
    ]


def to_csv(comparison: Comparison) -> str:
    """One line per row and set, plain numbers, empty where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    spreads = [f"{name}_{part}" for name in _CSV_PER_SET for part in ("mean", "sd")]
    ranges = ["map_ci_low", "map_ci_high", "difference", "difference_sd", "difference_ci_low", "difference_ci_high"]
    cost = ["n_labelled", "n_unlabelled", "n_parameters", "macs_per_clip", "train_s"]
    writer.writerow(["row", "kind", "baseline", "seeds", "set", "n_items", *spreads, *ranges, *cost])
    for row in comparison.rows:
        for name in comparison.sets:
            writer.writerow(["" if cell is None else cell for cell in _csv_cells(row, name)])
    return out.getvalue()


def _cells(row: Row, title: str, name: str) -> list[str]:
    found = row.sets[name]
    interval = ends(found.difference_ci, sign=True) if found.difference else "–"
    numbers = [name, spread(found.map), spread(found.roc_auc), difference(found), interval]
    if not title:
        return ["", "", *numbers, "", "", ""]
    cost = [count(row.runs[0].n_parameters), count(row.macs), f"{row.train_s:,.0f} s"]
    return [title, str(len(row.seeds)), *numbers, *cost]


def _csv_cells(row: Row, name: str) -> list[object]:
    found, run = row.sets[name], row.runs[0]
    cells: list[object] = [row.group, row.kind, row.baseline, " ".join(map(str, row.seeds)), name, found.n_items]
    for metric in _CSV_PER_SET:
        value = getattr(found, metric)
        cells += [value.mean, value.sd] if value else [None, None]
    cells += [found.map_ci.low, found.map_ci.high]
    cells += [found.difference.mean, found.difference.sd] if found.difference else [None, None]
    cells += [found.difference_ci.low, found.difference_ci.high]
    return [*cells, run.n_labelled, run.n_unlabelled, run.n_parameters, row.macs, round(row.train_s, 3)]
