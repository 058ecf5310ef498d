"""The table of licences: each is known, and the order is the one that people expect."""

from __future__ import annotations

import pytest

from pipeline.licences import TABLE, demands, find, is_restricted, spdx, strictest

#: From free to strict; each step is strictly more.
ORDER = (
    "CC0-1.0", "MIT", "Apache-2.0", "CC-BY-4.0", "MPL-2.0", "LGPL-2.1-or-later", "CC-BY-SA-4.0", "GPL-3.0-only",
    "AGPL-3.0", "CC-BY-ND-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-NC-ND-4.0",
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
        ("unknown: its README says MIT-like", "unknown"),
        ("?", "unknown"),
    ],
)
def test_texts_as_they_are_found(text: str, name: str) -> None:
    assert find(text).name == name


def test_every_kind_has_its_sentence_and_finds_itself() -> None:
    for licence in TABLE:
        assert licence.demands.endswith(".")
        assert find(licence.name) == licence


@pytest.mark.parametrize(("text", "restricted"), [("MIT", False), ("", True), ("CC-BY-NC-4.0", True), ("?", True)])
def test_restricted_ones_are_told_apart(text: str, restricted: bool) -> None:
    assert is_restricted(text) is restricted


def test_unknown_is_as_strict_as_all_rights_reserved_and_says_what_to_do() -> None:
    assert find("see the record").rank == find("proprietary").rank == max(licence.rank for licence in TABLE)
    assert strictest([("CC-BY-NC-ND-4.0", "data"), ("", "weights"), ("research only", "code")]) == "unknown (weights)"
    said = demands(strictest([("", "audio of mine")]))
    assert "no right may be assumed: ask the owner" in said
    assert "east data from --licence" in said
    assert demands("CC-BY-NC-4.0 (weights of a (second) kind)") == "Name the author; no commercial use."


@pytest.mark.parametrize(
    ("text", "name"),
    [("cc-by-nc-sa-4.0", "CC-BY-NC-SA-4.0"), ("CC BY 4.0", "CC-BY-4.0"), ("mit", "MIT"), ("Apache-2.0", "Apache-2.0"),
     ("gpl-3.0-or-later", "GPL-3.0-or-later"), ("CC-BY-NC", ""), ("MIT, mostly", ""), ("", "")],
)  # fmt: skip
def test_known_identifiers(text: str, name: str) -> None:
    assert spdx(text) == name
