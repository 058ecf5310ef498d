"""`east train` on labels and stores that are wrong: what it says, whether it goes on, and what it leaves."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

sys.path.insert(0, str(Path(__file__).parent))

from synthetic import Sizes, make_dataset

from cli import main
from pipeline import layout
from pipeline.manifest import ClipTable, read_table, write_table
from pipeline.stores import open_store, write_store

SIZES = Sizes(train=24, valid=16, test=12)
N_CLIPS = SIZES.train + SIZES.valid + 2 * SIZES.test
Said = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("pristine") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(layout.HOME_VARIABLE, str(home))
        make_dataset(home, sizes=SIZES)
    return home


@pytest.fixture
def table(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClipTable:
    shutil.copytree(pristine, tmp_path / "home")
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return read_table(layout.table_path("tiny"))


@pytest.fixture
def east(capsys: pytest.CaptureFixture[str]) -> Said:
    """Runs a command and gives its exit status and all that it said, on one line."""

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        try:
            main(list(arguments))
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        said = capsys.readouterr()
        text = " ".join((said.out + said.err).split())
        assert "Traceback" not in text
        return code, text

    return run


def train(*options: str) -> tuple[str, ...]:
    return ("train", "--data", "tiny", "--steps", "2", "--batch", "8", "--device", "cpu", "--name", "run", *options)


def rewrite(table: ClipTable, **changes: object) -> None:
    write_table(replace(table, **changes), layout.table_path("tiny"))  # type: ignore[arg-type]


def relabel(table: ClipTable, split: str, column: int, value: int) -> np.ndarray:
    labels = table.labels.copy()
    labels[table.split == split, column] = value
    return labels


def has_run() -> bool:
    return (layout.runs_dir("tiny") / "run").exists()


# --- labels ----------------------------------------------------------------------------------------


def test_a_class_never_seen_in_train(table: ClipTable, east: Said) -> None:
    rewrite(table, labels=relabel(table, "train", 3, 0))
    code, said = east(*train("--loss", "labels"))
    assert code == 0
    assert said.count("tiny: 1 of 4 classes ('loud') have no positive label in train") == 1
    assert said.count("1 of 4 classes ('loud') have positive labels in other splits but none in train") == 1


def test_a_class_with_only_positives(table: ClipTable, east: Said) -> None:
    rewrite(table, labels=relabel(table, "train", 2, 1))
    code, said = east(*train("--loss", "labels"))
    assert (code, said.count("1 of 4 classes ('high') have no negative label in train")) == (0, 1)


def test_a_class_with_only_unknown_labels(table: ClipTable, east: Said) -> None:
    rewrite(table, labels=relabel(table, "train", 1, -1))
    code, said = east(*train("--loss", "kd"))
    assert code == 0
    assert said.count("1 of 4 classes ('middle') have no known label in train and cannot be learnt") == 1
    assert "no positive label in train:" not in said


def test_a_split_with_one_class_absent_is_said_once_and_its_metrics_leave_it_out(table: ClipTable, east: Said) -> None:
    rewrite(table, labels=relabel(table, "test", 0, 0))
    code, said = east(*train("--loss", "labels"))
    assert code == 0
    assert said.count("split test: 1 of 4 classes ('low') have no positive or no negative known label") == 1
    assert "split valid" not in said
    code, said = east("evaluate", "run")
    metrics = json.loads((layout.runs_dir("tiny") / "run" / "metrics.json").read_text())
    assert metrics["splits"]["test"]["left_out"] == ["low"]
    assert metrics["splits"]["test-far"]["left_out"] == []
    assert (code, said.count("split test: 1 of 4 classes ('low') are left out of the means")) == (0, 1)


def test_validation_labels_that_can_choose_nothing(table: ClipTable, east: Said) -> None:
    labels = table.labels.copy()
    labels[table.split == "valid"] = 1
    rewrite(table, labels=labels)
    code, said = east(*train("--loss", "labels"))
    assert (code, has_run()) == (1, False)
    assert "No class has both a positive and a negative validation label: nothing can be chosen. 'tiny' has 16" in said


def test_one_group_and_no_valid_split(table: ClipTable, east: Said) -> None:
    bare = table.select(table.split != "valid")
    rewrite(bare, group=np.full(len(bare), "song A", object))
    code, said = east(*train("--loss", "labels"))
    assert (code, has_run()) == (2, False)
    assert "'tiny' has no split 'valid', and none can be held out: 24 training clips in one group or file" in said
    assert "'song A', and those are not divided" in said


def test_a_validation_split_held_out_that_can_choose_nothing(table: ClipTable, east: Said) -> None:
    bare = table.select(table.split != "valid")
    rewrite(
        bare, group=np.array([f"song {k // 23}" for k in range(len(bare))], object), labels=np.ones_like(bare.labels)
    )
    code, said = east(*train("--loss", "labels"))
    assert (code, has_run()) == (1, False)
    assert "nothing can be chosen" in said
    assert "There is no split 'valid' in it, so 1 training clip was held out, whole groups" in said


@pytest.mark.parametrize("command", ["train", "probe"])
def test_no_known_label(table: ClipTable, east: Said, command: str) -> None:
    arguments = train("--loss", "kd") if command == "train" else ("probe", "--data", "tiny", "--name", "run")
    labels = table.labels.copy()
    labels[table.split == "train"] = -1
    rewrite(table, labels=labels)
    code, said = east(*arguments)
    assert (code, has_run()) == (1, False)
    assert "None of the 24 training clips of 'tiny' has a known label. Students and the probes" in said
    rewrite(table, labels=np.full_like(labels, -1))
    code, said = east(*arguments)
    assert (code, has_run()) == (1, False)
    assert f"has a known label, nor has any of the {N_CLIPS} clips of all splits." in said


def test_more_labelled_clips_than_there_are(table: ClipTable, east: Said) -> None:
    code, said = east(*train("--loss", "labels", "--labelled", "1000"))
    assert (code, has_run()) == (2, False)
    assert "--labelled 1000 asks for more clips than the 24 training clips with labels" in said
    code, said = east(*train("--loss", "labels", "--labelled", "1"))
    assert (code, has_run()) == (2, False)
    assert "--labelled 1 is too few" in said


def test_ids_that_repeat_are_refused(table: ClipTable, east: Said) -> None:
    ids = table.clip_id.copy()
    ids[1] = ids[0]
    rewrite(table, clip_id=ids)
    code, said = east(*train("--loss", "labels"))
    assert (code, has_run()) == (1, False)
    assert "'tiny' cannot be trained on: clip_id is there more than once (1): 'train/000.wav@0'" in said


def test_a_group_in_train_and_test_is_said(table: ClipTable, east: Said) -> None:
    group = table.group.copy()
    group[table.split == "test"] = group[0]
    rewrite(table, group=group)
    code, said = east(*train("--loss", "labels"))
    assert code == 0
    assert "A group lies in two splits" in said
    assert "What was trained on is judged, too: scores look better than they are." in said


# --- stores ----------------------------------------------------------------------------------------


def restore(name: str, keep: np.ndarray, **changes: object) -> str:
    """Write a store of the dataset again: some of its clips, other facts."""
    extractor, output = name.split("/")
    path = layout.store_path("tiny", extractor, output)
    digests = changes.pop("samples_digest", None)
    with open_store(path) as store:
        rows = np.flatnonzero(keep) if keep.dtype == bool else keep
        features, n_frames = store.read(rows), store.n_frames[rows]
        ids, meta = store.clip_id[rows], replace(store.meta, complete=False, **changes)  # type: ignore[arg-type]
    shutil.rmtree(path)
    more = {} if digests is None else {"samples_digest": np.asarray(digests, np.uint8)[rows]}
    write_store(path, meta=meta, clip_id=ids, features=features, n_frames=n_frames, **more)  # type: ignore[arg-type]
    return str(path)


def test_audio_that_is_trained_on_and_judged_is_said(table: ClipTable, east: Said) -> None:
    digests = np.random.default_rng(0).integers(0, 256, (len(table), 32), np.uint8)
    test, train_rows = np.flatnonzero(table.split == "test"), np.flatnonzero(table.split == "train")
    digests[test[3]] = digests[train_rows[5]]
    digests[test[:2]] = 0  # not known
    digests[train_rows[:2]] = 0
    restore("mel-small/logmel", np.ones(len(table), bool), samples_digest=digests)
    code, said = east(*train("--loss", "labels"))
    assert code == 0
    named = f"split test: 1 clip of the very samples of clips that are trained on ('{table.clip_id[test[3]]}')"
    assert named in said
    assert "of the very samples" not in said.replace(named, "")


@pytest.mark.parametrize("store", ["mel-small/logmel", "teach/clip"])
def test_a_store_that_lacks_clips(table: ClipTable, east: Said, store: str) -> None:
    with open_store(layout.store_path("tiny", *store.split("/"))) as reader:
        ids = reader.clip_id
    gone = [table.clip_id[3], table.clip_id[-1]]
    restore(store, ~np.isin(ids, gone))
    counted = (
        f"{store}: {N_CLIPS - 2} of {N_CLIPS} clips by id, 2 missing (train 1, test-far 1): '{gone[0]}', '{gone[1]}'"
    )
    code, said = east(*train("--loss", "kd", "--missing", "error"))
    assert (code, has_run()) == (1, False)
    assert f"{counted}. --missing error refuses that: extract the clips into" in said
    code, said = east(*train("--loss", "kd"))
    assert (code, said.count(counted)) == (0, 1)
    assert ("2 of 64 clips are left out" in said) == (store == "mel-small/logmel")
    facts = json.loads((layout.runs_dir("tiny") / "run" / "run.json").read_text())
    assert facts["n_labelled"] == (23 if store == "mel-small/logmel" else 24)
    code, said = east("train", "--data", "tiny", "--missing", "skip")
    assert (code, "There is no missing named 'skip'" in said) == (2, True)


def test_stores_of_different_clip_tables(table: ClipTable, east: Said) -> None:
    everything = np.ones(N_CLIPS, bool)
    mel = restore("mel-small/logmel", everything, manifest_digest="a" * 64, dataset={"name": "tiny"})
    code, said = east(*train("--loss", "labels"))
    assert code == 0
    assert f"have changed since the stores were made: mel-small/logmel ({mel}) for aaaaaaaaaaaa of 'tiny'" in said
    teacher = restore("teach/clip", everything, manifest_digest="b" * 64, dataset={"name": "huge"})
    code, said = east(*train("--loss", "dcor", "--name", "taught"))
    assert code == 0
    assert (
        f"The stores were made for different clip tables: mel-small/logmel ({mel}) for aaaaaaaaaaaa of 'tiny'; "
        f"teach/clip ({teacher}) for bbbbbbbbbbbb of 'huge'. The table of this run is {table.digest()[:12]} of 'tiny'."
    ) in said


def test_stores_of_other_audio_under_the_same_ids(table: ClipTable, east: Said) -> None:
    of_clip = {key: np.full(32, row + 1) for row, key in enumerate(table.clip_id)}
    for name in ("mel-small/logmel", "teach/clip"):
        with open_store(layout.store_path("tiny", *name.split("/"))) as reader:
            digests = np.stack([of_clip[key] for key in reader.clip_id])
            if name == "teach/clip":
                digests[reader.clip_id == table.clip_id[5]] = 200
        restore(name, np.ones(N_CLIPS, bool), samples_digest=digests)
    code, said = east(*train("--loss", "dcor"))
    assert code == 0
    assert f"1 of {N_CLIPS} clips have other audio in mel-small/logmel (" in said
    assert f"under the same id: '{table.clip_id[5]}'. A teacher of other audio teaches nothing" in said


@pytest.mark.parametrize("value", [np.nan, pytest.param(np.inf, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("store", "loss"),
    [("mel-small/logmel", "labels"), ("teach/clip", "kd"), pytest.param("teach/clip", "dcor", marks=pytest.mark.slow)],
)
def test_numbers_that_are_not_finite(table: ClipTable, east: Said, store: str, loss: str, value: float) -> None:
    path = layout.store_path("tiny", *store.split("/"))
    with open_store(path) as reader:
        ids = reader.clip_id
    features = zarr.open_array(path / "features", mode="r+")
    rows = [ids.tolist().index(table.clip_id[row]) for row in (2, 7)]
    for row in rows:
        features[row, 1, 3] = value
    code, said = east(*train("--loss", loss))
    assert code == 1
    assert f"{path} ({store}) holds numbers that are not finite in 2 clips: " in said
    assert all(repr(ids[row]) in said for row in rows)
    assert f"`east store verify {path}`" in said
