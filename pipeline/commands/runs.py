"""``east runs``: which runs there are, and which of them are unfinished."""

from __future__ import annotations

import json
from typing import Any

import click

from pipeline.commands.console import listening, show, show_table

_WIDTH = 240  # names of runs are long, and there to be copied


@click.command()
@click.option("--data", default="", help="Only the runs of this dataset.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, with the folder of each run.")
def runs(*, data: str, as_json: bool) -> None:
    """List runs below the home folder, the latest last: settings, best validation mAP (0 to 1), state.

    Reads each run's run.json and writes nothing. A run that is unfinished goes on when the command
    that trains it is given again.

    \b
    Example:
      east runs --data scores
    """
    from pipeline.evaluation.runlist import list_all_runs
    from pipeline.events import Warned

    rows, problems = list_all_runs(data)
    with listening() as listener:
        for problem in problems:
            listener(Warned(problem))
    if as_json:
        show(json.dumps(rows, indent=2))
        return
    if not rows:
        show(f"There are no runs{f' of {data}' if data else ''} yet. Make one with: east train, or east experiment")
        return
    columns = ("dataset", "what", "teachers", "labels", "seed", "valid mAP", "state", "run")
    show_table("", columns, [_cells(row) for row in rows], numeric=(3, 4, 5), width=_WIDTH)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    best, asked = row["valid_map"], row["steps"]
    unlabelled = f" +{row['unlabelled']:,}" if row["unlabelled"] else ""
    return (
        row["dataset"],
        f"{row['student']}, {row['loss']}" if row["kind"] == "student" else "probe",
        " ".join(row["teachers"]) or "-",
        f"{row['labelled']:,}{unlabelled}",
        str(row["seed"]),
        f"{best:.3f}" if isinstance(best, (int, float)) else "-",
        "done" if row["complete"] else f"step {row['step']:,}" + (f" of {asked:,}" if asked else ""),
        row["run"],
    )
