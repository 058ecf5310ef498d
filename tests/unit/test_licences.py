"""The table of licences: each is known, and the order is the one that people expect."""

from __future__ import annotations

import pytest

from pipeline.licences import TABLE, find, is_restricted, strictest

#: From free to strict; each step is strictly more.
ORDER = (
    "CC0-1.0", "MIT", "Apache-2.0", "CC-BY-4.0", "MPL-2.0", "LGPL-2.1-or-later", "CC-BY-SA-4.0", "GPL-3.0-only",
    "AGPL-3.0", "CC-BY-ND-4.0", "see the record", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0",
    "for research only", "proprietary",
)  # fmt: skip


def test_ranks_go_from_free_to_strict() -> None:
    ranks = [find(text).rank for text in ORDER]
    assert ranks == sorted(set(ranks))


@pytest.mark.parametrize("place", range(len(ORDER) - 1))
def test_the_stricter_of_two_wins_in_any_order(place: int) -> None:
    free, strict = ORDER[place : place + 2]
    for pairs in ([(free, "a"), (strict, "b")], [(strict, "b"), (free, "a")]):
        assert strictest(pairs) == f"{strict} (b)"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cc-by-nc-4.0", "CC-BY-NC"),
        ("Creative Commons Attribution-NonCommercial", "CC-BY-NC"),
        ("CC BY 4.0", "CC-BY"),
        ("BSD-3-Clause", "BSD"),
        ("ISC", "ISC"),
        ("LGPL-3.0", "LGPL"),
        ("music in the public domain", "CC0"),
        ("", "unknown"),
        ("GeneralUser GS License", "unknown"),
        ("submitted", "unknown"),
    ],
)
def test_texts_as_they_are_found(text: str, name: str) -> None:
    assert find(text).name == name


def test_every_kind_has_its_sentence_and_finds_itself() -> None:
    for licence in TABLE:
        assert licence.demands.endswith(".")
        assert find(licence.name) == licence


@pytest.mark.parametrize(("text", "restricted"), [("MIT", False), ("", False), ("CC-BY-NC-4.0", True), ("?", True)])
def test_restricted_ones_are_told_apart(text: str, restricted: bool) -> None:
    assert is_restricted(text) is restricted
