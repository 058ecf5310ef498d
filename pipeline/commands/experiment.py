"""``east experiment``: a recipe's table of runs."""

from __future__ import annotations

import click

from pipeline.commands.console import listening, show


@click.command()
@click.argument("recipe", default="demo", metavar="RECIPE")
@click.option("--data", default="", help="Dataset instead of the recipe's.")
@click.option(
    "--loss",
    "losses",
    multiple=True,
    help="Losses, comma separated, instead of the recipe's students with a teacher; +NAME adds one. "
    "`east losses` lists them.",
)
@click.option(
    "--workers", type=click.IntRange(0), default=0, help="Runs side by side.  [default: one per core, at most 8]"
)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Setting for all rows, or seeds=1,2,3.")
@click.option("--dry-run", is_flag=True, help="Print the commands that are left to run, and stop.")
def experiment(
    *, recipe: str, data: str, losses: tuple[str, ...], workers: int, changes: tuple[str, ...], dry_run: bool
) -> None:
    """Make all runs of RECIPE: every row at every seed, side by side.

    RECIPE is `demo` (200 labelled clips: teacher probe, labels only, EAsT-KD, KD on all clips; three
    seeds of 700 steps) or a TOML file. Reads the dataset's clip table and stores. Writes one folder
    per run below data/NAME/runs/. Runs that are complete are skipped; after an interruption the same
    command goes on. Progress is counted in optimiser steps.

    \b
    Examples:
      east experiment demo --data chorales
      east experiment demo --loss dcor --set steps=2000 --set seeds=1,2
    """
    from pipeline.experiments.grid import experiment_by_name

    with listening() as listener:
        outcome = experiment_by_name(
            recipe, data=data, losses=losses, changes=changes, workers=workers, dry_run=dry_run, listener=listener
        )
    show(outcome.text())
    outcome.require()
