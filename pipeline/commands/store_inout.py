"""``east store export`` and ``import``: to and from other people's formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pipeline.commands.console import listening, show

_F = TypeVar("_F", bound=Callable[..., Any])


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


_FACTS = (
    click.option("--extractor", help="Name of what made them, such as vggish-openmic."),
    click.option("--output", help="Name of this output of it, such as frames."),
    click.option("--version", type=click.IntRange(0), help="Version of the extractor, a whole number."),
    click.option("--rate-hz", type=click.IntRange(1), help="Sample rate that the extractor heard, Hz."),
    click.option("--hop-s", type=click.FloatRange(0), help="Seconds between frames; 0: one frame per clip."),
    click.option("--window-s", type=click.FloatRange(0), help="Seconds of audio that a frame covers."),
    click.option("--offset-s", type=float, help="Second at which the first frame begins.  [default: 0]"),
    click.option("--clip-s", type=click.FloatRange(0), help="Length of the clips, seconds."),
    click.option("--licence", help="Licence of the extractor's weights; unknown where it is not."),
    click.option("--citation", help="Whom to cite; unknown where it is not."),
)


def _facts(command: _F) -> _F:
    for option in reversed(_FACTS):
        command = option(command)
    return command


@click.command("import")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--card", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Facts in TOML; options go before it."
)
@_facts
@click.option("--features-name", default="", help="Array of the features.  [default: features, X, embeddings]")
@click.option("--ids-name", default="", help="Array of the clip ids.  [default: clip_id, sample_key, ids, keys]")
@click.option(
    "--ids",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Ids in order, one per line or a JSON list, for arrays that come without.",
)
@click.option(
    "--clip-id",
    default="{name}",
    show_default=True,
    help="How a clip id is made of a name, such as audio/{name}.ogg@0 to fit a clip table.",
)
@click.option(
    "--dtype", type=click.Choice(["float16", "float32"]), help="Stored type.  [default: float32; float16 stays]"
)
def import_command(source: Path, out: Path, card: Path | None, **options: Any) -> None:
    """Write embeddings that were made elsewhere, SOURCE, as the store OUT.

    Reads a folder of .npy or .npz files (one per clip, [frames, channels] or [channels], named by
    the clip), or one .npz, .npy or HDF5 file of all clips, and a card of facts (--card, or options):
    names, rate in Hz, hop, window and clip length in seconds, licence, citation. Writes OUT (.zarr
    or .h5). Clips with numbers that are not finite are recorded as failed. Nothing is unpickled.
    The store says that it was imported, from a file of which digest; it has no canaries. May be
    interrupted: the same command goes on from there.

    \b
    Example:
      east store import openmic-2018.npz data/openmic/stores/vggish-openmic/frames.zarr \\
          --card vggish.toml --ids data/openmic/npz-keys.txt
      east store import embeddings/ mine.zarr --card mine.toml --clip-id "{name}.wav@0"
    """
    from pipeline.stores.exchange.importing import ImportOptions, import_store

    names = ("features_name", "ids_name", "ids", "clip_id", "dtype")
    how = ImportOptions(**{name: options.pop(name) for name in names})
    with listening() as listener:
        meta = import_store(source, out, card, options, how, listener=listener)
    shape = f"{meta.frames:,} frames x {meta.channels:,} channels, {meta.dtype}"
    show(f"{meta.name}: {shape} per clip\nstore: {out}\ncontent digest: {meta.content_digest}")


COMMANDS: tuple[click.Command, ...] = (export_command, import_command)
