"""``east table``: recipes as the rows of one table."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.console import listening, show, show_table


@click.command()
@click.argument("recipes", nargs=-1, required=True, metavar="RECIPES...")
@click.option("--data", default="", help="Dataset instead of the recipes'.")
@click.option(
    "--check", is_flag=True, help="Look first whether the missing runs would find their table and stores, and fit them."
)
@click.option("--run", is_flag=True, help="Make the runs that are missing.")
@click.option(
    "--workers", type=click.IntRange(0), default=0, help="Runs side by side.  [default: one per core, at most 8]"
)
@click.option(
    "--scheduler",
    default="",
    help="Address of a running Dask scheduler, such as tcp://host:8786, whose workers make the runs. They must "
    "see the same data folder.",
)
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Setting for all rows, or seeds=1,2,3.")
@click.option("--baseline", default="", help="Title of the row to measure against.  [default: the labels-only student]")
@click.option("--resamples", type=click.IntRange(1), default=1000, show_default=True, help="Bootstrap resamples.")
@click.option(
    "--by",
    "unit",
    type=click.Choice(["clip", "group"]),
    default="clip",
    show_default=True,
    help="What the bootstrap draws: clips, or whole groups (songs, works).",
)
@click.option("--out", type=click.Path(file_okay=False), help="Folder to write.  [default: data/NAME/tables/TABLE]")
def table(
    *,
    recipes: tuple[str, ...],
    data: str,
    check: bool,
    run: bool,
    workers: int,
    scheduler: str,
    changes: tuple[str, ...],
    baseline: str,
    resamples: int,
    unit: str,
    out: str | None,
) -> None:
    """Fill the table whose rows are RECIPES, and make the runs it lacks.

    Shows what is done, what is missing, and what came out.

    RECIPES are TOML files, folders of them, or names of ours: `demo`, and `openmic` and
    `magnatagatune` with a row for every cell of the paper. Reads the complete runs of the
    dataset; with --run, makes the missing ones first, side by side here or on a Dask cluster, and
    the same command goes on after an interruption. Writes table.md, table.csv and table.tex: mAP
    and ROC-AUC (0 to 1) on every test split with mean, standard deviation and 95 % interval over
    seeds (over clips where there is one seed), and a paired test against the baseline; and
    figures/ with learning curves, differences, and mAP over labels where rows differ in those.
    Exits with 1 if a run failed.

    \b
    Examples:
      east table openmic --check
      east table my-recipes/ --data chorales --run --workers 2
      east table demo --run --scheduler tcp://host:8786 --set seeds=1,2,3,4,5
    """
    from pipeline.experiments.table import fill_table
    from pipeline.layout import tables_dir
    from pipeline.reporting.figures import publish_figures
    from pipeline.reporting.sheets import publish

    with listening() as listener:
        filled = fill_table(
            recipes, data=data, changes=changes, check=check, run=run, workers=workers, scheduler=scheduler,
            baseline=baseline, n_resamples=resamples, unit=unit, listener=listener,
        )  # fmt: skip
    show_table("", ["row", "kind", "seeds done", "seeds missing"], filled.state())
    folder = Path(out) if out else tables_dir(filled.data) / filled.name
    sheet = publish(filled.comparison, [row.title for row in filled.rows], folder)
    show("")
    if filled.comparison:
        publish_figures(filled.comparison, folder)
        columns, lines = sheet.narrow()
        show_table("", columns, lines, numeric=range(columns.index("seeds"), len(columns)))
    show("\n" + "\n".join([*sheet.notes, "", filled.text(), f"Written: {folder}"]))
    filled.require()
