"""``east evaluate``, ``east compare`` and ``east report``: numbers of runs."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.console import listening, show, show_table

_RESAMPLES = click.option(
    "--resamples", type=click.IntRange(1), default=1000, show_default=True, help="Bootstrap resamples."
)
_UNIT = click.option(
    "--by",
    "unit",
    type=click.Choice(["clip", "group"]),
    default="clip",
    show_default=True,
    help="What the bootstrap draws: clips, or whole groups (songs, works).",
)
_DATA = click.option("--data", default="", help="All complete runs of this dataset.  [default: chorales]")
_BASELINE = click.option(
    "--baseline", default="", help="Row to measure against.  [default: the same student on labels only]"
)
_OUT = click.option("--out", type=click.Path(file_okay=False), help="Folder to write.  [default: data/NAME/report]")


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@_RESAMPLES
@_UNIT
def evaluate(runs: tuple[str, ...], resamples: int, unit: str) -> None:
    """Score each RUN (folder or name) on all of its splits.

    Reads the run's predictions and the labels in the clip table. Writes RUN/metrics.json: per
    split macro and per-class average precision and ROC-AUC over known labels, F1 (threshold 0.4),
    accuracy where clips have one class, each from 0 to 1, with 95 % bootstrap intervals; once by
    clip, and once by file where files have several clips.

    \b
    Example:
      east evaluate data/chorales/runs/*
    """
    from pipeline.evaluation.evaluate import evaluate_by_name

    with listening() as listener:
        columns, rows = evaluate_by_name(runs, n_resamples=resamples, unit=unit, listener=listener)
    show_table("", columns, rows, numeric=range(2, len(columns)))


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN...]")
@_DATA
@_BASELINE
@_RESAMPLES
@_UNIT
@_OUT
def compare(*, runs: tuple[str, ...], data: str, baseline: str, resamples: int, unit: str, out: str | None) -> None:
    """Compare RUNs, or all complete runs of a dataset, row by row.

    Runs that differ in their seed alone are one row: mean and standard deviation over seeds on
    every test split, and the difference to the baseline, paired by seed, with a 95 % bootstrap
    interval over the same clips. Parameters and multiply-accumulates (MACs) are per clip, training
    time is seconds. Writes comparison.csv, comparison.json and figures/ (SVG, PNG).

    \b
    Example:
      east compare --data chorales
    """
    _compare(runs=runs, data=data, baseline=baseline, resamples=resamples, unit=unit, out=out, with_page=False)


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN...]")
@_DATA
@_BASELINE
@_RESAMPLES
@_UNIT
@_OUT
def report(*, runs: tuple[str, ...], data: str, baseline: str, resamples: int, unit: str, out: str | None) -> None:
    """Compare, and make one self-contained page of it.

    As `east compare`, and writes index.html besides: headline, table, figures, limits, and how the
    numbers were made. The page needs no network and no script.

    \b
    Example:
      east report --data chorales
    """
    _compare(runs=runs, data=data, baseline=baseline, resamples=resamples, unit=unit, out=out, with_page=True)


def _compare(
    *, runs: tuple[str, ...], data: str, baseline: str, resamples: int, unit: str, out: str | None, with_page: bool
) -> None:
    if runs and data:
        raise click.UsageError("Give either RUN... or --data NAME, not both.")
    from pipeline.reporting.report import report_by_name

    with listening() as listener:
        found = report_by_name(
            runs,
            data=data or ("" if runs else "chorales"),
            out=Path(out) if out else None,
            with_page=with_page,
            baseline=baseline,
            n_resamples=resamples,
            unit=unit,
            listener=listener,
        )
    columns, rows = found.table()
    show_table("", columns, rows, numeric=(1, *range(3, len(columns))))
    show(f"\n{found.headline()}\n")
    show(f"Written: {found.page or found.folder}")
