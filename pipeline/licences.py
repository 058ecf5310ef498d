"""Licences: a table from free to strict, what each demands, and the strictest of several.

The strictest licence among a teacher's weights, its code and the audio goes with every store made
from them and with every student trained on those stores.  This is a reading aid, not legal advice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_SHOWN = 200


@dataclass(frozen=True)
class Licence:
    """One kind of licence.

    Attributes:
        name: SPDX identifier without its version, or words.
        rank: larger is stricter; licences of one rank demand about the same.
        demands: one sentence.
        pattern: what a licence's text contains, matched in lower case.
    """

    name: str
    rank: int
    demands: str
    pattern: str


_NOTICE = "Keep the copyright notice and the text of the licence."
_COPYLEFT = "What you pass on that is made from it comes under the same licence, with its source."

#: Searched from top to bottom: the first whose pattern is found decides, so the strict ones come first.
TABLE = (
    Licence("proprietary", 110, "All rights are reserved: ask the owner before any use.",
            r"proprietary|all rights|no licen[cs]e|unlicensed"),
    Licence("research only", 100, "Research only: no use in products or services, and often no passing on.",
            r"research|academic|evaluation only"),
    Licence("CC-BY-NC-ND", 95, "Name the author; no commercial use; changed versions are not passed on.",
            r"\bnc[- ]nd\b"),
    Licence("CC-BY-NC-SA", 92, "Name the author; no commercial use; changed versions keep this licence.",
            r"\bnc[- ]sa\b"),
    Licence("CC-BY-NC", 90, "Name the author; no commercial use.", r"\bnc\b|non-?\s?commercial"),
    Licence("CC-BY-ND", 80, "Name the author; changed versions are not passed on.", r"\bby[- ]nd\b|noderiv"),
    Licence("AGPL", 60, f"{_COPYLEFT} Users over a network count.", r"\bagpl|affero"),
    Licence("LGPL", 40, "Changes to the work stay under this licence, with their source.", r"\blgpl|lesser general"),
    Licence("GPL", 50, _COPYLEFT, r"\bgpl|general public licen[cs]e"),
    Licence("CC-BY-SA", 45, "Name the author; changed versions keep this licence.", r"\bby[- ]sa\b|share-?\s?alike"),
    Licence("MPL", 35, "Changed files stay under this licence, with their source.", r"\bmpl\b|mpl-|mozilla"),
    Licence("CC-BY", 30, "Name the author.", r"\bcc[- ]by\b|attribution"),
    Licence("Apache-2.0", 20, "Keep notices, state changes; patents are licensed.", r"apache"),
    Licence("BSD", 10, _NOTICE, r"\bbsd\b"),
    Licence("ISC", 10, _NOTICE, r"\bisc\b"),
    Licence("MIT", 10, _NOTICE, r"\bmit\b"),
    Licence("CC0", 0, "Nothing is demanded.", r"\bcc0|public domain|unlicense\b|\bpd\b"),
    Licence("none", 0, "Nothing is demanded.", r"^none$"),
)  # fmt: skip

UNKNOWN = Licence(
    "unknown", 85, "Nothing is known: find out before it is passed on; of your own audio, it is yours to decide.", ""
)

#: At this rank and above a student should not be used as if it were free.
RESTRICTED_RANK = 80


def find(text: str) -> Licence:
    """The kind of a licence's text; :data:`UNKNOWN` where it says nothing that is known.

    >>> find("cc-by-nc-4.0").name, find("Apache 2").name, find("see the Zenodo record").name
    ('CC-BY-NC', 'Apache-2.0', 'unknown')
    """
    lower = re.sub(r"[_\s]+", " ", text.lower()).strip()
    return next((licence for licence in TABLE if re.search(licence.pattern, lower)), UNKNOWN)


def strictest(licences: Iterable[tuple[str, str]]) -> str:
    """``LICENCE (WHAT)`` of the strictest pair; MIT where nothing says anything.

    Args:
        licences: pairs of a licence's text and what it covers.

    >>> strictest([("MIT", "code"), ("CC-BY-NC-SA-4.0", "weights of musicnn"), ("CC-BY-4.0", "data")])
    'CC-BY-NC-SA-4.0 (weights of musicnn)'
    """
    named = [(text, what) for text, what in licences if text.strip()]
    if not named:
        return "MIT"
    text, what = max(named, key=lambda pair: find(pair[0]).rank)
    return f"{text} ({what})"


def is_restricted(text: str) -> bool:
    """Whether commercial use or passing on is forbidden, or nothing is known."""
    return bool(text.strip()) and find(text).rank >= RESTRICTED_RANK
