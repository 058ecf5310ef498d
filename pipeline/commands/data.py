"""``east data``: make, check and look at clip tables."""

from __future__ import annotations

from pathlib import Path

import click

from pipeline.commands.console import listening, show, show_table
from pipeline.errors import ManifestError, SettingError


@click.group()
def data() -> None:
    """Make, check and show clip tables: which clips, labels and splits there are."""


@data.command()
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path), help="Where you have the dataset, if it is not made here.")
@click.option(
    "--set",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the dataset, as often as needed; an unknown KEY lists them.",
)
@click.option("--clips", help="Clips of each split, such as train=4000,unlabelled=8000.  [default: the dataset's]")
@click.option("--seed", type=int, help="Decides what is played in which clip.  [default: the dataset's]")
@click.option("--workers", type=click.IntRange(min=0), help="Processes that render; 0 takes all cores.  [default: 0]")
def build(
    name: str,
    *,
    folder: Path | None,
    options: tuple[str, ...],
    clips: str | None,
    seed: int | None,
    workers: int | None,
) -> None:
    """Make the dataset NAME and its clip table.

    Fetches what the dataset's card names, verified by SHA-256, or reads FOLDER. Writes
    data/NAME/clips.parquet, and for datasets made here data/NAME/audio. An interrupted build goes
    on where it stopped, and one with more clips keeps those that are there. The home folder is
    data, or EAST_HOME.

    \b
    Example:
      east data build chorales
      east data build openmic --folder openmic-2018 --set valid=0.15 --set seed=1
      east data build scores --clips train=4000,valid=500,test=700,unlabelled=8000
    """
    from pipeline.datasets.resolve import build_dataset

    rendering = {"clips": None if clips is None else _counts(clips), "seed": seed, "n_workers": workers}
    with listening() as listener:
        _, path = build_dataset(name, folder=folder, options=_pairs(options), listener=listener, **rendering)
    show(str(path))


@data.command("from")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--clip-s", type=float, default=10.0, show_default=True, help="Length of a clip, in seconds.")
@click.option("--hop-s", type=float, help="From the start of a clip to the next, in seconds.  [default: --clip-s]")
@click.option(
    "--last",
    type=click.Choice(["pad", "drop"]),
    default="pad",
    show_default=True,
    help="Keep the rest at the end of a file as a shorter clip, or leave it out.",
)
@click.option("--name", default="", help="Name of the dataset.  [default: name of the folder or CSV]")
@click.option(
    "--split",
    default="train=0.8,valid=0.1,test=0.1",
    show_default=True,
    help="Share of the files in each split where SOURCE gives none; 'none' makes no splits.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Decides which files go to which split.")
@click.option("--licence", default="", help="Of the audio, such as CC-BY-4.0; stores and students carry it along.")
@click.option("--citation", default="", help="How to cite the audio.")
def from_(source: Path, *, split: str, **settings: object) -> None:
    """Make a clip table of your own audio in SOURCE.

    SOURCE is a folder per class, a folder without labels, a folder with train, valid and test
    inside, or a CSV with the column path and, if you have them, label or one column per class
    (1, 0 or empty for unknown), split, group, start and duration in seconds. Songs of any length
    become clips; splits keep groups (by default files) whole and classes in proportion.

    Reads the headers of the audio files. Writes data/NAME/clips.parquet; the audio stays where it is.

    \b
    Example:
      east data from ~/Music/genres --clip-s 10 --name genres
    """
    from pipeline.datasets.resolve import make_own

    with listening() as listener:
        _, path = make_own(source, split_ratios=_ratios(split), listener=listener, **settings)
    show(str(path))


@data.command()
@click.argument("labelled")
@click.argument("pools", nargs=-1, required=True)
@click.option("--name", required=True, help="Name of the new dataset.")
@click.option("--limit", type=click.IntRange(1), help="Clips taken of all POOLS, drawn at random.  [default: all]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Decides which clips are drawn.")
def join(labelled: str, pools: tuple[str, ...], *, name: str, limit: int | None, seed: int) -> None:
    """Add clips without labels to LABELLED: those of POOLS, which may be datasets, clip tables or folders.

    Students then learn from what teachers say on all of them. Clips of POOLS come into the split
    "unlabelled"; labels and splits that they have play no part. Files that are in LABELLED, too, are
    left out. A folder is cut into clips as long as those of LABELLED, in seconds.

    Writes data/NAME/clips.parquet; the audio stays where it is. What was extracted before is copied
    by `east extract --reuse`.

    \b
    Example:
      east data join openmic ~/music --name openmic-more --limit 50000
      east extract --data openmic-more --teacher musicnn --reuse data/openmic/stores
    """
    from pipeline.datasets.joining import join as join_datasets

    with listening() as listener:
        _, path = join_datasets(labelled, pools, name=name, limit=limit, seed=seed, listener=listener)
    show(str(path))


