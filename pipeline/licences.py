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

#: As strict as anything can be: nobody may assume rights that nobody has given.
UNKNOWN = Licence(
    "unknown", 110, "Nothing is recorded, so no right may be assumed: ask the owner before any use. The licence of "
    "your own audio is yours to say, with east data from --licence.", r"^unknown|^\?*$",
)  # fmt: skip

_VERSIONED = ("", "-SA", "-ND", "-NC", "-NC-SA", "-NC-ND")
_SPDX = {
    name.lower(): name
    for name in (
        *(f"CC-BY{kind}-{version}" for kind in _VERSIONED for version in ("1.0", "2.0", "2.5", "3.0", "4.0")),
        *(f"{name}{end}" for name in ("GPL-2.0", "GPL-3.0", "LGPL-2.1", "LGPL-3.0", "AGPL-3.0")
          for end in ("", "-only", "-or-later")),
        "CC0-1.0", "MIT", "ISC", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "MPL-2.0", "Unlicense", "PDDL-1.0",
        "ODC-By-1.0", "ODbL-1.0",
    )
}  # fmt: skip

#: At this rank and above a student should not be used as if it were free.
RESTRICTED_RANK = 80


def find(text: str) -> Licence:
    """The kind of a licence's text; :data:`UNKNOWN` where it says nothing that is known.

    >>> find("cc-by-nc-4.0").name, find("Apache 2").name, find("see the Zenodo record").name
    ('CC-BY-NC', 'Apache-2.0', 'unknown')
    """
    lower = re.sub(r"[_\s]+", " ", text.lower()).strip()
    return next((licence for licence in (UNKNOWN, *TABLE) if re.search(licence.pattern, lower)), UNKNOWN)


def spdx(text: str) -> str:
    """The SPDX identifier that a text is, empty where it is none or leaves the version open.

    >>> spdx("cc by-nc 4.0"), spdx("CC-BY")
    ('CC-BY-NC-4.0', '')
    """
    return _SPDX.get(re.sub(r"[_\s]+", "-", text.lower().strip()), "")


def strictest_of(licences: Iterable[tuple[str, str]]) -> tuple[str, str]:
    """The strictest pair of a licence's text and what it covers; the first of equals, unknown where there is none."""
    named = [(text.strip() or UNKNOWN.name, what) for text, what in licences]
    return max(named, key=lambda pair: find(pair[0]).rank, default=(UNKNOWN.name, "nothing is recorded"))


def strictest(licences: Iterable[tuple[str, str]]) -> str:
    """``LICENCE (WHAT)`` of the strictest pair; a licence that is not given counts as unknown.

    Args:
        licences: pairs of a licence's text and what it covers.

    >>> strictest([("MIT", "code"), ("CC-BY-NC-SA-4.0", "weights of musicnn"), ("CC-BY-4.0", "data")])
    'CC-BY-NC-SA-4.0 (weights of musicnn)'
    """
    text, what = strictest_of(licences)
    return f"{text} ({what})"


def demands(text: str) -> str:
    """What a licence asks for, in words; also of what :func:`strictest` gave."""
    return find(re.sub(r" \([^()]*\)$", "", text)).demands


def is_restricted(text: str) -> bool:
    """Whether commercial use or passing on is forbidden, or nothing is known."""
    return find(text).rank >= RESTRICTED_RANK
