"""``east weights``: see, fetch and check the teachers' weights."""

from __future__ import annotations

import json
from pathlib import Path

import click

from pipeline.commands.console import listening, show, show_table


@click.group()
def weights() -> None:
    """See, fetch and check the files of weights that teachers need."""


@weights.command("list")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable, with digests, sources and paths.")
def list_command(as_json: bool) -> None:
    """List the files, their sizes and licences, and which of them are here.

    The cache is east/weights in your cache folder, or the folder in EAST_WEIGHTS. Reads no file
    and asks no server.

    \b
    Example:
      east weights list
    """
    from pipeline.listing import list_weights

    rows = list_weights()
    if as_json:
        show(json.dumps(rows, indent=2))
        return
    columns = ("weights", "file", "MB", "here", "licence", "from")
    cells = [
        (
            row["name"],
            row["file"],
            f"{row['bytes'] / 1e6:.1f}" if row["bytes"] else "?",
            "yes" if row["here"] else "no",
            row["licence"],
            row["sources"][0] if row["sources"] else "",
        )
        for row in rows
    ]
    show_table("", columns, cells, numeric=(2,))


@weights.command()
@click.argument("name")
@click.option("--offline", is_flag=True, help="Use what is here; do not ask the network.")
def get(name: str, offline: bool) -> None:
    """Fetch the weights of the teacher NAME, or of all teachers for NAME all.

    Files are verified before they are used: SHA-256 (MD5 where no other is published). A broken
    download goes on where it stopped when you run the command again.

    \b
    Example:
      east weights get musicnn
    """
    from pipeline.listing import get_weights

    with listening() as listener:
        paths = get_weights(name, offline=offline, listener=listener)
    for path in paths:
        show(str(path))


@weights.command()
@click.argument("name")
@click.option("--file", type=click.Path(path_type=Path), help="Check this file (or folder of files) instead.")
def verify(name: str, file: Path | None) -> None:
    """Read the weights of the teacher NAME whole and compare them with its card.

    Exits with 1 where a file is absent, of another size or of another digest.

    \b
    Example:
      east weights verify panns --file ~/Downloads/Cnn14_mAP=0.431.pth
    """
    from pipeline.listing import verify_weights

    with listening() as listener:
        paths = verify_weights(name, file=file, listener=listener)
    show(f"{len(paths)} file{'s' if len(paths) != 1 else ''} of {name}: as on the card")