@data.command()
@click.argument("table")
@click.option("--audio", is_flag=True, help="Also look whether every file is there.")
def check(table: str, audio: bool) -> None:
    """Check TABLE: a clip table (.parquet, .csv) or a dataset's name.

    Names every kind of defect with its count and first examples: ids there twice, groups in two
    splits, labels or times that cannot be, paths that lead out, files that are absent. Writes
    nothing; exits with 1 if there is a defect.

    \b
    Example:
      east data check chorales --audio
    """
    from pipeline.datasets.resolve import load
    from pipeline.manifest import check_table

    clips, path = load(table)
    problems = check_table(clips, audio=audio)
    for problem in problems:
        show(f"{problem.kind}: {problem}")
    if problems:
        raise ManifestError(f"{path} has {len(problems)} kind(s) of defects, named above.")
    show(f"{path}: {len(clips):,} clips, no defects found{' and all files there' if audio else ''}")


@data.command("show")
@click.argument("table", required=False)
def show_(table: str | None) -> None:
    """Show the datasets, or the splits and classes of TABLE (a clip table or a dataset's name).

    Counts are clips; for classes, clips that have the class over clips where that is known.
    Writes nothing.

    \b
    Example:
      east data show chorales
    """
    from pipeline.datasets.overview import class_rows, dataset_rows, split_rows
    from pipeline.datasets.resolve import load

    if table is None:
        show_table("", ("dataset", "clips", "task", "what"), dataset_rows())
        return
    clips, path = load(table)
    show(f"{clips.name}: {path}, {clips.task}, clips of {clips.clip_s:g} s, digest {clips.digest()[:12]}")
    for key in ("licence", "source", "split_rule"):
        if clips.card.get(key):
            show(f"{key}: {clips.card[key]}")
    show_table("", ("split", "clips", "files", "groups", "hours"), split_rows(clips), numeric=(1, 2, 3, 4))
    if clips.classes:
        splits = clips.splits() or ("all",)
        show_table("", ("class", *splits), class_rows(clips), numeric=tuple(range(1, len(splits) + 1)))


@data.command()
@click.argument("table")
@click.argument("out", type=click.Path(path_type=Path))
def export(table: str, out: Path) -> None:
    """Write TABLE (a clip table or a dataset's name) as CSV to OUT, for spreadsheets and scripts.

    Times are seconds; class columns hold 1, 0 or nothing (unknown). What CSV cannot hold is written
    beside it, to OUT.json. Both are replaced if they are there. The CSV can be given wherever a
    clip table can.

    \b
    Example:
      east data export chorales clips.csv
    """
    from pipeline.datasets.resolve import load
    from pipeline.manifest import write_csv

    clips, _ = load(table)
    write_csv(clips, out)
    show(f"{out}: {len(clips):,} clips, {len(clips.classes)} classes")


def _pairs(options: tuple[str, ...]) -> dict[str, str]:
    pairs = [option.partition("=") for option in options]
    if bad := next((option for option, (_, sign, _) in zip(options, pairs, strict=True) if not sign), ""):
        raise SettingError(f"--set is {bad!r}; it is written like --set seed=1.")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _ratios(text: str) -> dict[str, float] | None:
    if text == "none":
        return None
    try:
        return {name.strip(): float(share) for name, share in (item.split("=") for item in text.split(","))}
    except ValueError:
        raise SettingError(f"--split is {text!r}; it is written like train=0.8,valid=0.1,test=0.1, or none.") from None


def _counts(text: str) -> dict[str, int]:
    try:
        return {name.strip(): int(count) for name, count in (item.split("=") for item in text.split(","))}
    except ValueError:
        raise SettingError(
            f"--clips is {text!r}; it is written like train=4000,valid=500,test=700, in whole clips."
        ) from None
