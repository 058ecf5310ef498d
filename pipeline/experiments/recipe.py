"""Recipes: strict TOML files of settings, turned into rows and cells before anything runs.

A recipe of one row has its settings at the top of the file::

    format = 1
    title = "EAsT-Final, PaSST"
    data = "openmic"
    seeds = [1223]
    loss = "east-final"
    teacher = ["passt"]

One of several rows has tables ``row``, each with a ``title``, and settings for all of them in a
table ``common`` or at the top.  ``kind`` is ``student`` (the default) or ``probe``; settings are
those of ``TrainSettings`` or ``ProbeSettings``, and common ones that a probe does not know are not
given to it.  ``labelled = "all"`` keeps every label, ``extends = "base.toml"`` takes over another
file.  A recipe of one row may also say ``seed``, ``name`` and ``group``, as every run's own
``recipe.toml`` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pipeline.distillation.losses.settings import find_loss
from pipeline.distillation.settings import ProbeSettings, TrainSettings
from pipeline.errors import SettingError, UnknownNameError
from pipeline.experiments.checking import (
    GIVEN,
    SETTINGS,
    Kind,
    all_settings,
    known_settings,
    merged,
    parse_changes,
    require_known,
    require_seeds,
)
from pipeline.experiments.recipefiles import META, Source, expand, find, read, recipes, table

FORMAT_VERSION = 1
__all__ = [
    "FORMAT_VERSION", "Cell", "Recipe", "Row", "cells_of", "expand", "load_recipe", "plan", "probe_settings",
    "recipes", "student_settings",
]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table that an experiment fills; ``settings`` have the common ones in them."""

    title: str
    kind: Kind
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Rows and seeds over one dataset."""

    name: str
    title: str
    data: str
    seeds: tuple[int, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Cell:
    """One run to be made: a row at a seed, its settings checked."""

    row: Row
    settings: TrainSettings | ProbeSettings

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.row.title}, seed {self.settings.seed}"

    @property
    def identity(self) -> dict[str, Any]:
        """What tells its run from those of other cells: stores of equal names may lie in different places."""
        found = self.settings.config() | {"kind": self.row.kind, "store": list(self.settings.store)}
        return found | ({"mel": self.settings.mel} if isinstance(self.settings, TrainSettings) else {})

    @property
    def steps(self) -> int:
        """Optimiser steps; a probe counts as a few."""
        return self.settings.steps if isinstance(self.settings, TrainSettings) else 20


def load_recipe(name: str, *, data: str = "", losses: Sequence[str] = (), changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe by the name of one of ours, or by the path of a TOML file.

    Args:
        data: dataset instead of the recipe's.
        losses: rows instead of the recipe's students with a teacher; ``+NAME`` adds one.
        changes: ``key=value`` for all rows, values as in TOML (quotes may be left out);
            ``seeds=1,2`` changes the seeds.

    Raises:
        SettingError: not a recipe; unknown keys name the nearest.
    """
    path = find(name)
    try:
        return _checked(name, read(path), data, losses, changes)
    except SettingError as error:
        if str(path) not in str(error):
            error.add_note(f"in recipe '{path}'")
        raise


def _checked(name: str, source: Source, data: str, losses: Sequence[str], changes: Sequence[str]) -> Recipe:
    meta = source.meta
    if meta.get("format") != FORMAT_VERSION:
        found = f"format {meta['format']!r}" if "format" in meta else "no format"
        raise SettingError(
            f"Recipe {name!r} has {found}; this program reads {FORMAT_VERSION}. "
            f"At the top of the file there must be: format = {FORMAT_VERSION}"
        )
    changed = parse_changes(changes)
    seeds = require_seeds(changed.pop("seeds") if "seeds" in changed else _seeds(source))
    require_known(changed, all_settings(), "setting")
    require_known(source.common, all_settings(), "setting")
    rows = _rows(source, changed, losses)
    titles = [row.title for row in rows]
    if not rows or len(set(titles)) != len(titles):
        raise SettingError(f"Recipe {name!r} must have rows with different titles, found {titles}.")
    where = data or str(meta.get("data", ""))
    if not where:
        raise SettingError(f"Recipe {name!r} names no dataset. Say which with --data NAME.")
    return Recipe(source.path.stem, str(meta.get("title", name)), where, seeds, tuple(rows))


def plan(recipe: Recipe) -> tuple[Cell, ...]:
    """All cells, seed by seed, so that whole tables come early.

    Raises:
        SettingError: settings that no run could be made with.
    """
    return tuple(_cells(recipe))


def cells_of(recipes: Sequence[Recipe]) -> tuple[Cell, ...]:
    """Cells of several recipes, which are the rows of one table: first seeds of all, then second ones.

    Raises:
        SettingError: rows of equal titles or equal settings, or of different datasets.
    """
    ranked = [(seeds.index(cell.settings.seed), cell) for one in recipes for seeds in [one.seeds] for cell in plan(one)]
    cells = tuple(cell for _, cell in sorted(ranked, key=lambda pair: pair[0]))
    if len({cell.settings.data for cell in cells}) > 1:
        names = ", ".join(sorted({cell.settings.data for cell in cells}))
        raise SettingError(f"A table is about one dataset, these recipes are about several: {names}. Use --data NAME.")
    seen: dict[str, Cell] = {}
    for cell in cells:
        for key, what in ((cell.label, "title"), (str(cell.identity), "settings")):
            other = seen.setdefault(key, cell)
            if other is not cell:
                raise SettingError(
                    f"Two rows have the same {what}: {other.row.title!r} and {cell.row.title!r}. Leave one of them out."
                )
    return cells


