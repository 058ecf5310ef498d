"""``east predict``: tags of audio files."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from pipeline.commands.console import listening, show


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("files", nargs=-1, required=True, metavar="FILE|FOLDER|-...")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many tags to print per file.")
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Score from which a tag counts as present; lower ones are not printed.  [default: the run's own, starred]",
)
@click.option("--over-time", is_flag=True, help="Also the tags of every window, with its seconds.")
@click.option("--hop", "hop_s", type=float, help="Seconds from window to window.  [default: the length of a clip]")
@click.option("--csv", "csv_path", type=click.Path(dir_okay=False), help="Also write all scores to this CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print all scores as JSON instead.")
@click.option("--jsonl", "as_lines", is_flag=True, help="Print one line of JSON per file, as soon as it is done.")
@click.option("--allow-failures", is_flag=True, help="Exit with 0 although files failed.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 or mps.")
def predict(*, run: str, files: tuple[str, ...], **options: Any) -> None:
    """Tag audio with the trained student of RUN.

    RUN is a run's folder or name, or an exported .onnx file.

    Reads WAV, FLAC, OGG, Opus, MP3 of any length, rate and channel count: files, all audio below
    folders, and for - standard input, which holds names, one per line, or else (where its first 4096
    bytes are no text) one audio file. They are heard in clips of the length the student was trained on,
    and the clips' scores, from 0 to 1, averaged by their seconds. A star marks tags above their
    threshold. No teacher is needed. Files that fail are named, the rest is done, and the exit status
    is 1.

    \b
    Examples:
      east predict data/chorales/runs/kd-s1 song.mp3 other.wav --top 3
      east predict student.onnx long.flac --over-time --hop 1 --csv tags.csv
      find /music -name '*.mp3' | east predict kd-s1 - --jsonl
    """
    _predict(run, files, **options)


def _predict(
    run: str,
    files: tuple[str, ...],
    *,
    top: int,
    threshold: float | None,
    over_time: bool,
    hop_s: float | None,
    csv_path: str | None,
    as_json: bool,
    as_lines: bool,
    allow_failures: bool,
    device: str,
) -> None:
    from pipeline.deployment.predict import Asked, predict_by_name

    if as_json and as_lines:
        raise click.UsageError("--json and --jsonl together: choose one.")
    with listening() as listener:
        tags = predict_by_name(
            run,
            files,
            asked=Asked(over_time=over_time, hop_s=hop_s, threshold=threshold),
            csv_path=Path(csv_path) if csv_path else None,
            device=device,
            stdin=getattr(sys.stdin, "buffer", None),
            each=None if as_json else partial(_show_file, top=top, as_lines=as_lines),
            listener=listener,
        )
    if as_json:
        show(tags.to_json())
    elif not as_lines:
        show(tags.licence_text())
    if not allow_failures:
        tags.require()


def _show_file(tags: Any, file: Any, *, top: int, as_lines: bool) -> None:
    """Print one file as soon as it is done; what failed is a line of JSON, or a word of the listener's."""
    if as_lines:
        show(tags.to_line(file))
    elif hasattr(file, "scores"):
        show(tags.file_text(file, top))
