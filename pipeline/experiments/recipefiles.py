"""Recipe files: where they are found, folders of them, and what one takes over from another.

A recipe may say ``extends = "base.toml"``, a path relative to its own file: it then has all that the
other says, and its own values win.  A folder of recipes is one table; files in it named ``base`` or
``base-SOMETHING`` are there to be extended and are no rows of it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import SettingError, UnknownNameError

SUFFIX = ".toml"
META = ("format", "title", "data", "seeds", "kind")
_HOME = Path(__file__).parent / "recipes"
_DEEPEST = 8


@dataclass(frozen=True)
class Source:
    """What a recipe's file and those it extends say.

    Attributes:
        path: of the file itself.
        meta: keys about the recipe as a whole.
        own: settings at the top of the file itself.
        common: settings of its table ``common``, and all settings of the files it extends.
        rows: its tables ``row``; those of the file it extends where it has none.
    """

    path: Path
    meta: dict[str, Any] = field(default_factory=dict)
    own: dict[str, Any] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)
    rows: list[Any] = field(default_factory=list)


def recipes() -> tuple[str, ...]:
    """Names of our own recipes: ``demo``, ``openmic/baseline``."""
    return tuple(path.relative_to(_HOME).with_suffix("").as_posix() for path in _below(_HOME))


def tables() -> tuple[str, ...]:
    """Names of our own folders of recipes: ``openmic``."""
    return tuple(dict.fromkeys(name.rpartition("/")[0] for name in recipes() if "/" in name))


def expand(names: Sequence[str]) -> list[str]:
    """Recipes by name or path, folders of them (ours or the user's) taken apart, each once.

    Raises:
        SettingError: a folder without recipes.
        UnknownNameError: nothing of that name.
    """
    found: dict[str, None] = {}
    for name in names:
        folder = _HOME / name if name.strip("/") in tables() else Path(name)
        if name in recipes() or not folder.is_dir():
            found[str(find(name))] = None
            continue
        below = _below(folder)
        if not below:
            raise SettingError(f"There is no recipe (*{SUFFIX}) in {folder}.")
        found |= {str(path): None for path in below}
    return list(found)


def find(name: str) -> Path:
    """The file of a recipe by the name of one of ours, or by its path.

    Raises:
        SettingError: no such file.
        UnknownNameError: neither name nor path; of our names, those of the same folder are listed.
    """
    if name in recipes():
        return _HOME / f"{name}{SUFFIX}"
    if Path(name).is_file():
        return Path(name)
    if name.endswith(SUFFIX):
        raise SettingError(f"There is no recipe at {name!r}: no such file. Ours go by names without {SUFFIX}.")
    folder = name.rpartition("/")[0]
    near = [known for known in recipes() if known.rpartition("/")[0] == (folder if folder in tables() else "")]
    raise UnknownNameError("recipe (nor a file)", name, near if folder in tables() else (*near, *tables()))


def read(path: Path, _above: tuple[Path, ...] = ()) -> Source:
    """A recipe's file with all that it extends; values are not checked yet.

    Raises:
        SettingError: not TOML, a file to extend that is not there, or files that extend each other.
    """
    values = _parse(path)
    extended, rows = values.pop("extends", None), values.pop("row", None)
    common = table(values.pop("common", {}), "common")
    meta = {key: values.pop(key) for key in META if key in values}
    if extended is None:
        return Source(path, meta, values, common, [] if rows is None else _listed(rows))
    base = read(_extended(path, extended, _above), (*_above, path.resolve()))
    of_one_run = {key: base.own.pop(key) for key in ("seed", "name", "group") if key in base.own}
    seeds = {"seeds": [of_one_run["seed"]]} if "seed" in of_one_run and "seed" not in values else {}
    inherited = base.common | base.own | common
    return Source(path, base.meta | seeds | meta, values, inherited, base.rows if rows is None else _listed(rows))


def table(value: Any, name: str) -> dict[str, Any]:
    """A TOML table.

    Raises:
        SettingError: it is something else.
    """
    if not isinstance(value, dict):
        raise SettingError(f"{name!r} must be a table in a recipe, found {value!r}.")
    return dict(value)


def _below(folder: Path) -> list[Path]:
    found = sorted(folder.glob(f"*{SUFFIX}")) + sorted(folder.glob(f"*/*{SUFFIX}"))
    return [path for path in found if path.stem.partition("-")[0] != "base"]


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"Recipe '{path}' is not TOML: {error}.") from error
    except UnicodeDecodeError as error:
        raise SettingError(f"Recipe '{path}' is no text in UTF-8; save it as that.") from error
    except OSError as error:
        raise SettingError(f"Recipe '{path}' cannot be read ({error}).") from error


def _extended(path: Path, name: Any, above: tuple[Path, ...]) -> Path:
    if not isinstance(name, str):
        raise SettingError(f"Recipe '{path}': extends must be the path of one recipe, found {name!r}.")
    target = path.parent / name
    if not target.is_file():
        raise SettingError(f"Recipe '{path}' extends {name!r}, but there is no file {target}.")
    if target.resolve() in (*above, path.resolve()) or len(above) >= _DEEPEST:
        raise SettingError(f"Recipe '{path}' extends {name!r}, which leads back to itself or too deep.")
    return target


def _listed(rows: Any) -> list[Any]:
    if not isinstance(rows, list):
        raise SettingError(f"Rows are written as [[row]], found {rows!r}.")
    return rows
