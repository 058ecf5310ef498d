"""The clip table: round trips, digests, checks and scores per file."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import ManifestError
from pipeline.manifest import (
    ClipTable,
    by_file,
    check_table,
    clip_id,
    read_table,
    require_valid,
    write_csv,
    write_table,
)


def strings(*values: str) -> Any:
    return np.array([*values, None], dtype=object)[:-1]


def small_table(root: Path) -> ClipTable:
    return ClipTable(
        name="small",
        root=str(root),
        classes=("violin", "path"),
        task="multi-label",
        clip_s=10.0,
        clip_id=strings("a.wav@0", "a.wav@10000", 'b "x",\n1.wav@0', "ü.wav@0"),
        path=strings("a.wav", "a.wav", 'b "x",\n1.wav', "u\u0308.wav"),
        split=strings("train", "train", "valid", "test"),
        group=strings("a", "a", "b", "c"),
        start_s=np.array([0.0, 10.0, 0.0, 0.0]),
        duration_s=np.array([10.0, 2.5, 10.0, 1 / 3]),
        labels=np.array([[1, 0], [0, -1], [1, 1], [-1, 0]], dtype=np.int8),
        card={"licence": "CC0", "citation": "none"},
    )


def large_table(n_clips: int, n_classes: int) -> ClipTable:
    rng = np.random.default_rng(0)
    numbers = np.arange(n_clips)
    paths = [f"audio/{number // 10:07d}.flac" for number in numbers]
    starts = (numbers % 10) * 10.0
    return ClipTable(
        name="large",
        root="audio",
        classes=tuple(f"class{index}" for index in range(n_classes)),
        task="multi-label",
        clip_s=10.0,
        clip_id=strings(*map(clip_id, paths, starts)),
        path=strings(*paths),
        split=strings(*(("train", "valid", "test")[number // 10 % 3] for number in numbers)),
        group=strings(*paths),
        start_s=starts,
        duration_s=np.full(n_clips, 10.0),
        labels=rng.integers(-1, 2, (n_clips, n_classes), dtype=np.int8),
    )


def assert_same(one: ClipTable, other: ClipTable) -> None:
    assert one.digest() == other.digest()
    assert (one.name, one.classes, one.task, one.clip_s, one.card) == (
        other.name,
        other.classes,
        other.task,
        other.clip_s,
        other.card,
    )
    assert Path(one.root).resolve() == Path(other.root).resolve()


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    table = small_table(tmp_path / "audio")
    path = tmp_path / f"clips{suffix}"
    (write_table if suffix == ".parquet" else write_csv)(table, path)
    assert_same(read_table(path), table)


def test_root_moves_with_the_folder(tmp_path: Path) -> None:
    write_table(small_table(tmp_path / "one" / "audio"), tmp_path / "one" / "clips.parquet")
    (tmp_path / "one").rename(tmp_path / "two")
    assert Path(read_table(tmp_path / "two" / "clips.parquet").root) == tmp_path / "two" / "audio"


def test_root_elsewhere_and_address_are_kept(tmp_path: Path) -> None:
    table = small_table(tmp_path / "elsewhere")
    write_table(table, tmp_path / "one" / "clips.parquet")
    assert read_table(tmp_path / "one" / "clips.parquet").root == str(tmp_path / "elsewhere")
    write_table(replace(table, root="s3://bucket/audio"), tmp_path / "clips.parquet")
    assert read_table(tmp_path / "clips.parquet").audio_path(0) == "s3://bucket/audio/a.wav"


def test_digest_sees_every_column_but_not_the_root(tmp_path: Path) -> None:
    table = small_table(tmp_path)
    assert replace(table, root="/elsewhere").digest() == table.digest()
    changed = {
        "clip_id": strings("x", *table.clip_id[1:]),
        "path": strings("x", *table.path[1:]),
        "split": strings("valid", *table.split[1:]),
        "group": strings("x", *table.group[1:]),
        "start_s": table.start_s + 1,
        "duration_s": table.duration_s / 2,
        "labels": -table.labels,
        "classes": ("violin", "cello"),
        "task": "single-label",
        "clip_s": 11.0,
    }
    digests = {replace(table, **{name: value}).digest() for name, value in changed.items()}
    assert len(digests | {table.digest()}) == len(changed) + 1


def test_select_splits_labelled(tmp_path: Path) -> None:
    table = small_table(tmp_path)
    assert table.splits() == ("train", "valid", "test")
    assert table.select(table.split == "train").clip_id.tolist() == ["a.wav@0", "a.wav@10000"]
    assert table.select(np.array([3, 0])).clip_id.tolist() == ["ü.wav@0", "a.wav@0"]
    assert replace(table, labels=np.array([[-1, -1]] * 3 + [[0, -1]], np.int8)).labelled().tolist() == [0, 0, 0, 1]


def test_ids_are_nfc_with_milliseconds() -> None:
    assert clip_id("u\u0308/a.wav", 1.2345) == "\u00fc/a.wav@1234"
    assert clip_id("a.wav", 0.1 + 0.2) == "a.wav@300"


def test_scores_per_file(tmp_path: Path) -> None:
    table = small_table(tmp_path)
    paths, scores, labels = by_file(table, np.array([[0.0, 1.0], [1.0, 0.0], [0.2, 0.2], [0.3, 0.4]]))
    assert paths.tolist() == ["a.wav", 'b "x",\n1.wav', "u\u0308.wav"]
    np.testing.assert_allclose(scores, [[0.5, 0.5], [0.2, 0.2], [0.3, 0.4]])
    assert labels.tolist() == [[1, 0], [1, 1], [-1, 0]]


def test_valid_table_has_no_problems(tmp_path: Path) -> None:
    table = small_table(tmp_path)
    for path in set(table.path):
        (tmp_path / path).touch()
    assert check_table(table, audio=True) == []
    require_valid(table, audio=True)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("duplicate-id", {"clip_id": strings("a", "a", "b", "c")}),
        ("blank-id", {"clip_id": strings("", "a", "b", "c")}),
        ("duplicate-class", {"classes": ("violin", "violin")}),
        ("task", {"task": "regression"}),
        ("path", {"path": strings("a", "../b", "c", "d")}),
        ("path", {"path": strings("a", "b", "/etc/passwd", "d")}),
        ("clip-length", {"clip_s": float("nan")}),
        ("not-finite", {"start_s": np.array([0, np.nan, 0, 0])}),
        ("not-finite", {"duration_s": np.array([1, np.inf, 1, 1])}),
        ("start", {"start_s": np.array([0, -1.0, 0, 0])}),
        ("duration", {"duration_s": np.array([0, 1.0, 1, 1])}),
        ("too-long", {"duration_s": np.array([10.1, 1.0, 1, 1])}),
        ("label", {"labels": np.array([[2, 0]] * 4, np.int8)}),
        ("single-label", {"labels": np.array([[1, 1]] * 4, np.int8), "task": "single-label"}),
        ("no-split", {"split": strings("train", "", "valid", "test")}),
        ("no-train", {"split": strings("valid", "valid", "valid", "test")}),
        ("unlabelled-split", {"labels": np.array([[1, 0]] * 3 + [[-1, -1]], np.int8)}),
        ("group", {"group": strings("a", "a", "a", "c")}),
    ],
)
def test_each_defect_is_named(tmp_path: Path, kind: str, change: dict[str, Any]) -> None:
    assert kind in {problem.kind for problem in check_table(replace(small_table(tmp_path), **change))}


def test_test_sets_may_share_groups(tmp_path: Path) -> None:
    table = small_table(tmp_path)
    shared = replace(table, split=strings("train", "train", "test", "test-unseen"), group=strings("a", "a", "b", "b"))
    assert check_table(shared) == []


def test_clips_that_nobody_labelled_need_no_train_split(tmp_path: Path) -> None:
    table = replace(small_table(tmp_path), split=strings(*["unlabelled"] * 4), labels=np.full((4, 2), -1, np.int8))
    assert check_table(table) == []


def test_all_defects_come_in_one_message(tmp_path: Path) -> None:
    table = replace(small_table(tmp_path), clip_id=strings("a", "a", "b", "c"), clip_s=-1.0)
    with pytest.raises(ManifestError, match=r"(?s)'small' has 5 problem.*more than once.*'a'.*clip_s is -1.*not below"):
        require_valid(replace(table, path=strings("a", "b", "c", "..")), audio=True)


def test_empty_table_is_a_problem(tmp_path: Path) -> None:
    table = small_table(tmp_path)
    assert [problem.kind for problem in check_table(table.select(np.array([], dtype=int)))] == ["empty"]


def test_columns_must_agree(tmp_path: Path) -> None:
    table = small_table(tmp_path)
    with pytest.raises(ManifestError, match=r"start_s has shape \(1,\), clip_id has 4"):
        replace(table, start_s=np.zeros(1))
    with pytest.raises(ManifestError, match="4 clips and 1 classes"):
        replace(table, classes=("violin",))


def test_surrogate_names_are_refused_in_words(tmp_path: Path) -> None:
    table = replace(small_table(tmp_path), path=strings("a", "\udcff", "c", "d"))
    with pytest.raises(ManifestError, match="path holds a value that is not valid Unicode"):
        write_table(table, tmp_path / "clips.parquet")
    assert list(tmp_path.iterdir()) == []


def test_csv_without_json_is_guessed(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("path,start_s,duration_s,cat,dog\na.wav,0,4,1,0\na.wav,4,4,0,1\n", "utf-8")
    table = read_table(path)
    assert (table.name, table.task, table.clip_s, table.classes) == ("mine", "single-label", 4.0, ("cat", "dog"))
    assert table.clip_id.tolist() == ["a.wav@0", "a.wav@4000"]
    assert table.audio_path(0) == tmp_path / "a.wav"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"path,label\na.wav,x\n", "lacks the columns duration_s.*east data from"),
        (b"path,duration_s\na.wav,4\n\xe9.wav,4\n", "line 3: byte 0xe9 is not UTF-8"),
        (b"path,duration_s\na.wav,long\n", "row 2, column duration_s: 'long' is not a number"),
        (b"path,duration_s,cat\na.wav,4,yes\n", "row 2, column cat: 'yes' is not a label"),
        (b"path,duration_s,cat,cat\na.wav,4,1,1\n", "names column 'cat' twice"),
        (b"path,duration_s,cat\na.wav,4\n", "not a regular CSV"),
        (b"path;duration_s\na.wav;4\n", "semicolons"),
    ],
)
def test_bad_csv_is_explained(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(ManifestError, match=message):
        read_table(tmp_path / "bad.csv")


def test_unknown_class_column_is_named(tmp_path: Path) -> None:
    table = replace(small_table(tmp_path), classes=("violin", "cello"))
    write_csv(table, tmp_path / "clips.csv")
    beside = tmp_path / "clips.csv.json"
    beside.write_text(json.dumps(json.loads(beside.read_text("utf-8")) | {"classes": ["violin", "flute"]}), "utf-8")
    with pytest.raises(ManifestError, match=r"Unknown classes in the CSV: \['cello'\]; absent from it: \['flute'\]"):
        read_table(tmp_path / "clips.csv")


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no clip table at"):
        read_table(tmp_path / "absent.parquet")
    (tmp_path / "text.txt").write_text("path")
    with pytest.raises(ManifestError, match=r"neither \.parquet nor \.csv"):
        read_table(tmp_path / "text.txt")
    (tmp_path / "half.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ManifestError, match="cannot be read as a clip table"):
        read_table(tmp_path / "half.parquet")
    pq.write_table(pa.table({"path": ["a.wav"]}), tmp_path / "other.parquet")
    with pytest.raises(ManifestError, match="no 'east' metadata"):
        read_table(tmp_path / "other.parquet")


def test_other_versions_and_absent_columns_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "clips.parquet"
    write_table(small_table(tmp_path), path)
    arrow = pq.read_table(path)
    pq.write_table(arrow.drop_columns(["label:violin"]), path)
    with pytest.raises(ManifestError, match="lacks the columns label:violin"):
        read_table(path)
    about = json.loads(arrow.schema.metadata[b"east"]) | {"format_version": 9}
    pq.write_table(arrow.replace_schema_metadata({b"east": json.dumps(about).encode()}), path)
    with pytest.raises(ManifestError, match="format version 9; this program reads 1"):
        read_table(path)


def round_trip_s(path: Path, table: ClipTable) -> float:
    write_table(table, path)
    start = time.perf_counter()
    read = read_table(path)
    assert check_table(read) == []
    assert read.digest() == table.digest()
    return time.perf_counter() - start


def test_hundred_thousand_clips(tmp_path: Path) -> None:
    assert round_trip_s(tmp_path / "clips.parquet", large_table(100_000, 20)) < 10


@pytest.mark.slow
def test_million_clips(tmp_path: Path) -> None:
    assert round_trip_s(tmp_path / "clips.parquet", large_table(1_000_000, 50)) < 60
