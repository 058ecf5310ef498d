"""What a sweep searches: ``lr=1e-4..1e-2:log``, ``steps=500..4000``, ``loss=kd,east-kd``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SettingError
from pipeline.experiments.checking import SETTINGS, checked, declared_type, known_settings, parse_value, require_known

Value = str | float | int


@dataclass(frozen=True)
class Parameter:
    """One setting to be searched: a range, or choices.

    Attributes:
        text: as the user wrote it.
        low, high: ends of a range, both belong to it; numbers of the setting's type.
        log: whether a range is searched by its logarithm.
        choices: texts, where it is no range.
    """

    name: str
    text: str
    whole: bool = False
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[str, ...] = ()

    def setting(self, kind: str, found: Value) -> Any:
        """A value that was found, as the setting takes it."""
        if not self.choices:
            return int(found) if self.whole else float(found)
        return checked(kind, self.name, parse_value(self.name, str(found)))

    def extremes(self) -> tuple[Value, ...]:
        """Values that must all be usable before anything runs."""
        return self.choices or (self.low, self.high)


def parse_space(texts: Sequence[str], kind: str, settings: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """Parameters from ``NAME=LOW..HIGH[:log]`` or ``NAME=A,B,C``.

    Args:
        kind: ``student`` or ``probe``.
        settings: complete ones of that kind, in which each parameter is tried at its ends.

    Raises:
        SettingError: not of that form, an unknown setting, or a value that the setting refuses.
    """
    found = tuple(_parse(text, kind) for text in texts)
    names = [one.name for one in found]
    if not found or len(set(names)) != len(names):
        raise SettingError(f"A sweep needs different parameters, such as --param lr=1e-4..1e-2:log; found {names}.")
    for one in found:
        for value in one.extremes():
            try:
                SETTINGS[kind](**(dict(settings) | {one.name: one.setting(kind, value)}))
            except SettingError as error:
                error.add_note(f"in --param {one.text}")
                raise
    return found


def _parse(text: str, kind: str) -> Parameter:
    name, equals, values = text.partition("=")
    name = name.strip().replace("-", "_")
    if not equals or not values.strip():
        raise SettingError(f"--param {text!r} is neither NAME=LOW..HIGH, NAME=LOW..HIGH:log nor NAME=A,B,C.")
    require_known([name], known_settings(kind), "setting to sweep")
    if ".." not in values:
        choices = tuple(part.strip() for part in re.split(r",(?![^\[]*\])", values) if part.strip())
        return Parameter(name, text, choices=choices)
    declared = declared_type(kind, name)
    if declared not in ("int", "float"):
        raise SettingError(f"--param {text!r}: {name} is no number but {declared}. List choices: {name}=A,B.")
    return _range(name, text, values, whole=declared == "int")


def _range(name: str, text: str, values: str, *, whole: bool) -> Parameter:
    span, colon, scale = values.partition(":")
    first, _, last = span.partition("..")
    try:
        low, high = (int(end) if whole else float(end) for end in (first, last))
    except ValueError as error:
        kind = "whole numbers" if whole else "numbers"
        raise SettingError(f"--param {text!r}: the ends of {name} must be {kind}, found {span!r}.") from error
    if (colon and scale != "log") or not low < high or (scale == "log" and not low > 0):
        raise SettingError(
            f"--param {text!r}: LOW must be below HIGH, and only ':log' may follow, for which LOW must be above 0."
        )
    return Parameter(name, text, whole=whole, low=low, high=high, log=scale == "log")
