"""Values of recipes and of ``--set``, held against the declared types of the settings.

Nothing here lists settings by hand: keys, types and defaults come from the dataclasses.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Literal

from pipeline.distillation.settings import ProbeSettings, TrainSettings
from pipeline.errors import SettingError, UnknownNameError

Kind = Literal["student", "probe"]
SETTINGS: dict[str, type[TrainSettings] | type[ProbeSettings]] = {"student": TrainSettings, "probe": ProbeSettings}
GIVEN = frozenset({"data", "seed", "name", "group"})
_IN_WORDS = {"str": "text in quotes", "int": "a whole number", "float": "a number", "bool": "true or false"}
_IN_LISTS = {"teacher": '["musicnn", "yamnet"]', "validate_on": '["valid", "valid-other"]'}
_PLAIN: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


def known_settings(kind: str) -> tuple[str, ...]:
    """Settings of a ``student`` or ``probe`` that a row may give."""
    return tuple(spec.name for spec in fields(SETTINGS[kind]) if spec.name not in GIVEN)


def all_settings() -> frozenset[str]:
    """Settings that some kind of row may give."""
    return frozenset(name for kind in SETTINGS for name in known_settings(kind))


def require_known(values: Iterable[str], known: Iterable[str], kind: str) -> None:
    """Refuse keys that are not known.

    Raises:
        UnknownNameError: it names the nearest and lists all.
    """
    names = tuple(known)
    for key in values:
        if key not in names:
            raise UnknownNameError(kind, key, names)


def declared_type(kind: str, key: str) -> str:
    """The declared type of a setting without its ``| None``: ``float``, ``tuple[str, ...]``."""
    declared = next(str(spec.type) for spec in fields(SETTINGS[kind]) if spec.name == key)
    return declared.removesuffix(" | None")


def checked(kind: str, key: str, value: Any) -> Any:
    """A value of the type that the setting has; ``labelled = "all"`` becomes None.

    Raises:
        SettingError: of another type.
    """
    if key == "labelled" and value == "all":
        return None
    declared = declared_type(kind, key)
    several = re.fullmatch(r"tuple\[(\w+), \.\.\.\]", declared)
    if several is None:
        if declared in _PLAIN and not _is_a(value, declared):
            raise SettingError(f"{key} must be {_IN_WORDS[declared]}, found {_as_toml(value)}.")
        return value
    if not isinstance(value, (list, tuple)) or not all(_is_a(entry, several[1]) for entry in value):
        example = f'["{value}"]' if isinstance(value, str) else _IN_LISTS.get(key, '["...", "..."]')
        raise SettingError(f"{key} must be a list, such as {example}; found {_as_toml(value)}.")
    return tuple(value)


def parse_changes(changes: Iterable[str]) -> dict[str, Any]:
    """``KEY=VALUE`` texts, values as in TOML; quotes may be left out, lists written as ``a,b``.

    Raises:
        SettingError: not of that form.
    """
    return dict(_parse_change(change) for change in changes)


def require_seeds(values: Any) -> tuple[int, ...]:
    """Different whole numbers of at least 0.

    Raises:
        SettingError: anything else.
    """
    good = isinstance(values, (list, tuple)) and values
    if not good or not all(type(seed) is int and seed >= 0 for seed in values) or len(set(values)) != len(values):
        raise SettingError(f"seeds must be different whole numbers of at least 0, such as [1, 2, 3]; found {values!r}.")
    return tuple(values)


def merged(kind: str, *layers: Mapping[str, Any]) -> dict[str, Any]:
    """Checked settings, later layers winning; what this kind does not know is left out."""
    known = known_settings(kind)
    values = {key: value for layer in layers for key, value in layer.items() if key in known}
    return {key: checked(kind, key, value) for key, value in values.items()}


def _as_toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _is_a(value: Any, declared: str) -> bool:
    types = _PLAIN.get(declared, (object,))
    return isinstance(value, types) and (declared not in ("int", "float") or not isinstance(value, bool))


def _parse_change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    key = key.strip().replace("-", "_")
    if not equals or not key:
        raise SettingError(f"--set {text!r} is not KEY=VALUE, such as --set steps=2000.")
    return key, parse_value(key, value)


def parse_value(key: str, text: str) -> Any:
    """One value as on a command line: TOML, a bare word, or ``a,b`` where the setting takes several."""
    declared = declared_type(_kind_with(key), key) if key in all_settings() else ""
    if declared == "str":
        return text.strip().strip("\"'")
    several = key == "seeds" or declared.startswith("tuple")
    listed = f"[{text}]" if several and not text.strip().startswith("[") else text
    try:
        return tomllib.loads(f"x = {listed}")["x"]
    except tomllib.TOMLDecodeError:
        parts = [part.strip() for part in text.strip().removeprefix("[").removesuffix("]").split(",")]
        return [part for part in parts if part] if several and key != "seeds" else text


def _kind_with(key: str) -> str:
    return next(kind for kind in SETTINGS if key in known_settings(kind))
