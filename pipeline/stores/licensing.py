"""What a store's content is covered by: weights, code and audio, and what came along from other stores.

A licence that should be there and is not recorded counts as unknown, which ranks with the
strictest: nobody may assume rights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.licences import UNKNOWN, strictest_of
from pipeline.stores.schema import StoreMeta
from pipeline.texts import one_line

_AUDIO = "audio of "


def covered_licences(meta: StoreMeta, *, audio: str = "") -> list[tuple[str, str]]:
    """Pairs of a licence and what it covers, each once: of the store, then of those it was made from.

    Weights and audio are always named, as ``unknown`` where nothing is recorded; code where it is.

    Args:
        audio: licence of the audio, from its clip table, for stores that do not know it.
    """
    found = [(one_line(meta.dataset.get("licence")), f"{_AUDIO}{one_line(meta.dataset.get('name')) or 'the store'}")]
    if _has_weights(meta):
        found.append((one_line(meta.licence_weights), f"weights of {one_line(meta.extractor)}"))
    if code := one_line(meta.card.get("licence_code")):
        found.append((code, f"code of {one_line(meta.extractor)}"))
    for source in sources_of(meta):
        found += _pairs(source.get("licences"))
    return list(dict.fromkeys((_text(text, what, one_line(audio)), what) for text, what in found))


def strictest_licence(meta: StoreMeta, *, audio: str = "") -> str:
    """``LICENCE (WHAT)`` of the strictest of :func:`covered_licences`."""
    text, what = strictest_of(covered_licences(meta, audio=audio))
    return f"{text} ({what})"


def sources_of(meta: StoreMeta) -> list[Mapping[str, Any]]:
    """What a derived store says of those it was made from; empty for others."""
    sources = meta.derived.get("sources")
    return [source for source in sources if isinstance(source, Mapping)] if isinstance(sources, list | tuple) else []


def _text(text: str, what: str, audio: str) -> str:
    known = text and text != UNKNOWN.name
    return text if known else (audio if what.startswith(_AUDIO) and audio else UNKNOWN.name)


def _has_weights(meta: StoreMeta) -> bool:
    return bool(meta.weights_sha256 or meta.licence_weights or meta.card.get("kind") == "teacher")


def _pairs(value: object) -> list[tuple[str, str]]:
    """Pairs of texts, from metadata that may come from anyone."""
    items = value if isinstance(value, list | tuple) else []
    return [
        (one_line(item[0]), one_line(item[1])) for item in items if isinstance(item, list | tuple) and len(item) == 2
    ]
