"""What is odd in the files of a dataset: said once per kind, by count and name, and kept in its card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.events import Listener, Warned
from pipeline.texts import shown

__all__ = ["KEPT_NAMES", "Remarks", "some"]

#: Names that a card keeps of each kind; the count is always whole.
KEPT_NAMES = 100
_SHOWN = 5


class Remarks:
    """Collects what was found.

    Attributes:
        found: by kind, ``count`` and the first ``names``; JSON values for a card.
    """

    def __init__(self, dataset: str, listener: Listener) -> None:
        self.dataset, self.listener = dataset, listener
        self.found: dict[str, dict[str, Any]] = {}

    def add(self, kind: str, sentence: str, names: Sequence[str]) -> None:
        """Warn ``N sentence: names`` and keep it; nothing where there are no names."""
        if len(names):
            self.found[kind] = {"count": len(names), "names": [str(name) for name in names[:KEPT_NAMES]]}
            self.listener(Warned(f"{self.dataset}: {len(names):,} {sentence}: {some(names)}"))


def some(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(shown(str(name)) for name in names[:_SHOWN]) + more
