"""``east teachers``, ``east students``, ``east datasets``: what there is; ``east teachers check``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pipeline.commands.console import listening, show, show_table

_F = TypeVar("_F", bound=Callable[..., Any])


def _json_option(command: _F) -> _F:
    option = click.option("--json", "as_json", is_flag=True, help="Machine-readable, with citations.")
    return option(command)


@click.group(invoke_without_command=True)
@_json_option
@click.option("--front-ends", is_flag=True, help="List the students' log-mel front ends instead.")
@click.pass_context
def teachers(ctx: click.Context, as_json: bool, front_ends: bool) -> None:
    """List teachers and their outputs: dimension, rate, hop, window, licence, size.

    An output is named TEACHER/OUTPUT; TEACHER alone means its default outputs, marked *. A hop of
    "clip" is one frame per clip.

    \b
    Example:
      east teachers
    """
    if ctx.invoked_subcommand is None:
        _list_teachers(as_json=as_json, front_ends=front_ends)
    elif as_json or front_ends:
        raise click.UsageError("Options of the list do not go with a command; put --json after its name.", ctx)


@teachers.command()
@click.argument("name")
@click.option(
    "--weights", type=click.Path(exists=True, path_type=Path), help="Local file (or folder) with its weights."
)
@click.option(
    "--mode",
    type=click.Choice(["exact", "fast", "half"]),
    default="fast",
    show_default=True,
    help="exact: float32 as the original; fast: float32, folded; half: 16-bit networks.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def check(name: str, as_json: bool, **options: Any) -> None:
    """Try whether the teacher NAME keeps its promises, on short signals.

    The same bits twice; a clip alone as in any batch, whatever zeros are behind it; finite numbers
    for silence, clicks and full scale; frames, shapes and channels as on the card; no training
    left on; what float16 costs. NAME may carry settings (openl3:hop=0.96), outputs (panns/clip), or
    a model (hf:FOLDER, hf:OWNER/MODEL). The same checks stand before a teacher's first store in
    east extract. Takes seconds, writes nothing, exits with 1 where a check fails.

    \b
    Example:
      east teachers check panns --weights ~/Downloads/Cnn14_mAP=0.431.pth
    """
    from pipeline.extraction.preflight.check_teacher import check_teacher

    with listening() as listener:
        report = check_teacher(name, **options, listener=listener)
    if as_json:
        show(json.dumps(report.as_dict(), indent=2))
    else:
        cells = [
            (one.name, one.status, _number(one.measured), _number(one.limit), one.sentence) for one in report.checks
        ]
        show_table("", ("check", "", "measured", "limit", "found"), cells, numeric=(2, 3))
    report.require()


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _list_teachers(*, as_json: bool, front_ends: bool) -> None:
    from pipeline.listing import list_teachers

    rows = list_teachers(front_ends=front_ends)
    if as_json:
        show(json.dumps(rows, indent=2))
        return
    columns = ("output", "channels", "rate Hz", "hop s", "window s", "licence", "parameters", "weights")
    cells = [
        (
            f"{row['request']}/{row['output']}{' *' if row['default'] else ''}",
            str(row["channels"] or "its own"),
            f"{row['rate_hz']:,}",
            f"{row['hop_s']:.4g}" if row["hop_s"] else "clip",
            f"{row['window_s']:.4g}" if row["window_s"] else "clip",
            row["licence"],
            _millions(row["parameters"]),
            "none needed" if front_ends else _where(row),
        )
        for row in rows
    ]
    show_table("", columns, cells, numeric=(1, 2, 3, 4, 6))


def _where(row: dict[str, Any]) -> str:
    if row["weights_here"] is None:
        return "the hub, or a folder"
    return "here" if row["weights_here"] else f"east weights get {row['name']}"


@click.command()
@_json_option
@click.option("--measure", is_flag=True, help="Also time each student here, with its front end, on one CPU thread.")
def students(as_json: bool, measure: bool) -> None:
    """List students: front end, stages, size, operations, what they see.

    Multiply-accumulates (MACs) are those of convolutions and linear layers, per second of audio. The
    receptive field is what one frame of the last stage sees: seconds of audio, and mels of all. The
    real-time factor is seconds of computing per second of audio, from waveform to scores, one clip
    on one thread; below 1 is faster than real time. Reads and writes nothing.

    \b
    Example:
      east students --measure
    """
    from pipeline.distillation.students.listing import list_students

    rows = list_students(measure=measure)
    if as_json:
        show(json.dumps(rows, indent=2))
        return
    columns = ("student", "front end", "stage frames x channels", "parameters", "MACs/s", "sees s", "mels")
    cells = [
        (
            row["name"],
            row["front_end"],
            " ".join(f"{frames}x{n}" for frames, n in zip(row["stage_frames"], row["stage_channels"], strict=True)),
            _millions(row["parameters"]),
            _millions(row["macs_per_s"]),
            f"{row['field_s']:.2f}",
            f"{row['field_mels']}/{row['mels']}",
            *([f"{row['real_time_factor']:.2g}"] if measure else []),
        )
        for row in rows
    ]
    show_table("", (*columns, "real-time factor") if measure else columns, cells, numeric=(3, 4, 5, 6, 7))


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
    if n >= 1e9:
        return f"{n / 1e9:.2f} G"
    return f"{n / 1e6:.1f} M" if n >= 1e6 else f"{n / 1e3:.0f} k"
