from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import StoreError
from pipeline.stores.journal import JOURNAL, Journal, ShardRecord, parse_line, read_journal

CLIPS = 4


def make(shard: int) -> ShardRecord:
    digests = np.random.default_rng(shard).integers(0, 256, (3, CLIPS, 32)).astype(np.uint8)
    return ShardRecord(
        shard, shard * CLIPS, f"{shard:064x}", np.arange(CLIPS, dtype=np.int32), np.array([1, 2, 1, 1], np.uint8),
        ("", "truncated: Ä 音 \n \"quoted\"", "", "short: 1 of 2"), *digests,
    )  # fmt: skip


def same(left: ShardRecord, right: ShardRecord) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in ShardRecord.__dataclass_fields__)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "features").mkdir()
    return tmp_path


def fill(folder: Path, *shards: int) -> None:
    journal = Journal(folder)
    for shard in shards:
        journal.append(make(shard))
    journal.close()


def shards(folder: Path) -> list[int]:
    return [record.shard for record in read_journal(folder)]


def test_records_come_back_as_they_were(folder: Path) -> None:
    fill(folder, 0, 5)
    found = list(read_journal(folder))
    assert same(found[0], make(0))
    assert same(found[1], make(5))
    assert found[1].rows == slice(20, 24)


def test_each_line_is_there_as_soon_as_it_is_appended(folder: Path) -> None:
    journal = Journal(folder)
    for shard in range(3):
        journal.append(make(shard))
        assert shards(folder) == list(range(shard + 1))
    journal.close()


def test_torn_last_line_is_dropped_and_not_continued(folder: Path) -> None:
    fill(folder, 0, 1)
    content = (folder / JOURNAL).read_bytes()
    for keep in range(len(content) - 1, len(content) // 2, -37):
        (folder / JOURNAL).write_bytes(content[:keep])
        assert shards(folder) == [0]
        fill(folder, 7)
        assert shards(folder) == [0, 7]


@pytest.mark.parametrize("line", [b"", b"{}", b"[1]", b"null", b"\xff\xfe", b'{"shard": 1}', b"[" * 5_000, bytes(40)])
def test_what_follows_a_damaged_line_does_not_count(folder: Path, line: bytes) -> None:
    fill(folder, 0, 1)
    first, second = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    (folder / JOURNAL).write_bytes(first + line + b"\n" + second)
    assert shards(folder) == [0]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"state":[1,', '"state":[7,', "contradicts itself"),
        ('"state":[1,', '"state":[0,', "contradicts itself"),
        ('"state":[1,', '"state":[300,', "damaged"),
        ('"n_frames":[0,', '"n_frames":[', "contradicts itself"),
        ('"first_row":8', '"first_row":-8', "contradicts itself"),
        ('"sha256":"0', '"sha256":"../', "contradicts itself"),
        ('"failure":{', '"failure":[{', "damaged"),
    ],
)
def test_lines_that_contradict_themselves_are_refused(old: str, new: str, words: str) -> None:
    line = make(2).line()
    assert old in line
    with pytest.raises(StoreError, match=words):
        parse_line(line.replace(old, new))


def test_cleared_and_closed_leaves_no_file(folder: Path) -> None:
    journal = Journal(folder)
    journal.append(make(0))
    journal.clear()
    assert shards(folder) == []
    journal.append(make(3))
    assert shards(folder) == [3]
    journal.clear()
    journal.close()
    assert not (folder / JOURNAL).exists()


def test_absent_journal_is_empty(folder: Path) -> None:
    assert shards(folder) == []
