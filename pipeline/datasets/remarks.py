"""What is odd in the files of a dataset: said once per kind, by count and name, and kept in its card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.events import Listener, Warned
from pipeline.texts import some

__all__ = ["KEPT_NAMES", "Remarks"]

#: Names that a card keeps of each kind; the count is always whole.
KEPT_NAMES = 100


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
