"""A run's settings as a recipe: ``recipe.toml`` beside ``run.json``, by which the run can be repeated."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import PurePath
from typing import Any

from pipeline.distillation.settings import ProbeSettings, TrainSettings

FORMAT_VERSION = 1
_ALL = "all"


def recipe_text(settings: TrainSettings | ProbeSettings, *, teachers: Sequence[str] = (), dataset: str = "") -> str:
    """TOML with every setting, in the order of the dataclass.

    Settings that follow from the loss stand as comments with the value that was used.  Absolute
    paths say more of a machine than of a run: such stores, too, are comments.

    Args:
        teachers: names of the stores that were read, where the settings name none.
        dataset: name that stands for a table given by an absolute path.
    """
    kind = "student" if isinstance(settings, TrainSettings) else "probe"
    lines = [f"format = {FORMAT_VERSION}", f'kind = "{kind}"']
    for spec in fields(settings):
        lines.append(_line(spec.name, _value(settings, spec.name, teachers, dataset), settings))
    return "\n".join(lines) + "\n"


def toml_value(value: Any) -> str:
    """A value as TOML writes it: text, numbers, booleans, and lists of them.

    >>> toml_value(("a", "b")), toml_value(1e-4), toml_value(True), toml_value("all")
    ('["a", "b"]', '0.0001', 'true', '"all"')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(settings: Any, name: str, teachers: Sequence[str], dataset: str) -> Any:
    value = getattr(settings, name)
    if name == "teacher" and not value and not settings.store:
        return tuple(teachers)
    if name == "data" and dataset and PurePath(value).is_absolute():
        return dataset
    return _ALL if name == "labelled" and value is None else value


def _line(name: str, value: Any, settings: TrainSettings | ProbeSettings) -> str:
    if value is None:
        used = getattr(settings.loss_settings(), name, None) if isinstance(settings, TrainSettings) else None
        return f"# {name}: the loss's own" + ("" if used is None else f", {toml_value(used)}")
    paths = value if isinstance(value, tuple) else (value,)
    if name in ("store", "mel") and any(PurePath(path).is_absolute() for path in paths):
        return f"# {name}: {len(paths)} given by an absolute path; give it again with --{name}"
    return f"{name} = {toml_value(value)}"
