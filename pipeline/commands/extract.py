"""``east extract``: stage one."""

from __future__ import annotations

import click

from pipeline.commands.console import listening, show


@click.command()
@click.option(
    "--data", default="chorales", show_default=True, help="Clip table, name of a dataset, or folder of audio."
)
@click.option(
    "--teacher",
    default="musicnn",
    show_default=True,
    help="Teachers, comma separated; NAME:option=value sets, NAME/OUTPUT+OUTPUT picks outputs; none for mels alone.",
)
@click.option(
    "--student",
    default="cnn-small",
    show_default=True,
    help="Students whose mels are written in the same pass, comma separated; none for no mels.",
)
@click.option(
    "--views",
    type=click.IntRange(0, 99),
    default=0,
    show_default=True,
    help="Views of each clip whose mels are written, too: resampled, equalised, noisy, at another level.",
)
@click.option(
    "--teacher-views",
    type=click.IntRange(0, 99),
    default=0,
    show_default=True,
    help="Views that the teachers hear, of the training clips with known labels alone: they serve the probe.",
)
@click.option("--format", type=click.Choice(["zarr", "hdf5"]), default="zarr", show_default=True, help="Kind of store.")
@click.option(
    "--dtype", type=click.Choice(["float16", "float32"]), default="float16", show_default=True, help="Stored type."
)
@click.option(
    "--mode",
    type=click.Choice(["exact", "fast", "half"]),
    default="fast",
    show_default=True,
    help="exact: float32 as the original; fast: float32, folded; half: 16-bit networks.",
)
@click.option(
    "--backend",
    type=click.Choice(["own", "package"]),
    default="own",
    show_default=True,
    help="package: run the network of panns-inference or openl3, where installed.",
)
@click.option("--workers", type=int, help="Worker processes; 0 works in this one.  [default: one per core or GPU]")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, or cuda:0,1: one worker per GPU.")
@click.option("--scheduler", help="Address of a running Dask scheduler, such as tcp://host:8786.")
@click.option("--weights", type=click.Path(exists=True), help="Local file (or folder) with the teacher's weights.")
@click.option("--batch", type=click.IntRange(1), help="Clips per forward pass.  [default: on the card]")
@click.option("--retry-failed", is_flag=True, help="Try the clips again that failed before.")
@click.option("--allow-failures", type=int, default=0, show_default=True, help="Exit 0 when up to N clips failed.")
@click.option(
    "--reuse",
    multiple=True,
    metavar="STORE",
    help="Store, folder of stores, or place with a catalogue (URLs too) to copy the same clips from; repeatable.",
)
@click.option(
    "--removed",
    type=click.Choice(["keep", "drop"]),
    default="keep",
    show_default=True,
    help="What becomes of a store's clips that left the clip table.",
)
@click.option("--no-preflight", is_flag=True, help="Do not check a teacher before its first store is created.")
@click.option("--dry-run", is_flag=True, help="Print the plan (clips, hours, bytes, memory) and stop.")
def extract(allow_failures: int, **options: object) -> None:
    """Write teacher embeddings and mels of all clips into stores.

    Reads the clip table and its audio (WAV, FLAC, OGG, Opus, MP3; any rate, any number of
    channels). Writes data/NAME/stores/EXTRACTOR/OUTPUT.zarr (or .h5). May be interrupted: the
    same command goes on from there, adds clips that are new in the table or whose file was missing
    and came, and computes those again whose audio changed (by digest; unchanged size and time spare
    reading it; files at URLs are not looked at). Clips that left the table stay in the store; with
    --removed drop it is written anew without them. Clips that fail are named here and in the store;
    the rest is done, and the exit status is 1. Before a store of a teacher is created, the teacher
    is checked for a few seconds (see east teachers check).

    View K of a clip follows from its samples and K: more views later compute only the new ones. Each
    is a store of its own, EXTRACTOR-viewK/OUTPUT, for east train --views and --probe-views.

    \b
    Example:
      east extract --data ~/music --teacher musicnn --workers 4
      east extract --data ~/music --teacher openl3:hop=0.96,panns/clip+frames
      east extract --data ~/music --teacher musicnn --views 2 --teacher-views 1
      east extract --data ~/music --teacher panns --reuse /shared/stores
      east extract --data ~/music --teacher musicnn --removed drop --dry-run
    """
    from pipeline.extraction.request import extract_from_options

    with listening() as listener:
        report = extract_from_options(options, listener)
    show(report.text())
    if not report.dry_run:
        report.require(allow_failures)
