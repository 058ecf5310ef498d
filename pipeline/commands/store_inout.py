"""``east store export`` and ``import``: to and from other people's formats."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.console import listening, show


@click.command("export")
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "kind",
    type=click.Choice(["npy", "npz", "parquet"]),
    required=True,
    help="npy: a folder of arrays; npz: one NumPy archive; parquet: one file, a row per clip, float32.",
)
@click.option("--per-clip", is_flag=True, help="With npy: one file per clip, valid frames only, and an index of them.")
@click.option("--allow-unfinished", "unfinished", is_flag=True, help="Take what is done of a store with pending clips.")
def export_command(source: str, out: Path, **options: object) -> None:
    """Write the features of the store SOURCE as NumPy files or Parquet at OUT.

    Reads a store (a .zarr folder, an .h5 file, a URL) block by block. Writes a folder or a file
    that needs none of this package to be read: features [clips, frames, channels], zero beyond the
    valid frames, clip ids, valid frames, and facts such as hop and window in seconds, licences and
    citation. Failed clips are left out and counted. OUT appears at the end, whole; an export that
    is interrupted leaves nothing there.

    \b
    Example:
      east store export pools.zarr pools.parquet --to parquet
      east store export pools.zarr pools-by-clip --to npy --per-clip
    """
    from pipeline.stores.exchange.export import export_store

    with listening() as listener:
        done = export_store(source, out, listener=listener, **options)  # type: ignore[arg-type]
    show(f"{done.text()}\nexported: {out}")


COMMANDS: tuple[click.Command, ...] = (export_command,)
