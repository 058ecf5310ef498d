"""``east export``: a trained student as one file for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.console import listening, show


@click.command()
@click.argument("run", metavar="RUN")
@click.option(
    "--format",
    type=click.Choice(["onnx"]),
    default="onnx",
    show_default=True,
    expose_value=False,
    help="What to write.",
)
@click.option("--out", type=click.Path(dir_okay=False), help="File to write.  [default: RUN/student.onnx]")
@click.option("--replace", is_flag=True, help="Write over a file that is there.")
def export(*, run: str, out: str | None, replace: bool) -> None:
    """Write the trained student of RUN as one file, waveform in, scores out.

    RUN is a run's folder or name. Writes an ONNX model that runs in onnxruntime with nothing of this project: its
    input is mono audio, float32 [batch, samples] from -1 to 1 at the student's rate in Hz, of any
    length; its outputs are scores from 0 to 1 and logits, [batch, classes]. The mel front end is
    inside; classes, thresholds, licences and provenance are its metadata. Before the file is put in
    its place it is run beside PyTorch on silence, full scale, one sample, long audio and others, and
    refused where a score differs by more than 0.0001.

    \b
    Example:
      east export data/chorales/runs/kd-s1 --out tagger.onnx
    """
    from pipeline.deployment.export import export_run

    with listening() as listener:
        done = export_run(run, out=Path(out) if out else None, replace=replace, listener=listener)
    show(done.text())
