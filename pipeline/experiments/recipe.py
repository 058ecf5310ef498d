"""Recipes: strict TOML tables of settings, turned into rows and cells before anything runs.

A recipe has ``title``, ``data``, ``seeds``, a table ``common`` and tables ``row``.  A row has a
``title``, a ``kind`` (``student``, the default, or ``probe``) and settings that replace the common
ones: those of ``TrainSettings`` or ``ProbeSettings``, except ``data``, ``seed``, ``name`` and
``group``, which the recipe gives.  Common settings that a probe does not know are not given to it.
``labelled = "all"`` keeps every label.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pipeline.distillation.losses.settings import find_loss
from pipeline.distillation.settings import ProbeSettings, TrainSettings
from pipeline.errors import SettingError, UnknownNameError

FORMAT_VERSION = 1
Kind = Literal["student", "probe"]
_GIVEN = frozenset({"data", "seed", "name", "group"})
_SETTINGS: dict[str, type[TrainSettings] | type[ProbeSettings]] = {"student": TrainSettings, "probe": ProbeSettings}
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "tuple[str, ...]": (list, tuple),
}


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
    values = _read(name)
    _only(values, ("format", "title", "data", "seeds", "common", "row"), "recipe key")
    if values.get("format") != FORMAT_VERSION:
        raise SettingError(f"Recipe {name!r} has format {values.get('format')!r}; this program reads {FORMAT_VERSION}.")
    seeds, common = _seeds(values.get("seeds")), _table(values.get("common", {}), "common")
    changed = dict(_parse_change(change) for change in changes)
    seeds = _seeds(changed.pop("seeds", seeds))
    _check_common(common)
    _check_common(changed)
    rows = [_row(_table(row, "row"), common, changed) for row in values.get("row", [])]
    rows = _with_losses(rows, losses, common, changed)
    titles = [row.title for row in rows]
    if not rows or len(set(titles)) != len(titles):
        raise SettingError(f"Recipe {name!r} must have rows with different titles, found {titles}.")
    where = data or str(values.get("data", ""))
    if not where:
        raise SettingError(f"Recipe {name!r} names no dataset. Say which with --data NAME.")
    return Recipe(Path(name).stem, str(values.get("title", name)), where, seeds, tuple(rows))


def plan(recipe: Recipe) -> tuple[Cell, ...]:
    """All cells, seed by seed, so that whole tables come early.

    Raises:
        SettingError: settings that no run could be made with.
    """
    return tuple(_cells(recipe))


def recipes() -> tuple[str, ...]:
    """Names of our own recipes."""
    folder = files("pipeline.experiments").joinpath("recipes")
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def _cells(recipe: Recipe) -> Iterator[Cell]:
    for seed in recipe.seeds:
        for row in recipe.rows:
            values = dict(row.settings) | {"data": recipe.data, "seed": seed, "group": row.title}
            try:
                yield Cell(row, _SETTINGS[row.kind](**values))
            except SettingError as error:
                error.add_note(f"in row {row.title!r} of recipe {recipe.name!r}")
                raise


def _read(name: str) -> dict[str, Any]:
    if name in recipes():
        text = files("pipeline.experiments").joinpath("recipes", f"{name}.toml").read_text(encoding="utf-8")
    elif Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    else:
        raise UnknownNameError("recipe (nor a file)", name, recipes())
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"Recipe {name!r} is not TOML: {error}.") from error


def _row(values: dict[str, Any], common: Mapping[str, Any], changed: Mapping[str, Any]) -> Row:
    title, kind = values.pop("title", None), values.pop("kind", "student")
    if not isinstance(title, str) or not title.strip():
        raise SettingError(f"Every row of a recipe needs a title; the row with {values} has none.")
    if kind not in _SETTINGS:
        raise UnknownNameError("kind of row", str(kind), _SETTINGS)
    known = _known(kind)
    _only(values, known, f"setting of a {kind}")
    merged = {key: value for key, value in common.items() if key in known} | values
    merged |= {key: value for key, value in changed.items() if key in known}
    return Row(title, kind, {key: _checked(kind, key, value) for key, value in merged.items()})


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


def _known(kind: str) -> tuple[str, ...]:
    return tuple(field.name for field in fields(_SETTINGS[kind]) if field.name not in _GIVEN)


def _check_common(values: Mapping[str, Any]) -> None:
    _only(values, {*_known("student"), *_known("probe")}, "setting")


def _checked(kind: str, key: str, value: Any) -> Any:
    """A value of the type that the setting has; ``"all"`` labels become None."""
    if key == "labelled" and value == "all":
        return None
    declared = next(str(field.type) for field in fields(_SETTINGS[kind]) if field.name == key)
    types = _TYPES.get(declared.removesuffix(" | None"), (object,))
    right = isinstance(value, types) and (bool in types or not isinstance(value, bool))
    if not right or (isinstance(value, (list, tuple)) and not all(isinstance(entry, str) for entry in value)):
        raise SettingError(f"{key} must be {declared}, found {value!r}.")
    return tuple(value) if isinstance(value, list) else value


def _parse_change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip().replace("-", "_")
    if not equals or not key:
        raise SettingError(f"--set {text!r} is not KEY=VALUE, such as --set steps=2000.")
    listed = value if value.strip().startswith("[") else f"[{value}]"
    for written in (listed,) if key == "seeds" else (value,):
        try:
            return key, tomllib.loads(f"x = {written}")["x"]
        except tomllib.TOMLDecodeError:
            continue
    return key, value.split(",") if key in ("teacher", "store") else value


def _seeds(values: Any) -> tuple[int, ...]:
    good = isinstance(values, (list, tuple)) and values
    if not good or not all(type(seed) is int and seed >= 0 for seed in values) or len(set(values)) != len(values):
        raise SettingError(f"seeds must be different whole numbers of at least 0, such as [1, 2, 3]; found {values!r}.")
    return tuple(values)


def _table(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SettingError(f"{name!r} must be a table in a recipe, found {value!r}.")
    return dict(value)


def _only(values: Mapping[str, Any], known: Sequence[str] | set[str], kind: str) -> None:
    for key in values:
        if key not in known:
            raise UnknownNameError(kind, key, known)
