"""Name to card, and from the card to its builder, imported on use.

The folder is the registry: every ``card.py`` under ``extraction/teachers``, every module of
``distillation/students`` and ``datasets`` that has ``CARDS`` is found.  Modules named in the
environment variable ``EAST_PLUGINS`` (comma separated) are looked at too, so that a teacher, a
student or a dataset can live outside this package.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

from pipeline.cards import DatasetCard, ExtractorCard, StudentCard
from pipeline.errors import SettingError, UnknownNameError

PLUGINS_VARIABLE = "EAST_PLUGINS"
_Card = TypeVar("_Card", ExtractorCard, StudentCard, DatasetCard)


def extractors() -> dict[str, ExtractorCard]:
    """All extractors by name: mel front ends and teachers."""
    return _collect(ExtractorCard, "pipeline.audio.mel_cards", "pipeline.extraction.teachers")


def teachers() -> dict[str, ExtractorCard]:
    """The extractors that have pretrained weights."""
    return {name: card for name, card in extractors().items() if card.kind == "teacher"}


def front_ends() -> dict[str, ExtractorCard]:
    """The mel extractors."""
    return {name: card for name, card in extractors().items() if card.kind == "mel"}


def students() -> dict[str, StudentCard]:
    """All students by name."""
    return _collect(StudentCard, "pipeline.distillation.students")


def datasets() -> dict[str, DatasetCard]:
    """All datasets by name."""
    return _collect(DatasetCard, "pipeline.datasets")


def find_teacher(name: str) -> ExtractorCard:
    """The teacher of that name; an unknown name lists the choices and the nearest."""
    return _find("teacher", name, teachers())


def find_front_end(name: str) -> ExtractorCard:
    """The mel front end of that name."""
    return _find("front end", name, front_ends())


def find_extractor(name: str) -> ExtractorCard:
    """The mel front end or teacher of that name."""
    return _find("extractor", name, extractors())


def find_student(name: str) -> StudentCard:
    """The student of that name."""
    return _find("student", name, students())


def find_dataset(name: str) -> DatasetCard:
    """The dataset of that name."""
    return _find("dataset", name, datasets())


def builder(card: ExtractorCard | StudentCard | DatasetCard) -> Callable[..., Any]:
    """Import what ``card.builder`` names, written ``"package.module:function"``."""
    module, _, function = card.builder.partition(":")
    return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]


def _find(kind: str, name: str, cards: dict[str, _Card]) -> _Card:
    if name not in cards:
        raise UnknownNameError(kind, name, cards)
    return cards[name]


def _collect(kind: type[_Card], *places: str) -> dict[str, _Card]:
    found: dict[str, _Card] = {}
    for module in [name for place in places for name in _card_modules(place)] + _plugins():
        for card in getattr(importlib.import_module(module), "CARDS", ()):
            if not isinstance(card, kind):
                continue
            if found.setdefault(card.name, card) is not card:
                raise SettingError(f"Two cards are named {card.name!r}; the second is in {module}.")
    return found


@cache
def _card_modules(place: str) -> tuple[str, ...]:
    """A module itself, or below a package its ``card.py`` files and single-file modules."""
    return tuple(_walk(place))


def _walk(place: str) -> Iterator[str]:
    spec = importlib.util.find_spec(place)
    if spec is None:
        return
    if spec.submodule_search_locations is None:
        yield place
        return
    for info in pkgutil.iter_modules(spec.submodule_search_locations):
        name = f"{place}.{info.name}"
        if not info.ispkg:
            if info.name == "card" or info.name.endswith("_card"):
                yield name
        else:
            yield from _walk(name)


def _plugins() -> list[str]:
    return [name.strip() for name in os.environ.get(PLUGINS_VARIABLE, "").split(",") if name.strip()]
