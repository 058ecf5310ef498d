"""``east teachers``, ``east students``, ``east datasets``: what there is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from pipeline.commands.console import show, show_table

_F = TypeVar("_F", bound=Callable[..., Any])


def _json_option(command: _F) -> _F:
    option = click.option("--json", "as_json", is_flag=True, help="Machine-readable, with citations.")
    return option(command)


@click.command()
@_json_option
@click.option("--front-ends", is_flag=True, help="List the students' log-mel front ends instead.")
def teachers(as_json: bool, front_ends: bool) -> None:
    """List teachers and their outputs: dimension, rate, hop, window, licence, size.

    An output is named TEACHER/OUTPUT; TEACHER alone means its default outputs, marked *. A hop of
    "clip" is one frame per clip.

    \b
    Example:
      east teachers
    """
    from pipeline.listing import list_teachers

    rows = list_teachers(front_ends=front_ends)
    if as_json:
        show(json.dumps(rows, indent=2))
        return
    columns = ("output", "channels", "rate Hz", "hop s", "window s", "licence", "parameters", "weights")
    cells = [
        (
            f"{row['name']}/{row['output']}{' *' if row['default'] else ''}",
            str(row["channels"]),
            f"{row['rate_hz']:,}",
            f"{row['hop_s']:.4g}" if row["hop_s"] else "clip",
            f"{row['window_s']:.4g}" if row["window_s"] else "clip",
            row["licence"],
            _millions(row["parameters"]),
            "none needed" if front_ends else "here" if row["weights_here"] else f"east weights get {row['name']}",
        )
        for row in rows
    ]
    show_table("", columns, cells, numeric=(1, 2, 3, 4, 6))


@click.command()
@_json_option
def students(as_json: bool) -> None:
    """List students: front end, channels of each stage, size.

    \b
    Example:
      east students --json
    """
    from pipeline.listing import list_students

    rows = list_students()
    if as_json:
        show(json.dumps(rows, indent=2))
        return
    columns = ("student", "front end", "stage channels", "parameters", "summary")
    cells = [
        (
            row["name"],
            row["front_end"],
            " ".join(map(str, row["stage_channels"])),
            _millions(row["parameters"]),
            row["summary"],
        )
        for row in rows
    ]
    show_table("", columns, cells, numeric=(3,))


@click.command()
@_json_option
def datasets(as_json: bool) -> None:
    """List datasets: task, classes, licence, and whether they can be made here.

    \b
    Example:
      east datasets
    """
    from pipeline.listing import list_datasets

    rows = list_datasets()
    if as_json:
        show(json.dumps(rows, indent=2))
        return
    columns = ("dataset", "version", "task", "classes", "made here", "licence", "summary")
    cells = [
        (
            row["name"],
            row["version"],
            row["task"],
            str(row["classes"]),
            "yes" if row["can_build"] else "no",
            row["licence"],
            row["summary"],
        )
        for row in rows
    ]
    show_table("", columns, cells, numeric=(3,))


def _millions(n: int) -> str:
    if not n:
        return "-"
    return f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n / 1e3:.0f} k"
