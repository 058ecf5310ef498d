"""``east teachers rank``: which teacher to take, told before any student is trained."""

from __future__ import annotations

import json

import click

from pipeline.commands.console import listening, show, show_table


@click.command()
@click.argument("stores", nargs=-1, required=True)
@click.option("--data", default="chorales", show_default=True, help="Name of a dataset, or clip table.")
@click.option(
    "--labelled", type=click.IntRange(1), help="How many training clips may show their labels.  [default: all]"
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the labelled subset and folds.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Groups of clips held out in turn.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def rank(stores: tuple[str, ...], *, data: str, labelled: int | None, seed: int, folds: int, as_json: bool) -> None:
    """Rank teachers by their STORES for a labelled task, before any student is trained.

    STORES are outputs that were extracted (musicnn/pools), paths or URLs. Reads the clip table's
    training labels and the stores; validation and test stay unseen. A calibrated ridge probe is fitted
    on all groups of clips but a fold's, and judged on that fold: mAP with its 95 % interval over
    groups, ROC-AUC, and the difference to the best with its paired interval. LogME is the log evidence
    per clip of a linear model. Several stores are also ranked side by side as one. Takes seconds per
    store and writes nothing.

    \b
    Example:
      east teachers rank musicnn/pools yamnet/embedding --data scores --labelled 400
    """
    from pipeline.distillation.ranking import rank_teachers

    with listening() as listener:
        rows = rank_teachers(stores, data=data, labelled=labelled, seed=seed, folds=folds, listener=listener)
    if as_json:
        show(json.dumps([row.as_dict() for row in rows], indent=2))
        return
    cells = [
        (
            row.name,
            f"{row.channels:,}",
            f"{row.map:.3f}",
            _interval(row.map_interval),
            f"{row.roc_auc:.3f}",
            "" if row.gain is None else f"{row.gain:+.3f}",
            _interval(row.gain_interval),
            f"{row.logme:.3f}",
            f"{row.seconds:.1f}",
        )
        for row in rows
    ]
    columns = ("teacher", "channels", "mAP", "95 %", "ROC-AUC", "to the best", "95 %", "LogME", "seconds")
    show_table("", columns, cells, numeric=tuple(range(1, 9)))
    show(f"{rows[0].n_clips:,} labelled clips, {folds} folds. How far this can be trusted: docs/experiments/README.md")


def _interval(values: object) -> str:
    low, high = getattr(values, "low", None), getattr(values, "high", None)
    return (
        "" if low is None or high is None else f"{low:+.3f} to {high:+.3f}" if low < 0 else f"{low:.3f} to {high:.3f}"
    )
