"""``east store push``, ``pull``, ``card``: stores between teams."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.console import listening, show


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


@click.command()
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("dest")
@click.option("--replace", is_flag=True, help="Replace another store that is there.")
def push(source: Path, dest: str, replace: bool) -> None:
    """Copy the finished Zarr store SOURCE to the shared place DEST.

    Reads the store, each file checked against its digest list while it is sent. Writes
    DEST/EXTRACTOR/OUTPUT.zarr, or DEST itself where it ends in .zarr: a folder, or an address that
    fsspec can write (s3:// with the extra s3; credentials as its client finds them). What is there
    already with the right digest is not sent again; the root's metadata come last, so that a
    store that is half there is never taken for a whole one.

    \b
    Example:
      east store push data/chorales/stores/musicnn/pools.zarr /shared/stores
    """
    from pipeline.stores.sharing.push import push_store

    with listening() as listener:
        place = push_store(source, dest, replace=replace, listener=listener)
    show(f"store: {place}")


@click.command()
@click.argument("url")
@click.argument("dest", type=click.Path(path_type=Path))
def pull(url: str, dest: Path) -> None:
    """Fetch the Zarr store at URL (any web server, a folder, s3://) to the path DEST.

    Reads the store's digest list and what it names. Writes DEST (.zarr), which appears once every
    file has its digest and the content its own. May be interrupted, or cut: what came is kept in a
    hidden folder beside DEST, and the same command goes on from there.

    \b
    Example:
      east store pull https://example.org/stores/pools.zarr data/mine/stores/musicnn/pools.zarr
    """
    from pipeline.stores.sharing.pull import pull_store

    with listening() as listener:
        meta = pull_store(url, dest, listener=listener)
    show(f"store: {dest}\ncontent digest: {meta.content_digest}")


COMMANDS: tuple[click.Command, ...] = (card, push, pull)
