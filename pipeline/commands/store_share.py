"""``east store push``, ``pull``, ``ls``, ``card``: stores between teams."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.console import show


@click.command()
@click.argument("path")
@click.option("--croissant", is_flag=True, help="Print the card for programs (Croissant JSON-LD) instead.")
@click.option("--out", type=click.Path(file_okay=False), help="Write README.md and croissant.json into this folder.")
def card(path: str, croissant: bool, out: str | None) -> None:
    """Print the card of the store at PATH (a .zarr folder, an .h5 file, or a URL).

    Reads metadata and the small arrays only; unfinished and old stores too. Says what the store
    holds (times in seconds, rates in Hz), its licences, citation and how to make it again. Writes
    nothing without --out.

    \b
    Example:
      east store card data/chorales/stores/musicnn/pools.zarr
    """
    from pipeline.stores.sharing.showing import show_card

    show(show_card(path, croissant=croissant, out=Path(out) if out else None))


COMMANDS: tuple[click.Command, ...] = (card,)
