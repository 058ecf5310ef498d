"""OpenMIC-2018 from a small tree in its exact layout: splits, labels, damage, and on to training."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets_trees import OPENMIC_CLASSES, OpenMic

from cli import main
from pipeline import layout
from pipeline.datasets.openmic import build
from pipeline.datasets.openmic_card import OPENMIC
from pipeline.datasets.resolve import build_dataset, load
from pipeline.errors import ManifestError, SettingError
from pipeline.events import Event, Warned
from pipeline.manifest import check_table, read_table
from pipeline.stores import open_store


def east(*arguments: str) -> int:
    try:
        main(["-q", *arguments])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return OpenMic(tmp_path_factory.mktemp("pristine") / "openmic-2018").write()


@pytest.fixture
def tree(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenMic:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return OpenMic(shutil.copytree(pristine, tmp_path / "openmic-2018"))


def warnings_of(run: Callable[..., object], *arguments: object, **options: object) -> list[str]:
    events: list[Event] = []
    run(*arguments, listener=events.append, **options)
    return [event.text for event in events if isinstance(event, Warned)]


def test_the_table_is_the_dataset_s(tree: OpenMic, capsys: pytest.CaptureFixture[str]) -> None:
    assert east("data", "build", "openmic", "--folder", "openmic-2018") == 0
    assert Path(capsys.readouterr().out.strip()) == layout.table_path("openmic")
    table, _ = load("openmic")
    assert table.clip_id.tolist() == sorted(tree.keys)
    assert table.classes == tuple(OPENMIC_CLASSES)
    assert (table.clip_s, set(table.duration_s)) == (10.0, {10.0})
    assert not check_table(table, audio=True)
    test = table.split == "test"
    assert set(table.clip_id[test]) == {key for key in tree.keys if tree.split[key] == "test"}
    assert set(table.split) == {"train", "valid", "test"}
    told = {(key, name): relevance for key, name, relevance in tree.answers}
    for row, key in enumerate(table.clip_id):
        for column, name in enumerate(OPENMIC_CLASSES):
            relevance = told.get((key, name), 0.5)
            expected = -1 if relevance == 0.5 else int(relevance > 0.5)
            assert table.labels[row, column] == expected, (key, name)
    assert (table.card["split"], table.card["licence"], table.card["build"]["seed"]) == ("split01", "CC-BY-4.0", 1223)
    assert east("data", "show", "openmic") == 0
    assert "split01" in capsys.readouterr().out


def test_validation_clips_are_whole_artists_and_follow_from_the_seed(tree: OpenMic) -> None:
    table, _ = build_dataset("openmic", folder=tree.root)
    valid = set(table.clip_id[table.split == "valid"])
    assert len(valid) == 4  # two artists of ten, the nearest to 15 %
    artists = {tree.artist[key] for key in valid}
    assert not artists & {tree.artist[key] for key in table.clip_id[table.split != "valid"]}
    again, _ = build_dataset("openmic", folder=tree.root)
    assert again.digest() == table.digest()
    other, _ = build_dataset("openmic", folder=tree.root, options={"seed": "2"})
    assert set(other.clip_id[other.split == "valid"]) != valid
    none, _ = build_dataset("openmic", folder=tree.root, options={"valid": "0"})
    assert none.splits() == ("train", "test")
    single, _ = build_dataset("openmic", folder=tree.root, options={"grouped": "false", "valid": "0.3"})
    drawn = set(single.clip_id[single.split == "valid"])
    assert len(drawn) == 6
    assert {tree.artist[key] for key in drawn} & {tree.artist[key] for key in set(tree.keys) - drawn}


def test_the_split_of_a_clip_does_not_depend_on_which_audio_is_there(tree: OpenMic) -> None:
    whole, _ = build_dataset("openmic", folder=tree.root)
    for key in tree.keys[::3]:
        tree.audio(key).unlink()
    part, _ = build_dataset("openmic", folder=tree.root)
    assert len(part) == len(whole) - len(tree.keys[::3])
    before = dict(zip(whole.clip_id, whole.split, strict=True))
    assert all(before[key] == split for key, split in zip(part.clip_id, part.split, strict=True))


def test_damaged_audio_is_named_and_counted_and_a_table_is_made(tree: OpenMic) -> None:
    gone, empty, odd = tree.keys[1], tree.keys[4], tree.keys[5]
    tree.audio(gone).unlink()
    tree.audio(empty).write_bytes(b"")
    tree.audio(odd).rename(tree.audio(odd).with_suffix(".OGG"))
    said = warnings_of(build_dataset, "openmic", folder=tree.root)
    table, _ = load("openmic")
    assert not {gone, empty} & set(table.clip_id)
    assert table.path[table.clip_id == odd].tolist() == [f"{odd[:3]}/{odd}.OGG"]
    assert not check_table(table, audio=True)
    remarks = table.card["remarks"]
    counts = {kind: found["count"] for kind, found in remarks.items()}
    assert counts == {"absent": 1, "empty": 1, "renamed": 1, "undecided": 12}
    assert remarks["empty"]["names"] == [f"{empty[:3]}/{empty}.ogg"]
    assert any("1 audio files are not below audio" in text and gone in text for text in said)
    assert any("zero bytes" in text and empty in text for text in said)


def test_labels_in_odd_spelling_and_odd_answers(tree: OpenMic) -> None:
    first, second, third = (key for key in tree.keys[1:4])
    tree.answers = [(k, c, r) for k, c, r in tree.answers if k not in (first, second, third)]
    tree.answers += [(first, "Mallet Percussion", 1.0), (first, "kazoo", 1.0), (second, "voice", 1.5)]
    tree.answers += [(third, "piano", 1.0), (third, "piano", 0.0)]
    tree.write_answers()
    said = warnings_of(build_dataset, "openmic", folder=tree.root, options={"labels": "csv"})
    table, _ = load("openmic")
    rows = {key: table.labels[table.clip_id == key][0] for key in (first, second, third)}
    assert rows[first].tolist() == [1 if name == "mallet_percussion" else -1 for name in OPENMIC_CLASSES]
    assert (rows[second] == -1).all()
    assert (rows[third] == -1).all()
    for part in ("none of the 20 instruments: 'kazoo'", f"no relevance from 0 to 1 and count as unknown: '{second} vo"):
        assert any(part in text for text in said), (part, said)
    assert any(f"1 answers contradict an earlier one and count as unknown: '{third} piano'" in text for text in said)


def test_answers_and_archive_must_agree(tree: OpenMic) -> None:
    key, name, _ = tree.answers[5]
    tree.answers[5] = (key, name, 0.05 if tree.answers[5][2] > 0.5 else 0.95)
    tree.write_answers()
    with pytest.raises(ManifestError, match=rf"differ in 1 labels: '{key} {name} \((absent|present) / "):
        build_dataset("openmic", folder=tree.root)
    ours, _ = build_dataset("openmic", folder=tree.root, options={"labels": "csv"})
    theirs, _ = build_dataset("openmic", folder=tree.root, options={"labels": "npz"})
    assert (ours.labels != theirs.labels).sum() == 1
    tree.answers = [answer for answer in tree.answers if answer[0] != key]
    tree.write_answers()
    with pytest.raises(ManifestError, match="28 rows, and there are 27 keys for them"):
        build_dataset("openmic", folder=tree.root)


@pytest.mark.parametrize("pickled", [False, True])
def test_the_archive_alone(tree: OpenMic, pickled: bool) -> None:
    """Keys as texts are read; keys as Python objects are a pickle, and are never loaded."""
    both, _ = build_dataset("openmic", folder=tree.root)
    tree.pickled_keys = pickled
    tree.write_archive()
    (tree.root / "openmic-2018-aggregated-labels.csv").unlink()
    if pickled:
        with pytest.raises(ManifestError, match=r"sample_key as Python objects, that is a pickle, which is never"):
            build_dataset("openmic", folder=tree.root)
    else:
        assert np.array_equal(build_dataset("openmic", folder=tree.root)[0].labels, both.labels)


def _cut_archive(tree: OpenMic) -> None:
    path = tree.root / "openmic-2018.npz"
    path.write_bytes(path.read_bytes()[:2000])


def _in_both(tree: OpenMic) -> None:
    with (tree.root / "partitions" / "split01_test.csv").open("a") as handle:
        handle.write(f"{tree.keys[0]}\n")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_cut_archive, r"openmic-2018.npz is not OpenMIC-2018's archive, or damaged"),
        (_in_both, r"1 clips are in both lists of .*partitions: '000046_0'"),
        (lambda tree: (tree.root / "partitions" / "split01_test.csv").unlink(), r"split01_test.csv is not there"),
        (lambda tree: (tree.root / "class-map.json").write_text('{"kazoo": 0}'), r"does not name OpenMIC-2018's 20"),
        (lambda tree: (tree.root / "audio").rename(tree.root / "sound"), r"None of the 28 audio files of openmic is"),
    ],
)
def test_what_cannot_be_read_is_said(tree: OpenMic, harm: Callable[[OpenMic], None], message: str) -> None:
    harm(tree)
    with pytest.raises(ManifestError, match=message):
        build_dataset("openmic", folder=tree.root)
    assert not layout.table_path("openmic").exists()


def test_what_is_asked_for_must_be_possible(tree: OpenMic, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SettingError, match="share of validation clips is 1"):
        build_dataset("openmic", folder=tree.root, options={"valid": "1"})
    with pytest.raises(ManifestError, match="is not openmic: it holds none of openmic-2018-aggregated"):
        build(OPENMIC, tree.root / "audio")
    assert east("data", "build", "openmic") == 2
    assert east("data", "show", "openmic") == 1
    said = capsys.readouterr().err
    assert said.count("zenodo.org/records/1432913") == 2
    assert "md5:e4ccf187e2bb5ab2e115416e8aafe7f4" in said
    assert east("data", "build", "openmic", "--folder", "openmic-2018", "--set", "labels=all") == 2
    assert "one of both, csv, npz" in capsys.readouterr().err


def test_an_artist_in_both_official_splits_is_named_and_the_split_kept(tree: OpenMic) -> None:
    last_train, first_test = tree.keys[tree.n_train - 1], tree.keys[tree.n_train]
    path = tree.root / "openmic-2018-metadata.csv"
    path.write_text(path.read_text().replace(f"{tree.artist[first_test]},", f"{tree.artist[last_train]},"))
    said = warnings_of(build_dataset, "openmic", folder=tree.root)
    assert any("1 artists have clips in several splits of the dataset's own" in text for text in said)
    table, _ = load("openmic")
    assert not check_table(table)
    assert (table.split == "test").sum() == tree.n_test


VGGISH = """
extractor = "vggish-openmic"
output = "frames"
version = 1
rate_hz = 16000
hop_s = 0.96
window_s = 0.96
clip_s = 10.0
licence = "Apache-2.0"
citation = "Hershey et al. 2017"
scale = 0.00390625
shift = -0.5
[dataset]
name = "openmic"
licence = "CC-BY-4.0"
"""


def test_the_archive_s_features_become_a_teacher_s_store(tree: OpenMic) -> None:
    """Its keys are a pickle: the ones that the build has checked against the labels stand for them."""
    build_dataset("openmic", folder=tree.root)
    Path("vggish.toml").write_text(VGGISH)
    store = layout.store_path("openmic", "vggish-openmic", "frames")
    keys = str(layout.dataset_dir("openmic") / "npz-keys.txt")
    command = ("store", "import", str(tree.root / "openmic-2018.npz"), str(store), "--card", "vggish.toml")
    assert east(*command) == 1
    assert east(*command, "--ids", keys) == 0
    features = np.random.default_rng(3).integers(0, 256, (28, 10, 128))
    table = read_table(layout.table_path("openmic"))
    with open_store(store) as reader:
        assert set(reader.clip_id) == set(table.clip_id)
        row = reader.clip_id.tolist().index(sorted(tree.keys)[5])
        np.testing.assert_allclose(reader.read(np.array([row]))[0], features[5] / 256 - 0.5, atol=1e-6)


@pytest.mark.slow
def test_from_the_tree_to_a_trained_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    tree = OpenMic(tmp_path / "openmic-2018", n_train=40, n_test=16)
    tree.write(seconds=10)
    tree.audio(tree.keys[3]).write_bytes(b"")
    Path("vggish.toml").write_text(VGGISH)
    assert east("data", "build", "openmic", "--folder", "openmic-2018") == 0
    assert east("extract", "--data", "openmic", "--student", "cnn-small", "--teacher", "none") == 0
    keys = str(layout.dataset_dir("openmic") / "npz-keys.txt")
    store = str(layout.store_path("openmic", "vggish-openmic", "frames"))
    archive = str(tree.root / "openmic-2018.npz")
    assert east("store", "import", archive, store, "--card", "vggish.toml", "--ids", keys) == 0
    steps = ("--data", "openmic", "--steps", "4", "--batch", "8", "--device", "cpu")
    assert east("train", *steps, "--loss", "labels", "--name", "alone") == 0
    assert east("train", *steps, "--loss", "east-kd", "--teacher", "vggish-openmic", "--name", "taught") == 0
    assert (layout.runs_dir("openmic") / "taught" / "run.json").is_file()
