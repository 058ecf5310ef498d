"""Which cells of a recipe are runs already."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline import layout, registry
from pipeline.datasets.resolve import list_made
from pipeline.distillation.settings import NO_TEACHER, ProbeSettings, TrainSettings
from pipeline.errors import EastError, SettingError
from pipeline.evaluation.runs import Run, list_runs
from pipeline.experiments.recipe import Cell, Recipe
from pipeline.manifest import read_table
from pipeline.stores import open_store


def complete_runs(data: str) -> list[Run]:
    """Complete runs of a dataset whose clip table and stores are still those they were made from."""
    runs, _ = list_runs(layout.runs_dir(data))
    table = layout.table_path(data)
    if not runs or not table.is_file():
        return []
    digest, contents = read_table(table).digest(), _store_contents(data)
    return [run for run in runs if run.dataset.digest == digest and _same_stores(run, contents)]


def below_home(recipe: Recipe) -> Recipe:
    """The recipe by the name of its dataset, under which runs, tables and sweeps are kept.

    Raises:
        SettingError: it names a file or folder that is no dataset of the home folder.
    """
    path = Path(recipe.data)
    if path.name == recipe.data and path.suffix.lower() not in (".parquet", ".csv"):
        return recipe
    own = layout.table_path(path.parent.name if path.is_file() else path.resolve().name)
    if own.is_file() and (own.samefile(path) or _is_of(own, path)):
        return replace(recipe, data=own.parent.name)
    raise SettingError(
        f"--data {recipe.data} is not a dataset of {layout.home()}, whose name the runs of a recipe are kept and found "
        f"under. Make it one with `east data from {recipe.data}`, then give its name; there are: "
        f"{', '.join(list_made()) or 'none'}."
    )


def _is_of(table: Path, path: Path) -> bool:
    """Whether a folder holds the dataset's table, or the audio that it was made of."""
    return path.is_dir() and (table.parent.samefile(path) or Path(read_table(table).root).resolve() == path.resolve())


def is_there(cell: Cell, runs: Sequence[Run]) -> bool:
    """Whether one of the runs has exactly this cell's settings."""
    return find_run(cell, runs) is not None


def find_run(cell: Cell, runs: Sequence[Run]) -> Run | None:
    """The first run that has exactly this cell's settings; settings that are newer than a run count as default.

    Stores that the cell names by path must be those that the run read, not others of the same name.
    """
    usual = _as_json(type(cell.settings)(data=cell.settings.data))
    wanted, asked = usual | _as_json(cell.settings), _asked_stores(cell.settings)
    contents = [_content_of(path) for path in _asked_paths(cell.settings)]
    for run in runs:
        found = usual | dict(run.config)
        same = all(_equal(found.get(key), wanted.get(key)) for key in {*wanted, *found} - {"teacher", "store"})
        if run.kind == cell.row.kind and same and _reads(run, asked) and _knows(run, contents):
            return run
    return None


def _as_json(settings: TrainSettings | ProbeSettings) -> dict[str, object]:
    """All that decides the outcome; what identifies no run may be absent from it."""
    values: dict[str, object] = json.loads(json.dumps(settings.config()))
    return values


def _equal(found: object, wanted: object) -> bool:
    """Equal values; in a table, what a run from before a setting existed does not say is no difference."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        return all(found.get(key, value) == value for key, value in wanted.items())
    return found == wanted


def _asked_stores(settings: TrainSettings | ProbeSettings) -> tuple[str, ...] | None:
    """Names of the teacher stores that a cell asks for (``musicnn``, ``musicnn/pools``); None: the only one there."""
    if isinstance(settings, TrainSettings) and not settings.loss_settings().needs_teacher:
        return ()
    if settings.store:
        return tuple(_name_of(path) for path in settings.store)
    return tuple(_store_name(name) for name in settings.teacher if name != NO_TEACHER) or None


def _asked_paths(settings: TrainSettings | ProbeSettings) -> tuple[str, ...]:
    """Paths and addresses of all stores that a cell names so and reads."""
    if not isinstance(settings, TrainSettings):
        return settings.store
    stores = settings.store if settings.loss_settings().needs_teacher else ()
    return (*stores, settings.mel) if settings.mel else stores


def _store_name(name: str) -> str:
    """``openl3:hop=0.96`` is kept as ``openl3-hop0.96``."""
    request, outputs = registry.split_request(name)
    return "/".join(filter(None, [registry.folder_name(request), "+".join(outputs)]))


def _reads(run: Run, asked: tuple[str, ...] | None) -> bool:
    read = [str(name) for name in run.config.get("teacher", [])]
    if asked is None:
        return len(read) == 1
    return len(asked) == len(read) and all(
        name == one or one.startswith(f"{name}/") for name, one in zip(asked, read, strict=True)
    )


def _name_of(path: str) -> str:
    """Extractor and output of a store; one that cannot be opened is nobody's."""
    try:
        with open_store(path) as store:
            return store.meta.name
    except EastError:
        return path


_Content = tuple[str, str, str, str]


def _content_of(path: str) -> _Content | None:
    """What tells a store from others of its name; None where it cannot be opened."""
    try:
        with open_store(path) as store:
            return store.meta.extractor, store.meta.output, store.meta.fingerprint, store.meta.content_digest
    except EastError:
        return None


def _knows(run: Run, contents: Sequence[_Content | None]) -> bool:
    """Whether the run read all of these stores."""
    keys = ("extractor", "output", "fingerprint", "content_digest")
    read = {tuple(str(store.get(key, "")) for key in keys) for store in run.stores}
    return all(content in read for content in contents)


def _store_contents(data: str) -> Mapping[tuple[str, str], str]:
    found = {}
    for path in layout.list_stores(data):
        try:
            store = open_store(path)
        except EastError:
            continue
        found[store.meta.extractor, store.meta.output] = str(store.meta.content_digest)
        store.close()
    return found


def _same_stores(run: Run, contents: Mapping[tuple[str, str], str]) -> bool:
    """Stores that lie elsewhere cannot be looked up here; training itself checks them."""
    for store in run.stores:
        key = str(store.get("extractor")), str(store.get("output"))
        if key in contents and contents[key] != store.get("content_digest"):
            return False
    return True
