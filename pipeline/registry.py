"""Name to card, and from the card to its builder, imported on use.

The folder is the registry: every ``card.py`` under ``extraction/teachers``, every module of
``distillation/students`` and ``datasets`` that has ``CARDS`` is found.  Modules named in the
environment variable ``EAST_PLUGINS`` (comma separated) are looked at too, so that a teacher, a
student or a dataset can live outside this package.

A teacher's name may carry settings: ``NAME:option=value:option=value``, and for a family of models
``hf:MODEL@REVISION:option=value``.  The card of such a name has a name of its own that is fit for
a folder (``openl3-hop0.96``), so that stores of different settings lie side by side.  A name
that ends in ``:view=K`` is of the extractor that hears view K of each clip.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from pipeline.cards import DatasetCard, ExtractorCard, OptionCard, Scalar, StudentCard
from pipeline.errors import SettingError, UnknownNameError

_VIEW_CARD, _MAX_VIEW = "pipeline.audio.views:view_card", 9_999
PLUGINS_VARIABLE = "EAST_PLUGINS"
_Card = TypeVar("_Card", ExtractorCard, StudentCard, DatasetCard, OptionCard)


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
    """The teacher of that name, settings and all; an unknown name lists the choices and the nearest."""
    return configured(name, "teacher", teachers())


def find_front_end(name: str) -> ExtractorCard:
    """The mel front end of that name."""
    return _find("front end", name, front_ends())


def find_extractor(name: str) -> ExtractorCard:
    """The mel front end or teacher of that name, settings and all; also of a view, ``NAME:view=K``."""
    clean, view = split_view(name)
    card = configured(clean, "extractor", extractors())
    return _imported(_VIEW_CARD)(card, view) if view else card


def find_student(name: str) -> StudentCard:
    """The student of that name."""
    return _find("student", name, students())


def find_dataset(name: str) -> DatasetCard:
    """The dataset of that name."""
    return _find("dataset", name, datasets())


def builder(card: ExtractorCard | StudentCard | DatasetCard) -> Callable[..., Any]:
    """Import what ``card.builder`` names, written ``"package.module:function"``."""
    return _imported(card.builder)


def _imported(reference: str) -> Callable[..., Any]:
    module, _, function = reference.partition(":")
    return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]


def split_request(request: str) -> tuple[str, tuple[str, ...]]:
    """A request and the outputs it names after its last slash.

    The slash of a model's own name is none, so a family of models takes a last part only where it
    is one of its outputs.

    >>> split_request("panns/clip+frames"), split_request("musicnn")
    (('panns', ('clip', 'frames')), ('musicnn', ()))
    """
    name, slash, last = request.rpartition("/")
    if not slash:
        return request, ()
    outputs = tuple(last.split("+"))
    base, colon, _ = request.partition(":")
    family = extractors().get(base) if colon else None
    if family is not None and family.subject:
        known = {output.name for output in family.outputs}
        return (name, outputs) if known.issuperset(outputs) and ":" in name else (request, ())
    return name, outputs


def split_view(name: str) -> tuple[str, int]:
    """A name without its view, and the number of the view: 0 for the clip as it is.

    Raises:
        SettingError: the view is no number from 1 on.

    >>> split_view("musicnn:view=2"), split_view("openl3:hop=0.96")
    (('musicnn', 2), ('openl3:hop=0.96', 0))
    """
    clean, mark, number = name.rpartition(":view=")
    if not mark:
        return name, 0
    if not (number.isascii() and number.isdecimal() and 0 < int(number[:9]) <= _MAX_VIEW):
        raise SettingError(f"{name}: view={number} is no number from 1 to {_MAX_VIEW} at the end of the name.")
    return clean, int(number)


def with_view(request: str, view: int) -> str:
    """The request for a view of what another request names.

    >>> with_view("mel-small", 1), with_view("panns:window=0.96/clip", 2)
    ('mel-small:view=1', 'panns:window=0.96:view=2/clip')
    """
    name, outputs = split_request(request)
    return f"{name}:view={view}" + ("/" + "+".join(outputs) if outputs else "")


def request_of(extractor: str, parameters: Mapping[str, Any]) -> str:
    """The name that a store's extractor was asked for by, where it only hears another view.

    >>> request_of("mel-small-view3", {"view": 3}), request_of("mel-small", {})
    ('mel-small:view=3', 'mel-small')
    """
    view = parameters.get("view")
    clean = extractor.removesuffix(f"-view{view}")
    return extractor if clean == extractor else f"{clean}:view={view}"


def folder_name(name: str) -> str:
    """What the card of a name with settings is called: fit for a folder, for a URL, for a column.

    >>> folder_name("openl3:hop=0.96"), folder_name("hf:/models/MERT-v1-95M:layer=7")
    ('openl3-hop0.96', 'hf-MERT-v1-95M-layer7')
    """
    base, subject, settings = _parts(name)
    model = subject.rstrip("/")
    model = model.rpartition("/")[2] if _is_path(model) else model
    words = [base, *filter(None, [model]), *(f"{key}{value}" for key, value in settings)]
    return re.sub(r"[^A-Za-z0-9._+-]", "-", "-".join(words))


def subject_of(name: str) -> str:
    """The model in a name of a family, empty elsewhere.

    >>> subject_of("hf:lab/model@v1:layer=7"), subject_of("panns")
    ('lab/model@v1', '')
    """
    return _parts(name)[1]


def configured(name: str, kind: str, cards: Mapping[str, ExtractorCard]) -> ExtractorCard:
    """The card for a name with settings; without any, the card as it stands.

    ``card.configure`` is called as ``configure(card, values)`` with a value for every option, and
    ``values["subject"]`` for a family of models.

    Raises:
        UnknownNameError: no such extractor, or no such option.
        SettingError: a value of another type or outside the choices, or a family without its model.
    """
    base, subject, settings = _parts(name)
    card = _find(kind, base, dict(cards))
    if card.subject and not subject:
        raise SettingError(f"{base} needs a model: {base}:{card.subject}.")
    if subject and not card.subject:
        raise SettingError(f"{name!r}: {subject!r} is no setting of the form option=value. {_known_options(card)}")
    if not subject and not settings:
        return card
    values: dict[str, Scalar] = {option.name: option.default for option in card.options}
    for key, text in settings:
        option = _find(f"option of {base}", key, {option.name: option for option in card.options})
        values[key] = _value(base, option, text)
    if subject:
        values["subject"] = subject
    made: ExtractorCard = _imported(card.configure)(card, values)
    return replace(made, name=folder_name(name))


def dataset_options(card: DatasetCard, given: Mapping[str, str]) -> dict[str, Scalar]:
    """A value for every option of a dataset: the default where none is given.

    Raises:
        UnknownNameError: no such option.
        SettingError: a value of another type or outside the choices.
    """
    options = {option.name: option for option in card.options}
    chosen = {
        key: _value(card.name, _find(f"option of {card.name}", key, options), text) for key, text in given.items()
    }
    return {name: option.default for name, option in options.items()} | chosen


def _parts(name: str) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Base, subject, settings in order: ``hf:a/b@c:layer=7`` -> hf, a/b@c, ((layer, 7),)."""
    base, *rest = name.split(":")
    settings = []
    while rest and re.match(r"[a-z_]+=", rest[-1]):
        key, _, value = rest.pop().partition("=")
        settings.append((key, value))
    return base, ":".join(rest), tuple(sorted(settings))


def _is_path(subject: str) -> bool:
    return subject.startswith((".", "/", "~")) or subject.count("/") > 1


def _value(base: str, option: OptionCard, text: str) -> Scalar:
    kind, parse = _KINDS[type(option.default)]
    try:
        value = parse(text)
    except (ValueError, KeyError):
        raise SettingError(f"{base}:{option.name}={text}: not {kind}. {option.help}.") from None
    if option.choices and value not in option.choices:
        choices = ", ".join(map(str, option.choices))
        raise SettingError(f"{base}:{option.name}={text}: one of {choices}. {option.help}.")
    return value


_KINDS: dict[type, tuple[str, Callable[[str], Scalar]]] = {
    float: ("a number", float),
    int: ("a whole number", int),
    bool: ("true or false", lambda text: {"true": True, "false": False}[text]),
    str: ("a text", str),
}


def _known_options(card: ExtractorCard) -> str:
    names = ", ".join(f"{option.name} ({option.help})" for option in card.options)
    return f"{card.name} has {names or 'no options'}."


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
