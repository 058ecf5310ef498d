"""MagnaTagATune from a small tree in its exact layout: both splits, tags, damage, and on to training."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets_trees import MagnaTagATune

from cli import main
from pipeline import layout
from pipeline.datasets.magnatagatune_card import CLASSES
from pipeline.datasets.resolve import build_dataset, load
from pipeline.errors import ManifestError, SettingError
from pipeline.events import Event, Warned
from pipeline.manifest import ClipTable, check_table

FULL, CLEAN = "magnatagatune", "magnatagatune-clean"


def east(*arguments: str) -> int:
    try:
        main(["-q", *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MagnaTagATune(tmp_path_factory.mktemp("pristine") / "mtat").write()


@pytest.fixture
def tree(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MagnaTagATune:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return MagnaTagATune(shutil.copytree(pristine, tmp_path / "mtat"))


def made(tree: MagnaTagATune, name: str = FULL, **options: str) -> tuple[ClipTable, list[str]]:
    events: list[Event] = []
    table, _ = build_dataset(name, folder=tree.root, options=options, listener=events.append)
    return table, [event.text for event in events if isinstance(event, Warned)]


def lists_of(tree: MagnaTagATune) -> dict[str, list[int]]:
    """The clean split of the tree: of the full one, the rows with a tag."""
    of_folder = dict.fromkeys("0123456789ab", "train") | {"c": "valid"} | dict.fromkeys("def", "test")
    rows: dict[str, list[int]] = {"train": [], "valid": [], "test": []}
    for row, path in enumerate(tree.paths):
        if tree.labels[row, :50].any():
            rows[of_folder[path[0]]].append(row)
    return rows


def test_the_full_split_is_by_folder(tree: MagnaTagATune, capsys: pytest.CaptureFixture[str]) -> None:
    assert east("data", "build", FULL, "--folder", "mtat") == 0
    assert Path(capsys.readouterr().out.strip()) == layout.table_path(FULL)
    table, _ = load(FULL)
    assert (len(table), table.clip_s) == (64, 29.1)
    for split, folders in (("train", "0123456789ab"), ("valid", "c"), ("test", "def")):
        assert {path[0] for path in table.path[table.split == split]} == set(folders)
    assert table.clip_id.tolist() == tree.ids
    assert set(table.group) == {f"artist B\ufffdnd {number}" for number in range(16)}  # the table of clips is latin-1
    assert table.card["split"] == "full"
    assert not check_table(table, audio=True)
    assert east("data", "show", FULL) == 0
    assert "full split: folders 0 to b train" in capsys.readouterr().out


def test_classes_are_the_most_frequent_tags(tree: MagnaTagATune) -> None:
    table, said = made(tree)
    counts = tree.labels.sum(0)
    assert set(table.classes) == set(tree.tags[:50])
    found = [counts[tree.tags.index(name)] for name in table.classes]
    assert found == sorted(found, reverse=True)
    columns = [tree.tags.index(name) for name in table.classes]
    assert np.array_equal(table.labels, tree.labels[:, columns])
    assert said == []
    few, _ = made(tree, tags="10")
    assert few.classes == table.classes[:10]
    with pytest.raises(SettingError, match=r"tags is 61, and .* has 60 tags"):
        made(tree, tags="61")


def test_the_published_tags_are_on_the_card() -> None:
    assert (len(CLASSES), len(set(CLASSES))) == (50, 50)
    assert (CLASSES[0], CLASSES[-1]) == ("guitar", "choral")


def _as_npy(file: Path, tree: MagnaTagATune, rows: list[int]) -> None:
    np.save(file.with_suffix(".npy"), [f"{row}\t{tree.paths[row]}" for row in rows])


def _as_text(file: Path, tree: MagnaTagATune, rows: list[int]) -> None:
    lines = [f"./audio/{tree.paths[row].upper()}" for row in rows]
    file.with_suffix(".txt").write_text("\n".join(lines) + "\n")


def _as_tsv(file: Path, tree: MagnaTagATune, rows: list[int]) -> None:
    lines = [f"{tree.ids[row]}\t[0, 1, 0]" for row in rows]
    file.with_name(f"{file.name}_gt_mtt.tsv").write_text("\n".join(lines))


def _as_json_lines(file: Path, tree: MagnaTagATune, rows: list[int]) -> None:
    lines = [json.dumps({"clip_id": int(tree.ids[row]), "audio_path": f"../wav/{tree.ids[row]}.wav"}) for row in rows]
    file.with_name(f"magna_{file.name}.json").write_text("\n".join(lines))


@pytest.mark.parametrize("write", [_as_npy, _as_text, _as_tsv, _as_json_lines])
def test_the_clean_split_is_by_lists(
    tree: MagnaTagATune, write: Callable[[Path, MagnaTagATune, list[int]], None]
) -> None:
    lists = Path("lists")
    lists.mkdir()
    np.save(lists / "y_train_pub.npy", tree.labels)
    for name, rows in lists_of(tree).items():
        write(lists / name, tree, rows)
    table, said = made(tree, CLEAN, lists="lists")
    assert said == []
    assert (table.name, table.card["split"], table.card["left_out"]) == (CLEAN, "clean", 2)
    for name, rows in lists_of(tree).items():
        assert set(table.clip_id[table.split == name]) == {tree.ids[row] for row in rows}
    assert (table.labels == 1).any(axis=1).all()


def test_lists_that_do_not_fit_are_named(tree: MagnaTagATune) -> None:
    with pytest.raises(ManifestError, match=r"mtat has no list of train clips, such as train.npy"):
        made(tree, CLEAN)
    rows = lists_of(tree)
    for name in rows:
        with (tree.root / f"{name}_list_pub.cP").open("wb") as handle:
            pickle.dump([tree.paths[row] for row in rows[name]], handle)
    with pytest.raises(ManifestError, match=r"'train_list_pub.cP' is a pickle, which can run any program and is never"):
        made(tree, CLEAN)
    for name in rows:
        _as_text(tree.root / name, tree, [*rows[name], 1] if name == "train" else rows[name])
    with (tree.root / "test.txt").open("a") as handle:
        handle.write("f/nobody-nothing-01-none-0-29.mp3\n")
    table, said = made(tree, CLEAN)
    assert table.card["remarks"]["untagged"] == {"count": 1, "names": [tree.paths[1]]}
    assert any("1 entries of the lists are no clips of the annotations: 'test.txt: f/nobody" in text for text in said)
    _as_npy(tree.root / "train", tree, rows["train"])
    with pytest.raises(ManifestError, match=r"several lists of train: 'train.npy', 'train.txt'; keep one"):
        made(tree, CLEAN)
    np.save(tree.root / "train.npy", np.array([["a"], None], dtype=object))
    (tree.root / "train.txt").unlink()
    with pytest.raises(ManifestError, match=r"train.npy cannot be read .* is a pickle, which is never loaded"):
        made(tree, CLEAN)
    _as_npy(tree.root / "train", tree, [*rows["train"], rows["valid"][0]])
    with pytest.raises(ManifestError, match=r"1 clips of .*valid.txt are in another list, too: 'c/the_band_12"):
        made(tree, CLEAN)


def test_damaged_audio_is_named_and_counted_and_a_table_is_made(tree: MagnaTagATune) -> None:
    empty = [tree.paths[row] for row in (4, 20, 40)]
    for path in empty:
        (tree.root / path).write_bytes(b"")
    gone, odd = tree.paths[7], tree.paths[9]
    (tree.root / gone).unlink()
    (tree.root / odd).rename(tree.root / odd.replace("song", "SONG"))
    table, said = made(tree)
    assert len(table) == 60
    assert not check_table(table, audio=True)
    remarks = table.card["remarks"]
    assert {kind: found["count"] for kind, found in remarks.items()} == {"empty": 3, "absent": 1, "renamed": 1}
    assert remarks["empty"]["names"] == empty
    assert any(text.startswith(f"{FULL}: 3 audio files have zero bytes and are left out: ") for text in said)
    assert odd.replace("song", "SONG") in table.path


def test_audio_one_folder_below_and_annotations_with_commas(tree: MagnaTagATune) -> None:
    whole, _ = made(tree)
    (tree.root / "mp3").mkdir()
    for folder in tree.folders:
        (tree.root / folder).rename(tree.root / "mp3" / folder)
    file = tree.root / "annotations_final.csv"
    file.write_text(file.read_text().replace("\t", ","))
    (tree.root / "clip_info_final.csv").unlink()
    table, said = made(tree)
    assert Path(table.root).name == "mp3"
    assert np.array_equal(table.labels, whole.labels)
    assert set(table.group) == {f"track {path.rsplit('-', 2)[0]}" for path in tree.paths}
    assert any("64 clips have no artist in clip_info_final.csv" in text for text in said)


def test_odd_cells_are_unknown_and_cut_tables_refused(tree: MagnaTagATune) -> None:
    file = tree.root / "annotations_final.csv"
    text = file.read_text()
    cut = text.split("\n")
    cut[3] = cut[3].replace('"0"', '"?"', 1)
    file.write_text("\n".join(cut))
    table, said = made(tree, tags="60")
    assert (table.labels == -1).sum() == 1
    assert any("1 cells are neither 0 nor 1 and count as unknown: 'clip 12, tag" in line for line in said)
    file.write_text(text[:-40])
    with pytest.raises(ManifestError, match=r"cannot be read as a table: unexpected end of data. Fetch it again"):
        made(tree)
    file.write_text(text.rsplit("\t", 3)[0])
    with pytest.raises(ManifestError, match=r"1 rows do not have the 62 cells of line 1, the first near line 65"):
        made(tree)
    file.write_text("clip_id,path\n1,a.mp3\n")
    with pytest.raises(ManifestError, match="expected clip_id, tags, mp3_path"):
        made(tree)


@pytest.mark.slow
def test_from_the_tree_to_a_trained_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    tree = MagnaTagATune(tmp_path / "mtat", folders="01abcdef")
    tree.write(seconds=29.12)
    (tree.root / tree.paths[3]).write_bytes(b"")
    for name, rows in lists_of(tree).items():
        _as_npy(tree.root / name, tree, rows)
    for name in (FULL, CLEAN):
        assert east("data", "build", name, "--folder", "mtat") == 0
        assert east("extract", "--data", name, "--student", "cnn-small", "--teacher", "none") == 0
        train = ("--data", name, "--loss", "labels", "--steps", "4", "--batch", "8", "--device", "cpu", "--name", "few")
        assert east("train", *train) == 0
        assert (layout.runs_dir(name) / "few" / "run.json").is_file()
