"""From what the user names to a clip table: a table, a dataset by name, or a folder of audio."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pipeline import layout, registry
from pipeline.cards import DatasetCard
from pipeline.datasets.own import name_of, table_from
from pipeline.datasets.scan import fingerprint
from pipeline.errors import ManifestError, SettingError, UnknownNameError
from pipeline.events import Listener, Note, ignore
from pipeline.manifest import ClipTable, read_table, require_valid, write_table

__all__ = ["build_dataset", "list_made", "load", "make_own", "resolve"]

NONE: Mapping[str, str] = MappingProxyType({})


def resolve(data: str, *, listener: Listener = ignore) -> tuple[ClipTable, Path]:
    """The clip table that ``data`` names, and the file it is in; made first where that is possible.

    Tried in this order: a ``.parquet`` or ``.csv`` file; a dataset with a card (built if it can be
    and is not there); a folder of audio (its table is made, and made again when files came or
    went); a dataset whose table is already under the home folder.

    Raises:
        UnknownNameError: none of these.
        ManifestError: a table or folder that cannot be used.
    """
    path = Path(data)
    if path.suffix.lower() in (".parquet", ".csv"):
        return _from_file(path, listener)
    cards = registry.datasets()
    if data in cards:
        return _from_card(cards[data], listener)
    if path.is_dir():
        inside = path / layout.table_path("x").name
        return (read_table(inside), inside) if inside.is_file() else _from_source(path, listener)
    if _is_name(data) and layout.table_path(data).is_file():
        return read_table(layout.table_path(data)), layout.table_path(data)
    if len(path.parts) > 1:
        raise ManifestError(f"There is nothing at {data}. Give a folder of audio, a clip table, or a dataset's name.")
    raise UnknownNameError("dataset, folder or clip table", data, {*cards, *list_made()})


def load(data: str) -> tuple[ClipTable, Path]:
    """A clip table that is there: a file, or a dataset by name. Nothing is made.

    Raises:
        ManifestError: no such table; the message says how to make it.
    """
    path = Path(data)
    if path.suffix.lower() not in (".parquet", ".csv"):
        made = layout.table_path(data)
        card = registry.datasets().get(data)
        if card is not None and not card.can_build and not made.is_file():
            raise ManifestError(_to_get(card))
        path = path / made.name if path.is_dir() and not (_is_name(data) and made.is_file()) else made
        if _is_name(data) and not path.is_file():
            raise ManifestError(_nothing_made(data, path))
    return read_table(path), path


def _nothing_made(name: str, path: Path) -> str:
    if name in registry.datasets():
        return f"There is no clip table at {path}. Make it with: east data build {name}"
    near = difflib.get_close_matches(name, [*registry.datasets(), *list_made()], n=1)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    return f"There is no clip table at {path}.{meant} Make one with: east data from FOLDER --name {name}"


def build_dataset(
    name: str,
    *,
    folder: Path | None = None,
    options: Mapping[str, str] = NONE,
    listener: Listener = ignore,
    **rendering: object,
) -> tuple[ClipTable, Path]:
    """Make the table of a dataset that has a card, and its audio where the project can.

    Args:
        folder: where the user has the dataset, for those that are not made here.
        options: values for the card's options, as texts.
        rendering: of a dataset made here, such as ``clips``, ``seed``, ``n_workers``; None is its default.

    Raises:
        UnknownNameError: no such card, or no such option.
        SettingError: a folder is needed, or is given where none is; a value that cannot be; rendering where
            nothing is rendered.
    """
    card = registry.find_dataset(name)
    values = registry.dataset_options(card, options)
    if card.can_build and folder is not None:
        raise SettingError(f"{name} is made here, below {layout.dataset_dir(name)}; leave the folder out.")
    if not card.can_build and folder is None:
        raise SettingError(_to_get(card))
    place = layout.dataset_dir(name) if folder is None else folder
    table = registry.builder(card)(card, place, listener=listener, **values, **_given(card, rendering))
    if not isinstance(table, ClipTable):
        raise TypeError(f"{card.builder} must return a ClipTable, not {type(table).__name__}")
    return _keep(table, layout.table_path(name), listener)


def make_own(source: Path, *, listener: Listener = ignore, **settings: object) -> tuple[ClipTable, Path]:
    """Clip table of the user's own audio, kept under the home folder; ``settings`` as :func:`table_from`.

    Raises:
        ManifestError: the name is taken by other audio.
    """
    name = name_of(source, str(settings.get("name", "")))
    if name in registry.datasets():
        raise ManifestError(f"{name!r} is the name of a dataset of this project. Give another one with --name.")
    table = table_from(source, listener=listener, **settings)  # type: ignore[arg-type]
    path = layout.table_path(table.name)
    if path.is_file():
        _require_same_place(read_table(path), table.root, path)
    return _keep(table, path, listener)


def list_made() -> list[str]:
    """Names of the datasets whose table is under the home folder."""
    return sorted(path.parent.name for path in layout.home().glob(f"*/{layout.table_path('x').name}"))


def _given(card: DatasetCard, rendering: Mapping[str, object]) -> dict[str, object]:
    """What is not None; there is such a thing only where audio is rendered."""
    given = {key: value for key, value in rendering.items() if value is not None}
    if given and not card.can_build:
        options = ", ".join("--" + key.removeprefix("n_") for key in given)
        raise SettingError(f"{card.name} is not rendered here, so that {options} says nothing to it; leave it out.")
    return given


def _from_file(path: Path, listener: Listener) -> tuple[ClipTable, Path]:
    if path.suffix.lower() == ".csv" and path.is_file() and not _is_clip_csv(path):
        return _from_source(path, listener)
    return read_table(path), path


def _from_card(card: DatasetCard, listener: Listener) -> tuple[ClipTable, Path]:
    path = layout.table_path(card.name)
    if path.is_file():
        return read_table(path), path
    if not card.can_build:
        raise ManifestError(_to_get(card))
    listener(Note(f"{card.name} is not there yet; it is made now, below {path.parent}"))
    return build_dataset(card.name, listener=listener)


def _from_source(source: Path, listener: Listener) -> tuple[ClipTable, Path]:
    """The table made of this folder or CSV before, or again with its settings if files came or went."""
    path = layout.table_path(name_of(source))
    if not path.is_file():
        return make_own(source, listener=listener)
    table = read_table(path)
    made = dict(table.card.get("made", {}))
    digest, _ = made.pop("files", ""), made.pop("source", "")
    if not made or not digest:
        raise ManifestError(
            f"{path} is a table of something else than {source}. Use: east data from {source} --name NAME"
        )
    if source.is_dir():
        _require_same_place(table, str(source), path)
    if fingerprint(source) == digest:
        return table, path
    listener(Note(f"The files of {source} have changed since {path} was made; it is made again."))
    return make_own(source, listener=listener, **made)


def _require_same_place(table: ClipTable, root: str, path: Path) -> None:
    if Path(table.root).resolve() != Path(root).resolve():
        raise ManifestError(
            f"{path} is there already, for the audio in {table.root}, not {root}. "
            f"Give this one another name: east data from {root} --name NAME"
        )


def _keep(table: ClipTable, path: Path, listener: Listener) -> tuple[ClipTable, Path]:
    require_valid(table)
    write_table(table, path)
    listener(Note(f"{path}: clip table of {len(table):,} clips"))
    return read_table(path), path


def _to_get(card: DatasetCard) -> str:
    sums = "".join(f"; {name}: {digest}" for name, digest in card.checksums.items())
    return (
        f"{card.name} cannot be fetched by this program. Get it from {card.source} (licence: {card.licence}{sums}), "
        f"then: east data build {card.name} --folder FOLDER"
    )


def _is_clip_csv(path: Path) -> bool:
    with path.open("rb") as handle:
        header = handle.readline(1 << 24).decode("utf-8", "replace")
    return "duration_s" in header and "clip_id" in header


def _is_name(data: str) -> bool:
    return bool(data) and Path(data).name == data
