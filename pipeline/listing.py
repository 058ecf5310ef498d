"""What there is: teachers, datasets and weights as plain rows. Cards only; nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import registry, weights
from pipeline.cards import ExtractorCard, OutputCard, WeightsCard
from pipeline.errors import SettingError, UnknownNameError
from pipeline.events import Listener, Note, ignore

__all__ = ["get_weights", "list_datasets", "list_teachers", "list_weights", "verify_weights"]

Row = dict[str, Any]


def list_teachers(*, front_ends: bool = False) -> list[Row]:
    """One row per output of each teacher, or of each front end; times in seconds."""
    cards = registry.front_ends() if front_ends else registry.teachers()
    return [_output_row(card, output) for _, card in sorted(cards.items()) for output in card.outputs]


def list_datasets() -> list[Row]:
    """One row per dataset."""
    return [
        {
            "name": card.name,
            "version": card.version,
            "task": card.task,
            "classes": len(card.classes),
            "can_build": card.can_build,
            "licence": card.licence,
            "summary": card.summary,
            "source": card.source,
            "split_rule": card.split_rule,
            "citation": card.citation,
        }
        for _, card in sorted(registry.datasets().items())
    ]


def list_weights() -> list[Row]:
    """One row per file of weights of each teacher."""
    return [
        {
            "name": card.name,
            "file": card.filename,
            "bytes": card.n_bytes,
            "digest": card.sha256 or card.md5,
            "here": weights.installed(card) is not None,
            "path": str(weights.place(card)),
            "licence": card.licence,
            "sources": [weights.describe(source) for source in card.sources],
            "note": card.note,
        }
        for card in _weights_cards()
    ]


def get_weights(name: str, *, offline: bool = False, listener: Listener = ignore) -> tuple[Path, ...]:
    """Fetch all files of a teacher's weights, or those of all teachers for ``all``.

    Raises:
        WeightsError: not to be had.
        UnknownNameError: no teacher has weights of that name.
    """
    cards = _weights_cards() if name == "all" else _of_name(name)
    return weights.fetch_all(cards, offline=offline, listener=listener)


def verify_weights(name: str, *, file: Path | None = None, listener: Listener = ignore) -> tuple[Path, ...]:
    """Read the files of a teacher's weights and compare size and digest with the cards.

    Args:
        file: check this file instead of the fetched one; where there are several, the folder of them.

    Raises:
        WeightsError: absent, or not what the card says.
    """
    cards = _of_name(name)
    if file is not None and not file.is_dir() and len(cards) > 1:
        fitting = [card for card in cards if file.name in weights.local_names(card)]
        if not fitting:
            raise SettingError(f"{file.name} is none of the files of {name}: {', '.join(c.filename for c in cards)}.")
        cards = fitting
    checked = []
    for card in cards:
        path = weights.place(card) if file is None else weights.locate(card, file)
        weights.verify(card, path)
        known = "SHA-256" if card.sha256 else "MD5" if card.md5 else "size"
        listener(Note(f"{path}: {known} as on the card"))
        checked.append(path)
    return tuple(checked)


def _output_row(card: ExtractorCard, output: OutputCard) -> Row:
    return {
        "name": card.name,
        "request": f"{card.name}:{card.subject}" if card.subject else card.name,
        "output": output.name,
        "default": output.name in card.default_outputs,
        "channels": 0 if card.subject else output.channels,
        "rate_hz": card.rate_hz,
        "hop_s": output.hop_s,
        "window_s": output.window_s,
        "parameters": card.n_parameters,
        "licence": card.licence_weights or card.licence_code,
        "options": {option.name: option.default for option in card.options},
        "weights_here": None if card.subject else all(weights.installed(item) is not None for item in card.weights),
        "note": output.note,
        "summary": card.summary,
        "citation": card.citation,
    }


def _weights_cards() -> list[WeightsCard]:
    """Each file once, though variants share files."""
    cards = [item for _, card in sorted(registry.extractors().items()) for item in card.weights]
    return list(dict.fromkeys(cards))


def _of_name(name: str) -> Sequence[WeightsCard]:
    """The cards of a teacher by its name, or of weights by theirs."""
    teachers = registry.teachers()
    if name in teachers:
        return teachers[name].weights
    named = [card for card in _weights_cards() if card.name == name]
    if not named:
        raise UnknownNameError(
            "teacher or set of weights", name, {card.name for card in _weights_cards()} | set(teachers)
        )
    return named