def student_settings(name: str, values: Mapping[str, Any], given: Collection[str]) -> TrainSettings:
    """Settings of one student: ``values``, or those of a recipe with the values ``given`` on top.

    Args:
        name: of a recipe, or its path; empty takes all ``values``.
        values: of all settings, as the command line has them.
        given: which of them the user gave.  Without ``seed`` the first of the recipe's seeds is
            taken, and ``group`` chooses among several rows.

    Raises:
        SettingError: several rows and none chosen, or a row of the other kind.
    """
    with _naming(name):
        return TrainSettings(**(_one_run(name, "student", values, given) if name else values))


def probe_settings(name: str, values: Mapping[str, Any], given: Collection[str]) -> ProbeSettings:
    """As :func:`student_settings`, of a probe."""
    with _naming(name):
        return ProbeSettings(**(_one_run(name, "probe", values, given) if name else values))


@contextmanager
def _naming(recipe: str) -> Iterator[None]:
    """An error in the settings says which recipe they come from, options on top."""
    try:
        yield
    except SettingError as error:
        if recipe and recipe not in f"{error} {getattr(error, '__notes__', '')}":
            error.add_note(f"in recipe '{recipe}', with the options given")
        raise


def _one_run(name: str, kind: str, values: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
    own = {key: values[key] for key in given if key in values}
    recipe, group = load_recipe(name, data=str(own.get("data", ""))), str(own.get("group", ""))
    rows = [row for row in recipe.rows if len(recipe.rows) == 1 or row.title == group]
    if not rows:
        titles = ", ".join(repr(row.title) for row in recipe.rows)
        raise SettingError(
            f"Recipe {name!r} has {len(recipe.rows)} rows: choose one with --group, of {titles}; "
            f"or make them all with: east experiment {name}"
        )
    if rows[0].kind != kind:
        verb = {"student": "train", "probe": "probe"}[rows[0].kind]
        raise SettingError(f"Recipe {name!r} is of a {rows[0].kind}. Use: east {verb} --recipe {name}")
    usual = {"group": rows[0].title, "data": recipe.data, "seed": recipe.seeds[0]}
    return usual | dict(rows[0].settings) | own


def _cells(recipe: Recipe) -> Iterator[Cell]:
    for seed in recipe.seeds:
        for row in recipe.rows:
            values = dict(row.settings) | {"data": recipe.data, "seed": seed, "group": row.title}
            try:
                yield Cell(row, SETTINGS[row.kind](**values))
            except SettingError as error:
                error.add_note(f"in row {row.title!r} of recipe {recipe.name!r}")
                raise


def _seeds(source: Source) -> Any:
    if "seed" not in source.own:
        if "seeds" not in source.meta:
            raise SettingError(f"Recipe '{source.path}' names no seeds. Write seeds = [1, 2, 3], or seed = 1.")
        return source.meta["seeds"]
    if "seeds" in source.meta:
        raise SettingError(f"Recipe '{source.path}' says both seed and seeds. Keep one of them.")
    return [source.own["seed"]]


def _rows(source: Source, changed: Mapping[str, Any], losses: Sequence[str]) -> list[Row]:
    if source.rows:
        keys = ("extends", *META, "common", "row")
        require_known(source.own, (*keys, *all_settings()), "recipe key")
        common = source.common | source.own
        rows = [_row(table(row, "row"), common, changed) for row in source.rows]
        return _with_losses(rows, losses, common, changed)
    rows = [_only_row(source, changed)]
    return _with_losses(rows, losses, source.common | source.own, changed) if losses else rows


def _only_row(source: Source, changed: Mapping[str, Any]) -> Row:
    """The row of a recipe whose settings stand at the top."""
    kind = _require_kind(source.meta.get("kind", "student"))
    settings = {key: value for key, value in source.own.items() if key not in GIVEN}
    require_known(source.own, ("extends", *META, "common", "row", *GIVEN, *known_settings(kind)), "recipe key")
    title = source.meta.get("title") or source.own.get("group") or source.path.stem
    found = merged(kind, source.common, settings, changed)
    return Row(_require_title(title, settings), kind, found | _of_one_run(source.own))


def _of_one_run(own: Mapping[str, Any]) -> dict[str, str]:
    found = {key: own[key] for key in ("name", "group") if key in own}
    for key, value in found.items():
        if not isinstance(value, str):
            raise SettingError(f"{key} must be text in quotes, found {value!r}.")
    return found


def _row(values: dict[str, Any], common: Mapping[str, Any], changed: Mapping[str, Any]) -> Row:
    title, kind = values.pop("title", None), _require_kind(values.pop("kind", "student"))
    require_known(values, known_settings(kind), f"setting of a {kind}")
    return Row(_require_title(title, values), kind, merged(kind, common, values, changed))


def _require_kind(kind: Any) -> Kind:
    if kind not in ("student", "probe"):
        raise UnknownNameError("kind of row", str(kind), SETTINGS)
    return "probe" if kind == "probe" else "student"


def _require_title(title: Any, values: Mapping[str, Any]) -> str:
    if title is not None and not isinstance(title, str):
        raise SettingError(f"A row's title must be text in quotes, found {title!r}.")
    if not title or not title.strip():
        raise SettingError(f"Every row of a recipe needs a title; the row with {dict(values)} has none.")
    return title


def _with_losses(
    rows: list[Row], losses: Sequence[str], common: Mapping[str, Any], changed: Mapping[str, Any]
) -> list[Row]:
    names = [loss.strip() for text in losses for loss in text.split(",") if loss.strip()]
    if any(not name.startswith("+") for name in names):
        rows = [row for row in rows if row.kind == "probe" or row.settings.get("loss") == "labels"]
    for name in names:
        loss = find_loss(name.removeprefix("+"))
        if all(row.settings.get("loss") != loss.name for row in rows):
            rows = [*rows, _row({"title": loss.name, "loss": loss.name}, common, changed)]
    return rows
