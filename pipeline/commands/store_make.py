"""``east store merge``, ``subset``, ``convert``, ``pool``: stores from stores."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.console import listening, show


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("sources", nargs=-1, required=True)
@click.option(
    "--duplicates",
    type=click.Choice(["refuse", "same"]),
    default="refuse",
    show_default=True,
    help="Clips in several stores; same: take each once where they are equal to the bit.",
)
def merge(out: Path, sources: tuple[str, ...], duplicates: str) -> None:
    """Write the clips of several stores into one: OUT, then the SOURCES.

    Reads finished stores of one extractor with the same settings (.zarr folders, .h5 files, URLs)
    that hold different clips, such as those extracted on several machines. Writes OUT (.zarr or
    .h5). May be interrupted: the same command goes on from there.

    \b
    Example:
      east store merge all.zarr machine-a.zarr machine-b.zarr
    """
    from pipeline.stores.making.merge import merge_stores

    with listening() as listener:
        meta = merge_stores(out, sources, same=duplicates == "same", listener=listener)
    show(f"store: {out}\ncontent digest: {meta.content_digest}")


@click.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--data", help="Clip table or name of a dataset whose clips are taken.")
@click.option("--split", multiple=True, help="Only clips of this split of the table; repeatable.")
@click.option("--label", multiple=True, help="Only clips with this label in the table; repeatable: any of them.")
@click.option(
    "--ids", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="UTF-8 text with one clip id per line."
)
@click.option("--allow-missing", is_flag=True, help="Take what is there of the clips that are asked for.")
def subset(
    source: str,
    out: Path,
    *,
    data: str | None,
    split: tuple[str, ...],
    label: tuple[str, ...],
    ids: Path | None,
    allow_missing: bool,
) -> None:
    """Write some clips of the store SOURCE as the store OUT.

    Reads a finished store and a clip table (--data, with --split and --label) or a list of ids
    (--ids). Writes OUT (.zarr or .h5) in the order of the source. May be interrupted: the same
    command goes on from there.

    \b
    Example:
      east store subset pools.zarr test.zarr --data chorales --split test
    """
    if (data is None) == (ids is None) or (ids is not None and (split or label)):
        raise click.UsageError("Name the clips by --data (with --split, --label), or by --ids.")
    from pipeline.datasets.resolve import load
    from pipeline.stores.making.subset import choose_ids, read_ids, subset_store

    wanted = choose_ids(load(data)[0], split, label) if data else read_ids(ids or out)
    with listening() as listener:
        meta = subset_store(source, out, wanted, allow_missing=allow_missing, listener=listener)
    show(f"store: {out}\ncontent digest: {meta.content_digest}")


@click.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--dtype", type=click.Choice(["float16", "float32"]), help="Stored type.  [default: as it is]")
@click.option(
    "--codec",
    default="none",
    show_default=True,
    help="none, zstd[:LEVEL] (.zarr), gzip[:LEVEL] (.h5), or bitround:N, which keeps N bits of the mantissa and then "
    "compresses. What is compressed is smaller, but read more slowly: it cannot be mapped.",
)
@click.option("--chunk-clips", type=click.IntRange(1), help="Clips that one random read touches.")
@click.option("--shard-clips", type=click.IntRange(1), help="Clips per shard, a multiple of those per chunk.")
def convert(source: str, out: Path, **options: object) -> None:
    """Write the store SOURCE anew as OUT: another format, type, chunking or compression.

    Reads a finished store. Writes OUT (a .zarr folder or an .h5 file, by its suffix). Values are
    equal to the bit unless --dtype is smaller or --codec rounds; the largest error and the smallest
    cosine similarity of a frame are then printed and recorded. May be interrupted: the same command
    goes on from there.

    \b
    Example:
      east store convert pools.zarr pools.h5
      east store convert pools.zarr small.zarr --dtype float16
      east store convert pools.zarr archive.zarr --codec bitround:7
    """
    from pipeline.stores.making.convert import convert_store

    with listening() as listener:
        meta, error = convert_store(source, out, listener=listener, **options)  # type: ignore[arg-type]
    show(f"{error.text()}\nstore: {out}\ncontent digest: {meta.content_digest}")


@click.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--how", required=True, help="mean, max, min or std over time; several side by side: mean-std.")
@click.option(
    "--hop",
    "hop_s",
    type=click.FloatRange(0),
    default=0.0,
    help="Seconds, a multiple of the store's hop.  [default: one frame per clip]",
)
@click.option("--dtype", type=click.Choice(["float16", "float32"]), help="Stored type.  [default: as it is]")
def pool(source: str, out: Path, **options: object) -> None:
    """Write the frames of the store SOURCE, pooled over time, as the store OUT.

    Reads a finished store. Writes OUT (.zarr or .h5): one frame per clip, or frames every --hop
    seconds; statistics over valid frames, taken in float64, side by side on the channel axis. Its
    output is named OUTPUT-HOW and its fingerprint is another, so that it is never taken for the
    source; equal poolings of equal sources agree. May be interrupted: the same command goes on
    from there.

    \b
    Example:
      east store pool frames.zarr data/chorales/stores/panns/frames-mean-std.zarr --how mean-std
      east store pool frames.zarr coarse.zarr --how mean --hop 0.96
    """
    from pipeline.stores.making.pool import pool_store

    with listening() as listener:
        meta = pool_store(source, out, listener=listener, **options)  # type: ignore[arg-type]
    shape = f"{meta.frames:,} frames x {meta.channels:,} channels"
    show(f"{meta.name}: {shape} per clip\nstore: {out}\ncontent digest: {meta.content_digest}")


COMMANDS: tuple[click.Command, ...] = (merge, subset, convert, pool)
