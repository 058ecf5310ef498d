"""All runs below the home folder, finished or not, one row each."""

from __future__ import annotations

import math
from typing import Any

from pipeline import layout
from pipeline.errors import RunError
from pipeline.evaluation.runs import Run, read_history, read_run, without_view

Row = dict[str, Any]


def list_all_runs(dataset: str = "") -> tuple[list[Row], list[str]]:
    """Rows of runs, the latest last, and a sentence for each folder that cannot be read.

    Args:
        dataset: only its runs; all datasets by default.
    """
    paths = layout.runs_dir(dataset).glob("*/run.json") if dataset else layout.home().glob("*/runs/*/run.json")
    rows, problems = list[tuple[float, Row]](), list[str]()
    for path in paths:
        try:
            rows.append((path.stat().st_mtime, _row(read_run(path.parent, unfinished=True))))
        except (OSError, RunError) as error:
            problems.append(str(error))
    rows.sort(key=lambda found: (found[0], found[1]["run"]))
    return [row for _, row in rows], sorted(problems)


def _row(run: Run) -> Row:
    heard = run.stores[1:] if run.kind == "student" else run.stores  # a student's first is its mel
    return {
        "run": run.name,
        "dataset": run.dataset.name,
        "row": run.group,
        "kind": run.kind,
        "student": run.config.get("student") if run.kind == "student" else None,
        "loss": run.config.get("loss") if run.kind == "student" else None,
        "teachers": list(dict.fromkeys(without_view(store.get("extractor", "?")) for store in heard)),
        "labelled": run.n_labelled,
        "unlabelled": run.n_unlabelled,
        "seed": run.seed,
        "valid_map": run.best.get("valid_map"),
        "steps": steps if isinstance(steps := run.config.get("steps"), int) else None,
        "step": None if run.complete else _reached(run),
        "complete": run.complete,
        "folder": str(run.folder),
    }


def _reached(run: Run) -> int:
    try:
        steps = read_history(run).get("step")
    except RunError:
        return 0
    return int(max((step for step in ([] if steps is None else steps.tolist()) if math.isfinite(step)), default=0))
