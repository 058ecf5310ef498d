"""The strictest licence among what a run was made from, in words."""

from __future__ import annotations

from collections.abc import Iterable

#: From strict to free: what a licence text contains, lower case.
_RANKS = (
    ("proprietary", "no licence", "all rights", "unknown"),
    ("noncommercial", "non-commercial", "-nc", "research"),
    ("agpl",),
    ("gpl",),
    ("-sa", "sharealike", "share-alike"),
    ("cc-by", "cc by"),
    ("apache", "mpl"),
)


def strictest(licences: Iterable[tuple[str, str]]) -> str:
    """``LICENCE (of WHAT)`` of the strictest pair; MIT where nothing says anything.

    Args:
        licences: pairs of a licence's text and what it covers.

    >>> strictest([("MIT", "code"), ("CC-BY-NC-SA-4.0", "weights of musicnn"), ("CC-BY-4.0", "data")])
    'CC-BY-NC-SA-4.0 (weights of musicnn)'
    """
    named = [(text, what) for text, what in licences if text.strip()]
    if not named:
        return "MIT"
    text, what = min(named, key=lambda pair: _rank(pair[0]))
    return f"{text} ({what})"


def _rank(text: str) -> int:
    lower = text.lower()
    return next((rank for rank, words in enumerate(_RANKS) if any(word in lower for word in words)), len(_RANKS))
