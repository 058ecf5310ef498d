"""Crafted clip tables: each is refused in words, in little time and memory; odd but harmless ones are read."""

from __future__ import annotations

import resource
import time
from pathlib import Path

import pytest
from crafted_tables import CASES, HARMLESS

from pipeline.errors import ManifestError
from pipeline.manifest import read_table, require_valid


@pytest.mark.parametrize("name", CASES)
def test_crafted_table_is_refused_in_words(tmp_path: Path, name: str) -> None:
    make, words = CASES[name]
    make(tmp_path / name)
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ManifestError, match=words) as caught:
        require_valid(read_table(tmp_path / name))
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kilobytes
    assert len(str(caught.value)) < 2_000


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_odd_but_harmless_is_read(tmp_path: Path, name: str) -> None:
    HARMLESS[name](tmp_path / name)
    table = read_table(tmp_path / name)
    require_valid(table)
    assert len(table) == 1
    assert not table.clip_id[0].startswith("\ufeff")
