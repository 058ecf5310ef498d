"""``east store verify`` and ``diff``: whether a store is what it says, and what two stores differ in."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.console import listening, show


@click.command()
@click.argument("path")
@click.option("--repair", is_flag=True, help="Mark damaged clips as pending, for east extract to redo.")
@click.option(
    "--audio",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the audio: compare its files with the digests in the store.",
)
@click.option("--data", help="Clip table that says where clips lie below --audio.  [default: ids are paths]")
@click.option("--no-canaries", is_flag=True, help="Do not compute the canaries again.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, with every clip.")
def verify(path: str, *, as_json: bool, no_canaries: bool, **options: object) -> None:
    """Check every byte of the store at PATH (a .zarr folder, an .h5 file, or a URL).

    Reads everything: checksums of all chunks, digests of all files and clips, the content digest,
    the schema; and computes the canaries again where the teacher's weights are here. Names the
    clips behind damaged chunks and the files behind other damage; the exit status is then 1.
    Writes nothing without --repair.

    \b
    Example:
      east store verify data/chorales/stores/musicnn/pools.zarr
      east store verify pools.zarr --audio ~/music
    """
    from pipeline.extraction.checking import verify_from_options

    with listening() as listener:
        report = verify_from_options(path, canaries=not no_canaries, listener=listener, **options)  # type: ignore[arg-type]
    show(report.as_json() if as_json else report.text())
    report.require()


@click.command()
@click.argument("left")
@click.argument("right")
@click.option("--rtol", type=click.FloatRange(0), default=0.0, show_default=True, help="Allowed, times the number.")
@click.option("--atol", type=click.FloatRange(0), default=0.0, show_default=True, help="Allowed, in units of features.")
@click.option("--read", is_flag=True, help="Compare the features of all clips, also where the stored digests agree.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, with every clip.")
def diff(left: str, right: str, *, as_json: bool, **options: object) -> None:
    """Compare the stores LEFT and RIGHT clip by clip, joined by clip id.

    Reads both (.zarr folders, .h5 files, URLs; formats, types and order of rows may differ). Clips of
    the same stored digest count as equal unread, without --read: whether the digests are true, east
    store verify says. Says which clips and fields differ, and the largest difference. Numbers are
    compared: 0.0 and -0.0 are equal, NaN is equal to NaN and beyond every tolerance of a number.
    Writes nothing. The exit status is 0 where they are equal, 10 where they are close
    (|left - right| <= atol + rtol * |right| everywhere), 11 where they are different.

    \b
    Example:
      east store diff mine.zarr theirs.zarr --rtol 1e-3
    """
    from pipeline.stores.checking.diff import diff_stores

    with listening() as listener:
        found = diff_stores(left, right, listener=listener, **options)  # type: ignore[arg-type]
    show(found.as_json() if as_json else found.text())
    click.get_current_context().exit(found.exit_code)


COMMANDS: tuple[click.Command, ...] = (verify, diff)
