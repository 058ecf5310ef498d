"""``east predict``: tags of audio files."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.console import listening, show


@click.command()
@click.argument("run", metavar="RUN")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many tags to print per file.")
@click.option("--csv", "csv_path", type=click.Path(dir_okay=False), help="Also write all scores to this CSV.")
@click.option("--json", "as_json", is_flag=True, help="Print all scores as JSON instead.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1 or mps.")
def predict(*, run: str, files: tuple[str, ...], top: int, csv_path: str | None, as_json: bool, device: str) -> None:
    """Tag audio FILEs with the trained student of RUN (folder or name).

    Reads the student and the files: WAV, FLAC, OGG, Opus, MP3 of any length, rate and channel
    count. They are heard in clips of the length it was trained on, and the clips' scores, from 0
    to 1, averaged by their seconds. A star marks tags above their threshold. No teacher is needed.
    Files that fail are named, the rest is done, and the exit status is 1.

    \b
    Example:
      east predict data/chorales/runs/kd-s1 song.mp3 other.wav --top 3
    """
    from pipeline.deployment.predict import predict_by_name

    with listening() as listener:
        tags = predict_by_name(
            run, files, csv_path=Path(csv_path) if csv_path else None, device=device, listener=listener
        )
    show(tags.to_json() if as_json else tags.to_text(top))
    tags.require()
