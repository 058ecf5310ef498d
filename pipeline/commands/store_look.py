"""``east store info`` and ``list``: what stores are and hold."""

from __future__ import annotations

import click

from pipeline.commands.console import show, show_table


@click.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, for scripts.")
@click.option("--failures", is_flag=True, help="List every clip that failed or is short, with its reason.")
def info(path: str, as_json: bool, failures: bool) -> None:
    """Say what the store at PATH (a .zarr folder, an .h5 file, or a URL) is.

    Reads metadata and the small arrays only. Of an unfinished store it says who writes it, since
    when and how fast; of a Zarr store or HDF5 file of others its arrays, and how to import them.
    Sizes are bytes, times seconds, rates Hz. Writes nothing.

    \b
    Example:
      east store info data/chorales/stores/musicnn/pools.zarr
    """
    from pipeline.stores.info import describe_store, render

    show(render(describe_store(path, failures=failures), as_json=as_json))


@click.command("list")
@click.option("--data", "dataset", default="chorales", show_default=True, help="Dataset whose stores are listed.")
def list_command(dataset: str) -> None:
    """List the stores of a dataset, unfinished ones too, with clips by state and size.

    Reads metadata and the small arrays of data/NAME/stores only. Counts are clips, sizes megabytes
    (10^6 bytes) on the disk, licences the strictest. Writes nothing.

    \b
    Example:
      east store list --data chorales
    """
    from pipeline.stores.overview import COLUMNS, list_rows

    show_table("", COLUMNS, list_rows(dataset), numeric=(2, 3, 4, 6))


COMMANDS: tuple[click.Command, ...] = (info, list_command)
