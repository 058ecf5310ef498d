"""Own audio: layouts, cutting, splits, awkward names and broken files, and what DATA= resolves to."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline import layout
from pipeline.datasets.own import cut, table_from
from pipeline.datasets.resolve import build_dataset, list_made, load, make_own, resolve
from pipeline.datasets.scan import fingerprint
from pipeline.datasets.splits import deal_splits
from pipeline.errors import ManifestError, SettingError, UnknownNameError
from pipeline.events import Event, TaskAdvanced, Warned
from pipeline.manifest import check_table, read_table, require_valid, write_csv, write_table
from pipeline.manifest.table import strings

RATE_HZ = 8000


def tone(path: Path, duration_s: float = 1.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(duration_s * RATE_HZ)) / RATE_HZ
    soundfile.write(path, 0.1 * np.sin(2 * np.pi * 440 * times), RATE_HZ, format=path.suffix[1:].upper())
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("length_s", "hop_s", "last", "expected"),
    [
        (25, 10, "pad", [(0, 10), (10, 10), (20, 5)]),
        (25, 10, "drop", [(0, 10), (10, 10)]),
        (20, 10, "pad", [(0, 10), (10, 10)]),
        (20.3, 10, "pad", [(0, 10), (10, 10)]),
        (4, 10, "pad", [(0, 4)]),
        (4, 10, "drop", [(0, 4)]),
        (0.2, 10, "pad", [(0, 0.2)]),
        (22, 5, "pad", [(0, 10), (5, 10), (10, 10), (15, 7)]),
        (20, 5, "pad", [(0, 10), (5, 10), (10, 10)]),
        (15, 20, "pad", [(0, 10)]),
        (25, 20, "pad", [(0, 10), (20, 5)]),
        (30 - 1e-9, 10, "pad", [(0, 10), (10, 10), (20, 10)]),
    ],
)
def test_cut(length_s: float, hop_s: float, last: str, expected: list[tuple[float, float]]) -> None:
    _, starts, durations = cut(np.array([0.0]), np.array([float(length_s)]), clip_s=10, hop_s=hop_s, last=last)  # type: ignore[arg-type]
    np.testing.assert_allclose(list(zip(starts, durations, strict=True)), expected, atol=1e-6)


def test_cut_keeps_the_order_and_offsets() -> None:
    row, starts, _ = cut(np.array([3.0, 100.0]), np.array([25.0, 105.0]), clip_s=10, hop_s=10, last="pad")
    assert (row.tolist(), starts.tolist()) == ([0, 0, 0, 1], [3, 13, 23, 100])


def test_folder_per_class(tmp_path: Path) -> None:
    for name in ("rock", "jazz"):
        for number in range(10):
            tone(tmp_path / "genres" / name / "cd 1" / f"{number}.wav", 2.5)
    table = table_from(tmp_path / "genres", clip_s=1.0)
    assert (table.name, table.classes, table.task) == ("genres", ("jazz", "rock"), "single-label")
    assert len(table) == 60
    assert table.clip_id[:3].tolist() == ["jazz/cd 1/0.wav@0", "jazz/cd 1/0.wav@1000", "jazz/cd 1/0.wav@2000"]
    assert table.duration_s[:3].tolist() == [1.0, 1.0, 0.5]
    assert table.labels[0].tolist() == [1, 0]
    assert check_table(table, audio=True) == []
    for split, n_files in (("train", 16), ("valid", 2), ("test", 2)):
        part = table.select(table.split == split)
        assert len(set(part.path)) == n_files
        assert part.labels.sum(axis=0).tolist() == [3 * n_files // 2] * 2
    assert table_from(tmp_path / "genres", clip_s=1.0).digest() == table.digest()
    assert table_from(tmp_path / "genres", clip_s=1.0, seed=1).digest() != table.digest()


def test_folder_without_labels(tmp_path: Path) -> None:
    tone(tmp_path / "all" / "one" / "a.wav")
    tone(tmp_path / "all" / "b.flac")
    tone(tmp_path / "all" / "two" / "c.OGG")
    table = table_from(tmp_path / "all", split_ratios=None)
    assert (table.classes, table.splits(), table.path.tolist()) == ((), (), ["b.flac", "one/a.wav", "two/c.OGG"])


def test_one_subfolder_is_no_class(tmp_path: Path) -> None:
    tone(tmp_path / "all" / "album" / "a.wav")
    assert table_from(tmp_path / "all").classes == ()


def test_folders_named_as_splits(tmp_path: Path) -> None:
    for split in ("train", "validation", "test"):
        for name in ("cat", "dog"):
            tone(tmp_path / "pets" / split / name / "a.wav")
    table = table_from(tmp_path / "pets")
    assert (table.classes, table.splits()) == (("cat", "dog"), ("train", "valid", "test"))
    require_valid(table)


def test_a_folder_of_unlabelled_clips_beside_the_splits(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        for name in ("cat", "dog"):
            tone(tmp_path / "pets" / split / name / f"{split}.wav")
    tone(tmp_path / "pets" / "unlabelled" / "one.wav")
    tone(tmp_path / "pets" / "unlabelled" / "street" / "two.wav")
    table = table_from(tmp_path / "pets", clip_s=1)
    unlabelled = table.split == "unlabelled"
    assert table.classes == ("cat", "dog")
    assert table.path[unlabelled].tolist() == ["unlabelled/one.wav", "unlabelled/street/two.wav"]
    assert (table.labels[unlabelled] == -1).all()
    assert (table.labels[~unlabelled] != -1).all()
    assert not check_table(table, audio=True)


def test_awkward_names(tmp_path: Path) -> None:
    names = [
        'a "quoted" one.wav',
        "line\nbreak.wav",
        "-dash.wav",
        "comma, semi;.wav",
        "u\u0308ber.wav",
        "日本.wav",
        "%20.wav",
    ]
    for name in names:
        tone(tmp_path / "odd" / name)
    tone(tmp_path / "odd" / "._resource.wav")
    (tmp_path / "odd" / "notes.txt").write_text("not audio")
    table = table_from(tmp_path / "odd")
    assert sorted(table.path) == sorted(names)
    assert "\u00fcber.wav@0" in table.clip_id
    assert all(Path(table.audio_path(row)).is_file() for row in range(len(table)))
    for write, path in ((write_table, tmp_path / "t.parquet"), (write_csv, tmp_path / "t.csv")):
        write(table, path)
        assert read_table(path).digest() == table.digest()


def test_names_that_are_not_text_are_left_out_aloud(tmp_path: Path) -> None:
    tone(tmp_path / "odd" / "good.wav")
    bad = os.fsencode(tmp_path / "odd") + b"/bad\xff.wav"
    try:
        os.close(os.open(bad, os.O_CREAT | os.O_WRONLY))
    except OSError:
        pytest.skip("this file system takes no such names")
    events: list[Event] = []
    assert table_from(tmp_path / "odd", listener=events.append).path.tolist() == ["good.wav"]
    assert any(isinstance(event, Warned) and "1 files have names that are not UTF-8" in event.text for event in events)


def test_broken_files_are_rows_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    tone(folder / "good.wav", 3)
    (folder / "empty.wav").touch()
    (folder / "text.mp3").write_text("this is not audio")
    (folder / "gone.flac").symlink_to(tmp_path / "nowhere.flac")
    events: list[Event] = []
    table = table_from(folder, clip_s=2.0, listener=events.append)
    assert Counter(table.path) == {"good.wav": 2, "empty.wav": 1, "text.mp3": 1, "gone.flac": 1}
    row = table.path.tolist().index("gone.flac")
    assert (table.start_s[row], table.duration_s[row]) == (0.0, 2.0)
    warned = [event.text for event in events if isinstance(event, Warned)]
    assert len(warned) == 1
    assert warned[0].startswith("3 files cannot be read")
    assert "1 missing" in warned[0]
    assert "1 empty" in warned[0]
    assert sum(event.amount for event in events if isinstance(event, TaskAdvanced)) == 4


def test_links_to_folders_and_loops(tmp_path: Path) -> None:
    tone(tmp_path / "real" / "a.wav")
    folder = tmp_path / "linked"
    for name in ("one", "two"):
        folder.mkdir(exist_ok=True)
        (folder / name).symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(folder)
    assert sorted(table_from(folder).path) == ["one/a.wav", "two/a.wav"]


def test_csv_with_labels_groups_and_times(tmp_path: Path) -> None:
    tone(tmp_path / "audio" / "a.wav", 6)
    tone(tmp_path / "audio" / "b.wav", 6)
    (tmp_path / "mine.csv").write_bytes(
        "\ufeffpath,label,split,group,start,duration\r\n"
        "audio/a.wav,cat,train,x,1,4\r\n"
        "audio/a.wav,dog,Training,x,5,\r\n"
        "./audio/b.wav,,unlabelled,,,\r\n".encode()
    )
    table = table_from(tmp_path / "mine.csv", clip_s=3.0)
    assert table.start_s.tolist() == [1, 4, 5, 0, 3]
    assert table.duration_s.tolist() == [3, 1, 1, 3, 3]
    assert table.group.tolist() == ["x", "x", "x", "audio/b.wav", "audio/b.wav"]
    assert table.split.tolist() == ["train"] * 3 + ["unlabelled"] * 2
    assert table.labels.tolist() == [[1, 0], [1, 0], [0, 1], [-1, -1], [-1, -1]]


def test_csv_with_class_columns_and_absolute_paths(tmp_path: Path) -> None:
    one, other = tone(tmp_path / "x" / "a.wav"), tone(tmp_path / "x" / "y" / "b.wav")
    (tmp_path / "mine.csv").write_text(f"path,cat,dog\n{one},1,0\n{other},,1\n", "utf-8")
    table = table_from(tmp_path / "mine.csv", split_ratios=None)
    assert (table.root, table.path.tolist()) == (str(tmp_path / "x"), ["a.wav", "y/b.wav"])
    assert (table.task, table.labels.tolist()) == ("multi-label", [[1, 0], [-1, 1]])
    assert table.clip_id.tolist() == ["a.wav@0", "y/b.wav@0"]


def test_csv_accents_in_the_other_spelling(tmp_path: Path) -> None:
    tone(tmp_path / unicodedata.normalize("NFD", "grün.wav"))
    (tmp_path / "mine.csv").write_text("path\n" + unicodedata.normalize("NFC", "grün.wav") + "\n", "utf-8")
    assert check_table(table_from(tmp_path / "mine.csv"), audio=True) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,label\na.wav,x\n", "no column 'path', only 'file', 'label'"),
        ("path,label,mood\na.wav,x,1\n", "column 'label' and also 'mood'"),
        ("path,mood\na.wav,happy\n", "'happy' is not a label"),
        ("path,start\na.wav,soon\n", "column start: 'soon' is not a number"),
        ("path\n../a.wav\n", "path leads out of the root"),
        ("path,split,label\na.wav,train,x\na.wav,test,x\n", "more than once"),
        ("path,split,start,duration\na.wav,train,0,1\na.wav,test,5,1\n", "group lies in two splits"),
    ],
)
def test_bad_csv_is_explained(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bad.csv").write_text(content, "utf-8")
    tone(tmp_path / "a.wav")
    with pytest.raises(ManifestError, match=message):
        table_from(tmp_path / "bad.csv")


def test_nothing_to_read_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="holds no audio files"):
        table_from(tmp_path)
    with pytest.raises(ManifestError, match="no folder or CSV at"):
        table_from(tmp_path / "absent")
    with pytest.raises(ManifestError, match="is a file; give the folder"):
        table_from(tone(tmp_path / "a.wav"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_s": 0.0}, "clip length is 0.0 s"),
        ({"hop_s": float("nan")}, "hop is nan s"),
        ({"last": "cut"}, "'pad' or 'drop'"),
        ({"split_ratios": {"train": 0.5, "test": 0.4}}, "add up to 1"),
    ],
)
def test_settings_that_cannot_be(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    tone(tmp_path / "a.wav")
    with pytest.raises(SettingError, match=message):
        table_from(tmp_path, **settings)  # type: ignore[arg-type]


def test_splits_keep_groups_whole_and_move_little() -> None:
    groups = strings(f"song {number // 3}" for number in range(300))
    ratios = {"train": 0.8, "valid": 0.1, "test": 0.1}
    split = deal_splits(groups, np.zeros(300, dtype=np.int64), ratios=ratios, seed=0)
    assert Counter(split) == {"train": 240, "valid": 30, "test": 30}
    assert all(len(set(split[groups == name])) == 1 for name in set(groups))
    more = strings([*groups, "song 200"])
    again = deal_splits(more, np.zeros(301, dtype=np.int64), ratios=ratios, seed=0)
    assert (again[:300] != split).mean() < 0.05


def test_small_strata_still_reach_every_split() -> None:
    split = deal_splits(
        strings("abc"), np.zeros(3, dtype=np.int64), ratios={"train": 0.8, "valid": 0.1, "test": 0.1}, seed=0
    )
    assert sorted(split) == ["test", "train", "valid"]
    one = deal_splits(strings("a"), np.zeros(1, dtype=np.int64), ratios={"train": 0.5, "test": 0.5}, seed=0)
    assert one.tolist() == ["train"]


def test_resolve_makes_a_folder_once_and_again_when_it_changes(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "music"
    tone(folder / "a.wav", 2)
    table, path = resolve(str(folder))
    assert (path, len(table)) == (home / "music" / "clips.parquet", 1)
    stamp = path.stat().st_mtime_ns
    assert resolve(str(folder))[0].digest() == table.digest()
    assert path.stat().st_mtime_ns == stamp
    tone(folder / "b.wav", 2)
    assert len(resolve(str(folder))[0]) == 2
    assert list_made() == ["music"]
    assert load("music")[1] == path


def test_resolve_keeps_the_settings_of_a_table(home: Path, tmp_path: Path) -> None:
    tone(tmp_path / "music" / "a.wav", 2)
    make_own(tmp_path / "music", clip_s=0.5, split_ratios=None)
    tone(tmp_path / "music" / "b.wav", 2)
    table, _ = resolve("music")
    assert (len(table), table.clip_s, table.splits()) == (8, 0.5, ())


def test_resolve_takes_tables_and_csv(home: Path, tmp_path: Path) -> None:
    tone(tmp_path / "music" / "a.wav", 2)
    table, path = resolve("music")
    assert resolve(str(path))[1] == path
    assert resolve(str(path.parent))[1] == path
    write_csv(table, tmp_path / "clips.csv")
    assert resolve("clips.csv")[0].digest() == table.digest()
    (tmp_path / "list.csv").write_text("path,label\nmusic/a.wav,x\n", "utf-8")
    assert resolve("list.csv")[1] == home / "list" / "clips.parquet"
    (tmp_path / "music" / "a.wav").unlink()
    (tmp_path / "music").rmdir()
    assert resolve("music")[1] == path


def test_a_name_taken_by_other_audio_is_refused(home: Path, tmp_path: Path) -> None:
    tone(tmp_path / "one" / "music" / "a.wav")
    tone(tmp_path / "two" / "music" / "a.wav")
    resolve("one/music")
    with pytest.raises(ManifestError, match=r"(?s)is there already, for the audio in .*one.*--name NAME"):
        resolve("two/music")
    with pytest.raises(ManifestError, match="is the name of a dataset of this project"):
        make_own(tmp_path / "one" / "music", name="chorales")


def test_what_cannot_be_resolved_is_explained(home: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'chorales'"):
        resolve("chorale")
    with pytest.raises(ManifestError, match="There is nothing at some/where"):
        resolve("some/where")
    with pytest.raises(ManifestError, match="no clip table at"):
        resolve("absent.parquet")
    with pytest.raises(ManifestError, match="no clip table at"):
        load("absent")
    with pytest.raises(UnknownNameError, match="no dataset named 'nothing'"):
        build_dataset("nothing")
    with pytest.raises(SettingError, match="leave the folder out"):
        build_dataset("chorales", folder=home)


def test_fingerprint_sees_names_and_sizes(tmp_path: Path) -> None:
    tone(tmp_path / "a" / "a.wav", 1)
    first = fingerprint(tmp_path / "a")
    (tmp_path / "a" / "notes.txt").touch()
    assert fingerprint(tmp_path / "a") == first
    tone(tmp_path / "a" / "a.wav", 2)
    assert fingerprint(tmp_path / "a") != first
