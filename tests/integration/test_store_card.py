"""Store cards: what they say, that they are the same each time, and that metadata cannot break them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from extracting import ROOT

from cli import east
from pipeline.errors import StoreError
from pipeline.stores import example_meta, open_store, write_store
from pipeline.stores.sharing.card import card_of, escaped
from pipeline.stores.sharing.showing import make_cards

GOLDEN = ROOT / "tests" / "golden"


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_an_old_store_reads_and_gets_a_card(suffix: str) -> None:
    path = GOLDEN / f"store_v1.{suffix}"
    with open_store(path) as reader:
        found = reader.read(np.array([6, 5]))
        assert reader.meta.content_digest == "eb3431bdad28c46922c3e83b46752205082dcd2f0d1058b7d0240153de77991b"
        assert [reader.clip_id[2], reader.failure[2]] == ["é/Lied 2.wav@6000", "format: not audio – 音"]
    assert found[0].tolist() == [[600, 600.5], [610, 610.5], [620, 620.5]]
    assert found[1].tolist() == [[500, 500.5], [0, 0], [0, 0]]
    cards = make_cards(str(path))
    assert cards == make_cards(str(path))
    assert "| clips | 6 done, 1 failed, 0 pending |" in cards["README.md"]
    assert json.loads(cards["croissant.json"])["@type"] == "sc:Dataset"


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_hostile_metadata_stay_text(tmp_path: Path, suffix: str) -> None:
    evil = "x](http://a.b)\n# head <script>| `" + "y" * 10_000
    card = {"name": "t", "version": 1, "parameters": {}, "licence_weights": "CC-BY-NC-4.0", "citation": evil}
    meta = example_meta(card=card, dataset={"name": evil, "licence": "CC-BY-4.0"})
    path = tmp_path / f"s.{suffix}"
    write_store(path, meta=meta, clip_id=["a"], features=np.ones((1, 3, 4)), n_frames=np.array([3]))
    with open_store(path) as reader:
        text = card_of(reader)
    assert "strictest: **CC-BY-NC-4.0" in text
    assert "\n# head" not in text
    assert "<script" not in text.replace("\\<script", "")
    assert len(text) < 10_000


def test_texts_are_escaped() -> None:
    assert escaped("a|b\nc [d](e)") == "a\\|b c \\[d\\]\\(e\\)"


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    path = str(GOLDEN / "store_v1.zarr")
    done = CliRunner().invoke(east, ["store", "card", path, "--out", str(tmp_path / "o")])
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in (tmp_path / "o").iterdir()) == ["README.md", "croissant.json"]


def test_no_store_no_card(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no store at"):
        make_cards(str(tmp_path / "none.zarr"))
