"""``east store push``, ``pull``, ``ls``, ``card``: stores between teams."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.console import listening, show, show_table


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
    """Copy the finished store SOURCE (.zarr or .h5) to the shared place DEST.

    Reads the store, each file held to its digest. Writes DEST/EXTRACTOR/OUTPUT.zarr (or .h5) and an
    entry in DEST/catalogue.json; or DEST itself where it ends in .zarr or .h5, with an entry in a
    catalogue that is there up to three folders above. DEST is a folder, or an address that fsspec
    can write (s3:// with the extra s3; credentials as its client finds them). May be interrupted, or
    cut: files that are there with the right digest are not sent again. What says that the store is
    whole comes last. Progress is in MB.

    \b
    Example:
      east store push data/chorales/stores/musicnn/pools.zarr /shared/stores
      east store push data/chorales/stores/musicnn/pools.zarr s3://bucket/stores
    """
    from pipeline.stores.sharing.push import push_store

    with listening() as listener:
        place = push_store(source, dest, replace=replace, listener=listener)
    show(f"store: {place}")


@click.command()
@click.argument("url")
@click.argument("dest", type=click.Path(path_type=Path), required=False)
def pull(url: str, dest: Path | None) -> None:
    """Fetch the store at URL (any web server, a folder, s3://) to the path DEST.

    URL ends in .zarr or .h5, or is a place whose catalogue names one store. Reads what the store's
    digest list names, or the one file of HDF5. Writes DEST, without it
    data/DATASET/stores/EXTRACTOR/OUTPUT.zarr (or .h5), where east extract looks; it appears once every
    file has its digest and the content its own. May be interrupted, or cut: what came is kept in
    hidden files beside DEST, and the same command goes on from there, by bytes where the server can.
    Progress is in MB.

    \b
    Example:
      east store pull https://example.org/stores/musicnn/pools.zarr
      east store pull s3://bucket/stores/musicnn/pools.zarr data/mine/stores/musicnn/pools.zarr
    """
    from pipeline.stores.sharing.pull import pull_store

    with listening() as listener:
        pulled = pull_store(url, dest, listener=listener)
    show(f"store: {pulled.path}\ncontent digest: {pulled.meta.content_digest}")


@click.command("ls")
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, for scripts.")
def ls_command(url: str, as_json: bool) -> None:
    """List the stores of the shared place URL (a folder, s3://, any web server).

    Reads URL/catalogue.json, which east store push writes. Where there is none, looks for stores up
    to two folders below, if the place can be listed, and reads their metadata. Sizes are MB, in
    JSON bytes. Writes nothing.

    \b
    Example:
      east store ls /shared/stores
    """
    from pipeline.stores.sharing.ls import COLUMNS, as_rows, list_place, to_json

    with listening() as listener:
        found = list_place(url, listener)
    if as_json:
        show(to_json(found))
    else:
        show_table("", COLUMNS, as_rows(found), numeric=(3, 4))


COMMANDS: tuple[click.Command, ...] = (card, push, pull, ls_command)
