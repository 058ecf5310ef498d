"""A labelled dataset and clips of elsewhere as one table, and what stages one and two make of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from extracting import run, table_of, write_clips

from pipeline import layout
from pipeline.datasets.joining import join, join_tables
from pipeline.errors import SettingError
from pipeline.events import Event, Warned
from pipeline.manifest import ClipTable, check_table, read_table, write_table
from pipeline.manifest.table import strings

SPLITS = ("train", "train", "train", "valid", "test")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EAST_PLUGINS", "plugins")


@pytest.fixture
def labelled(tmp_path: Path) -> ClipTable:
    table = table_of(write_clips(tmp_path / "ours", len(SPLITS)), tmp_path / "ours", name="ours")
    labels = np.array([[1, 0], [0, 1], [1, 1], [1, 0], [0, 1]], np.int8)
    made = replace(table, classes=("a", "b"), labels=labels, split=strings(*[SPLITS]), card={"licence": "CC-BY-4.0"})
    write_table(made, layout.table_path("ours"))
    return made


def test_clips_of_a_folder_are_trained_on_without_labels(tmp_path: Path, labelled: ClipTable) -> None:
    for old in write_clips(tmp_path / "pool", 9)[:5]:  # the first are the very audio of ours
        old.unlink()
    table, path = join("ours", [str(tmp_path / "pool")], name="more")
    assert path == layout.table_path("more")
    again = read_table(path)
    assert check_table(again, audio=True) == []
    assert again.root == str(tmp_path)
    own, other = again.select(np.arange(5)), again.select(np.arange(5, len(again)))
    assert own.clip_id.tolist() == labelled.clip_id.tolist()
    assert own.path.tolist() == [f"ours/{name}" for name in labelled.path]
    np.testing.assert_array_equal(own.labels, labelled.labels)
    assert set(other.split) == {"unlabelled"}
    assert (other.labels == -1).all()
    assert all(clip_id.startswith("pool/") for clip_id in other.clip_id)
    assert {path.rpartition("/")[0] for path in other.path} == {"pool"}
    assert again.card["licence"] == "unknown"  # nobody said that of the folder
    assert run(labelled, "fake/frames", preflight=False).n_done == 5
    before = layout.store_path("ours", "fake", "frames").parent.parent
    assert run(again, "fake/frames", reuse=(str(before),), preflight=False).n_copied == 5
    assert join("ours", [str(tmp_path / "pool")], name="more")[0].digest() == table.digest()


def test_only_some_are_drawn_and_the_same_for_a_seed(tmp_path: Path, labelled: ClipTable) -> None:
    pools = [table_of(write_clips(tmp_path / name, 6), tmp_path / name, name=name) for name in ("p", "q")]
    some = join_tables(labelled, pools, name="more", limit=5, seed=3)
    assert (some.split == "unlabelled").sum() == 5
    assert some.clip_id.tolist() == join_tables(labelled, pools, name="more", limit=5, seed=3).clip_id.tolist()
    assert some.clip_id.tolist() != join_tables(labelled, pools, name="more", limit=5, seed=4).clip_id.tolist()
    order = [clip_id for clip_id in join_tables(labelled, pools, name="all").clip_id if clip_id in set(some.clip_id)]
    assert some.clip_id.tolist() == order
    assert some.card["joined"]["tables"][1] == {"name": "p", "digest": pools[0].digest(), "clips": 6}


def test_files_that_judge_are_not_trained_on(tmp_path: Path, labelled: ClipTable) -> None:
    write_clips(tmp_path / "ours" / "new", 2)
    said: list[Event] = []
    table, _ = join("ours", [str(tmp_path / "ours")], name="more", listener=said.append)
    assert (table.split == "unlabelled").sum() == 2
    assert [event.text for event in said if isinstance(event, Warned)] == [
        "5 clips of ours are of files that are in ours, too, and left out."
    ]


def test_addresses_meet_at_their_common_part(labelled: ClipTable) -> None:
    ours, pool = (replace(labelled, root=root) for root in ("s3://bucket/a/audio", "s3://bucket/a/more/"))
    table = join_tables(ours, [replace(pool, name="pool")], name="more")
    assert table.root == "s3://bucket/a"
    assert {path.partition("/")[0] for path in table.path} == {"audio", "more"}
    for root in ("s3://other/a", "/srv/a"):
        with pytest.raises(SettingError, match="nothing in common: s3://bucket/a/audio, "):
            join_tables(ours, [replace(pool, name="pool", root=root)], name="more")


def test_what_cannot_be_joined_is_said(tmp_path: Path, labelled: ClipTable) -> None:
    pool = replace(labelled, name="pool", root=str(tmp_path / "pool"))
    with pytest.raises(SettingError, match=r"Clips of 'pool' have 2.5 s and those of 'ours' .*--clip-s"):
        join_tables(labelled, [replace(pool, clip_s=2.5)], name="more")
    with pytest.raises(SettingError, match="'ours' has no splits"):
        join_tables(replace(labelled, split=np.full(5, "", object)), [pool], name="more")
    with pytest.raises(SettingError, match="Two of the datasets to join are named 'pool'"):
        join_tables(labelled, [pool, pool], name="more")
    for name in ("ours", "openmic"):
        with pytest.raises(SettingError, match=f"--name {name} is the name of another dataset"):
            join("ours", [str(layout.table_path("ours"))], name=name)
