"""``east sweep``: a search over settings."""

from __future__ import annotations

import click

from pipeline.commands.console import listening, show


@click.command()
@click.argument("recipe", metavar="RECIPE")
@click.option(
    "--param",
    "params",
    multiple=True,
    required=True,
    metavar="NAME=VALUES",
    help="Setting to search: a range LOW..HIGH, by logarithm with LOW..HIGH:log, or choices A,B,C.",
)
@click.option("--trials", type=click.IntRange(1), help="Trials in all.  [default: 20; of a grid, all]")
@click.option("--name", "title", default="", help="Name of the sweep's folder.  [default: the recipe's]")
@click.option(
    "--sampler", default="tpe", show_default=True, help="tpe, random, or grid (every combination of choices)."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of what is suggested.")
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Trials side by side.")
@click.option("--scheduler", default="", help="Address of a running Dask scheduler whose workers make the runs.")
@click.option("--data", default="", help="Dataset instead of the recipe's.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Setting for all trials, or seeds=1,2.")
def sweep(
    *,
    recipe: str,
    params: tuple[str, ...],
    trials: int | None,
    title: str,
    sampler: str,
    seed: int,
    workers: int,
    scheduler: str,
    data: str,
    changes: tuple[str, ...],
) -> None:
    """Search settings of RECIPE (one row) for the best validation mAP.

    The mAP is from 0 to 1, its mean over seeds.

    Reads what the runs read; test splits are never looked at. Every trial is a run below
    data/NAME/runs/. Writes data/NAME/sweeps/SWEEP/: study.journal (Optuna's), trials.csv and
    best.toml, a recipe. After an interruption the same command goes on, to the same trials; a
    larger --trials continues a sweep. Needs the extra `sweep`.

    \b
    Examples:
      east sweep my-kd.toml --param lr=1e-4..1e-2:log --param lam=0.2..0.9 --trials 30
      east sweep my-kd.toml --param loss=kd,east-kd --param tau=1,2 --sampler grid
    """
    from pipeline.experiments.sweep import sweep as run

    with listening() as listener:
        swept = run(
            recipe,
            params=params,
            trials=trials,
            title=title,
            sampler=sampler,
            seed=seed,
            workers=workers,
            scheduler=scheduler,
            data=data,
            changes=changes,
            listener=listener,
        )
    show(swept.text())
