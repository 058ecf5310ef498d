"""Training from stores: what is learnt, what is left behind, going on after a kill, independence."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))

from synthetic import CLASSES, Sizes, make_dataset

from pipeline import layout
from pipeline.commands.train import _split_lists
from pipeline.commands.train import losses as losses_command
from pipeline.commands.train import probe as probe_command
from pipeline.commands.train import train as train_command
from pipeline.distillation.losses.settings import LOSSES
from pipeline.distillation.preparation import used_splits
from pipeline.distillation.probing import probe
from pipeline.distillation.settings import ProbeSettings, TrainSettings, from_mapping
from pipeline.distillation.students.contract import load_student
from pipeline.distillation.trainer import train
from pipeline.errors import RunError, SettingError, StoreBusyError, StoreError, TrainingError, UnknownNameError
from pipeline.evaluation.runs import read_history, read_predictions, read_run, splits_of
from pipeline.events import EpochDone, Event, Note, TaskAdvanced, TaskFinished, TaskStarted, Warned
from pipeline.manifest import read_table, write_table
from pipeline.stores import open_store, write_store


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(layout.HOME_VARIABLE, str(home))
        make_dataset(home)
        make_dataset(home, "single", single_label=True)
        make_dataset(home, "many", teachers=("teach/clip", "teach/frames", "other/clip"), valid_split=False)
        make_dataset(home, "bare", teachers=())
    return home


@pytest.fixture
def home(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(made))
    return made


def _settings(**changes: object) -> TrainSettings:
    base = {"data": "tiny", "steps": 20, "batch": 16, "labelled": 24, "device": "cpu", "validate_every": 5}
    return TrainSettings(**(base | changes))  # type: ignore[arg-type]


# --- what a run leaves -----------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["labels", "kd", "dcor", "east-kd"])
def test_a_run_learns_and_leaves_its_folder(home: Path, loss: str) -> None:
    events: list[Event] = []
    folder = train(_settings(loss=loss, steps=40), events.append)
    run = read_run(folder)
    assert folder.parent == home / "tiny" / "runs"
    assert run.best["valid_map"] > 0.6  # 0.4 by chance
    assert run.kind == "student"
    assert run.n_labelled == 24
    assert run.n_unlabelled == (40 if loss in ("kd", "dcor") else 0)
    assert set(splits_of(run)) == {"valid", "test", "test-far"}
    assert read_predictions(run, "test").scores.shape == (30, len(CLASSES))
    history = read_history(run)
    assert history["step"].tolist() == [5, 10, 15, 20, 25, 30, 35, 40]
    assert history["valid_map"].max() == pytest.approx(run.best["valid_map"])
    assert np.diff(history["seconds"]).min() > 0
    assert (folder / "teacher_scores.npz").is_file() == (loss in ("kd", "east-kd"))
    assert not (folder / "last.ckpt").exists()
    assert [event.step for event in events if isinstance(event, EpochDone)] == history["step"].tolist()
    told = Counter()
    for event in events:
        if isinstance(event, TaskAdvanced):
            told[event.task] += event.amount
    assert told == {folder.name: 40, f"{folder.name}: scores": 100}
    assert any(isinstance(event, TaskStarted) and event.total == 40 for event in events)
    assert isinstance(events[-1], TaskFinished)


def test_the_run_tells_where_it_comes_from(home: Path) -> None:
    facts = json.loads((train(_settings(loss="kd", steps=40)) / "run.json").read_text())
    assert facts["licence"] == "CC-BY-NC-4.0 (weights of teach)"
    assert [store["extractor"] for store in facts["stores"]] == ["mel-small", "teach"]
    assert facts["config"]["loss_settings"]["tau"] == 1.0
    assert facts["group"] == "cnn-small kd teach/clip 24 labels steps 40 batch 16"
    assert facts["probe"]["kind"] == "ridge"
    assert facts["provenance"]["python"]
    assert str(home) not in json.dumps(facts)


def test_the_student_is_the_best_checkpoint_and_can_be_loaded(home: Path) -> None:
    folder = train(_settings(loss="kd", steps=40))
    student, about = load_student(folder)
    assert about["classes"] == list(CLASSES)
    assert about["front_end"]["name"] == "mel-small"
    assert len(about["thresholds"]) == len(CLASSES)
    table = read_table(layout.table_path("tiny"))
    with open_store(layout.store_path("tiny", "mel-small", "logmel")) as store:
        rows = np.flatnonzero(table.split == "test")
        mel = torch.from_numpy(store.read(rows)).float()
        n_frames = torch.from_numpy(store.n_frames[rows].astype(np.int64))
    scores = student(mel, n_frames).logits.sigmoid().numpy()
    kept = read_predictions(read_run(folder), "test")
    assert kept.clip_id.tolist() == table.clip_id[rows].tolist()
    np.testing.assert_allclose(kept.scores, scores, atol=1e-6)


def test_distillation_beats_labels_alone_when_labels_are_few(home: Path) -> None:
    """The point of it all, on data made for it: one teacher, few labels."""
    few = {"labelled": 10, "steps": 60, "validate_every": 20}
    labels, kd = (read_run(train(_settings(loss=loss, **few))).best["valid_map"] for loss in ("labels", "kd"))
    assert kd > labels + 0.05


@pytest.mark.parametrize("loss", ["labels", "kd"])
def test_classes_that_exclude_each_other(home: Path, loss: str) -> None:
    run = read_run(train(_settings(data="single", loss=loss, steps=40)))
    scores = read_predictions(run, "valid").scores
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)
    assert read_history(run)["valid_accuracy"].max() > 0.6


@pytest.mark.parametrize(
    "changes",
    [
        {"mixup": True},
        {"schedule": "plateau", "lr": 1e-3, "weight_decay": 1e-4, "clip_norm": 1.0},
        {"schedule": "constant", "lr": 1e-3},
        {"probe": "logistic"},
        {"loss": "east-all", "align": "mean"},
        {"memory_gb": 1e-6},
        {"labelled": None},
        {"precision": "bf16-mixed", "clip_norm": 1.0},
        {"feature": "rkd", "stage": "1,1,2", "clips": "labelled", "lam_schedule": "warmup", "average_last": 0.5},
    ],
    ids=str,
)
def test_variants_run(home: Path, changes: dict[str, object]) -> None:
    assert read_run(train(_settings(**({"loss": "kd", "steps": 6} | changes)))).complete


def test_clips_of_the_split_unlabelled_are_trained_on_without_their_labels(home: Path) -> None:
    table = read_table(layout.table_path("tiny"))
    train_rows = np.flatnonzero(table.split == "train")
    split = table.split.copy()
    split[train_rows[:24]] = "unlabelled"
    path = home / "hidden.parquet"
    write_table(replace(table, split=split), path)
    run = read_run(train(_settings(data=str(path), loss="kd", labelled=None)))
    assert (run.n_labelled, run.n_unlabelled) == (40, 24)
    assert set(splits_of(run)) == {"valid", "test", "test-far"}


def test_unlabelled_clips_can_be_counted(home: Path) -> None:
    run = read_run(train(_settings(loss="kd", unlabelled=10)))
    assert (run.n_labelled, run.n_unlabelled) == (24, 10)
    with pytest.raises(SettingError, match="asks for more clips than the 40 training clips without a label"):
        train(_settings(loss="kd", unlabelled=41))


@pytest.mark.parametrize("column", ["group", "path"])
def test_without_a_valid_split_nothing_of_its_groups_or_files_is_heard(home: Path, column: str) -> None:
    table = read_table(layout.table_path("tiny"))
    keep = np.flatnonzero(table.split == "train")
    names = np.array([f"song{k % 8}" for k in range(len(keep))], object)
    half = replace(table.select(keep), group=np.full(len(keep), "", object))
    split = half.split.copy()
    split[::2] = "unlabelled"
    used = used_splits(replace(half, split=split, **{column: names}), lambda event: None)
    held = set(getattr(used, column)[used.split == "valid"])
    assert held
    assert not held & set(getattr(used, column)[used.split == "train"])
    assert (used.labels[used.split == "valid"] >= 0).all()


def test_one_long_name_does_not_make_all_groups_long(home: Path) -> None:
    table = read_table(layout.table_path("tiny"))
    clips = table.select(np.tile(np.flatnonzero(table.split == "train"), 50))
    group = np.array([f"song{k}" for k in range(len(clips))], object)
    group[0] = "long" * 2500
    tracemalloc.start()
    try:
        used_splits(replace(clips, group=group), lambda event: None)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


def test_several_validation_splits_choose_together(home: Path) -> None:
    table = read_table(layout.table_path("tiny"))
    split = table.split.copy()
    split[np.flatnonzero(table.split == "valid")[:20]] = "valid-other"
    path = home / "other.parquet"
    write_table(replace(table, split=split), path)
    history = read_history(read_run(train(_settings(data=str(path), validate_on=("valid", "valid-other")))))
    np.testing.assert_allclose(
        history["valid_map"], (history["valid_map_valid"] + history["valid_map_valid-other"]) / 2
    )
    with pytest.raises(SettingError, match="no clips in that split, only in valid"):
        train(_settings(validate_on=("valid-odd",)))
    with pytest.raises(SettingError, match="takes splits named valid"):
        _settings(validate_on=("test",))


def test_patience_stops_early(home: Path) -> None:
    run = read_run(train(_settings(loss="labels", steps=400, lr=1e-9, validate_every=2, patience=3)))
    assert read_history(run)["step"][-1] < 400


# --- the same again, and after a kill ------------------------------------------------------------------


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "student.safetensors")


def test_a_kill_after_the_last_step_costs_nothing(home: Path) -> None:
    def die(event: Event) -> None:
        if isinstance(event, EpochDone) and event.step == 20:
            raise RuntimeError("pulled the plug")

    settings = _settings(name="at the end", loss="labels")
    with pytest.raises(RuntimeError, match="pulled"):
        train(settings, die)
    again, whole = (read_run(train(_settings(name=name, loss="labels"))) for name in ("at the end", "to the end"))
    assert again.best == whole.best
    assert read_history(again)["step"].tolist() == [5, 10, 15, 20]
    assert all(torch.equal(value, _weights(whole.folder)[key]) for key, value in _weights(again.folder).items())


@pytest.mark.parametrize(
    "changes",
    [
        {"loss": "east-kd-all", "mixup": True},
        {"loss": "labels", "schedule": "plateau"},
        {"loss": "projection", "ema": 0.9, "lam_schedule": "cosine"},
    ],
    ids=["kd", "plateau", "ema and maps"],
)
def test_going_on_gives_what_would_have_been(home: Path, changes: dict[str, object]) -> None:
    whole = train(_settings(name=f"whole-{changes['loss']}", **changes))

    def die(event: Event) -> None:
        if isinstance(event, EpochDone) and event.step == 10:
            raise RuntimeError("pulled the plug")

    settings = _settings(name=f"parts-{changes['loss']}", **changes)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train(settings, die)
    folder = layout.runs_dir("tiny") / settings.name
    with pytest.raises(RunError, match="is unfinished"):
        read_run(folder)
    events: list[Event] = []
    train(settings, events.append)
    assert Note("Going on from step 10.") in events
    assert [event.step for event in events if isinstance(event, EpochDone)] == [15, 20]
    a, b = _weights(whole), _weights(folder)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    one, two = (read_history(read_run(path)) for path in (whole, folder))
    assert one["valid_map"].tolist() == two["valid_map"].tolist()
    assert one["train_total"].tolist() == two["train_total"].tolist()
    for split in ("valid", "test"):
        assert np.array_equal(*(read_predictions(read_run(path), split).scores for path in (whole, folder)))


def test_ctrl_c_stays_ctrl_c(home: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, EpochDone):
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(_settings(name="interrupted", loss="labels"), interrupt)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_complete_run_is_not_run_again(home: Path) -> None:
    settings = _settings(loss="labels", name="once")
    folder = train(settings)
    stamp = (folder / "run.json").stat().st_mtime_ns
    events: list[Event] = []
    assert train(settings, events.append) == folder
    assert (folder / "run.json").stat().st_mtime_ns == stamp
    assert any(isinstance(event, Note) and "complete already" in event.text for event in events)


def test_two_processes_do_not_make_the_same_run(home: Path) -> None:
    told = []

    def again(event: Event) -> None:
        if isinstance(event, EpochDone) and not told:
            with pytest.raises(StoreBusyError, match=rf"busy is being written by process {os.getpid()}"):
                train(_settings(loss="labels", name="busy"))
            told.append(event.step)

    folder = train(_settings(loss="labels", name="busy"), again)
    assert told
    assert not list(folder.glob("*lease*"))


def test_a_run_that_cannot_start_leaves_no_folder(home: Path) -> None:
    with pytest.raises(SettingError, match="--validate-on valid-far"):
        train(_settings(loss="labels", name="nowhere", validate_on=("valid-far",)))
    assert not (home / "tiny" / "runs" / "nowhere").exists()


def test_a_name_is_not_reused_for_other_settings(home: Path) -> None:
    train(_settings(loss="labels", name="taken"))
    with pytest.raises(RunError, match=r"other settings or data: seed was 0, now 1"):
        train(_settings(loss="labels", name="taken", seed=1))


def test_a_damaged_checkpoint_is_named(home: Path) -> None:
    def die(event: Event) -> None:
        if isinstance(event, EpochDone):
            raise RuntimeError("pulled the plug")

    settings = _settings(loss="labels", name="damaged")
    with pytest.raises(RuntimeError, match="pulled"):
        train(settings, die)
    (layout.runs_dir("tiny") / "damaged" / "last.ckpt").write_bytes(b"PK no zip")
    with pytest.raises(TrainingError, match=r"last\.ckpt cannot be read"):
        train(settings)


# --- choices and refusals --------------------------------------------------------------------------


def test_several_teachers_must_be_chosen_from(home: Path) -> None:
    with pytest.raises(SettingError, match=r"several teacher stores for 'many'.*other/clip, teach/clip, teach/frames"):
        train(_settings(data="many"))
    with pytest.raises(SettingError, match="teach has several stores for 'many': teach/clip, teach/frames"):
        train(_settings(data="many", teacher=("teach",)))


def test_several_teachers_work_together_and_valid_is_held_out(home: Path) -> None:
    events: list[Event] = []
    folder = train(_settings(data="many", teacher=("other", "teach/frames"), loss="east-kd-all"), events.append)
    run = read_run(folder)
    assert [store["extractor"] for store in run.stores] == ["mel-small", "other", "teach"]
    assert any(isinstance(event, Note) and "held out" in event.text for event in events)
    held = read_predictions(run, "valid").clip_id
    songs = dict(zip(*_columns("many"), strict=True))
    train_songs = {songs[key] for key in songs if key.startswith("train") and key not in set(held)}
    assert not {songs[key] for key in held} & train_songs


def _columns(data: str) -> tuple[list[str], list[str]]:
    table = read_table(layout.table_path(data))
    return table.clip_id.tolist(), table.group.tolist()


def test_stores_can_be_named_by_path(home: Path) -> None:
    path = layout.store_path("many", "other", "clip")
    folder = train(
        _settings(data="many", store=(str(path),), mel=str(layout.store_path("many", "mel-small", "logmel")))
    )
    assert read_run(folder).stores[1]["extractor"] == "other"


def test_missing_stores_name_the_command_that_makes_them(home: Path) -> None:
    with pytest.raises(StoreError, match=r"no teacher store for 'bare'.*make extract TEACHER=\w+ DATA=bare"):
        train(_settings(data="bare"))
    with pytest.raises(StoreError, match="`east extract --teacher panns --data tiny`"):
        train(_settings(teacher=("panns",)))


def test_a_missing_mel_store_names_its_command(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path))
    table = read_table(home / "tiny" / "clips.parquet")
    write_table(table, layout.table_path("tiny"))
    with pytest.raises(StoreError, match=r"no mel store of mel-small.*--teacher none --data tiny --student cnn-small"):
        train(_settings(loss="labels"))


def test_labels_alone_need_no_teacher(home: Path) -> None:
    run = read_run(train(_settings(data="bare", loss="labels", teacher=("none",))))
    assert [store["extractor"] for store in run.stores] == ["mel-small"]
    with pytest.raises(SettingError, match="The loss 'kd' needs a teacher"):
        train(_settings(data="bare", loss="kd", teacher=("none",)))


def test_mels_are_no_teacher_and_lengths_must_agree(home: Path) -> None:
    mel = str(layout.store_path("tiny", "mel-small", "logmel"))
    with pytest.raises(SettingError, match="holds mels"):
        train(_settings(store=(mel,)))
    with pytest.raises(StoreError, match="holds teach/clip, but the student cnn-small reads mel-small"):
        train(_settings(mel=str(layout.store_path("tiny", "teach", "clip"))))


def test_another_datasets_store_is_refused(home: Path, tmp_path: Path) -> None:
    table = read_table(layout.table_path("tiny"))
    ids = np.array([f"x{key}" for key in table.clip_id], object)
    renamed = type(table)(**{**vars(table), "clip_id": ids, "name": "foreign"})
    write_table(renamed, tmp_path / "clips.parquet")
    with pytest.raises(StoreError, match="have no clip in common"):
        train(
            _settings(
                data=str(tmp_path / "clips.parquet"),
                loss="labels",
                mel=str(layout.store_path("tiny", "mel-small", "logmel")),
            )
        )


def test_a_device_that_is_not_there_is_refused(home: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(SettingError, match="--device cuda: there are 0 CUDA devices"):
        train(_settings(loss="labels", device="cuda"))
    with pytest.raises(SettingError, match="--device tpu is not available"):
        train(_settings(loss="labels", device="tpu"))


def test_a_loss_that_is_not_finite_names_step_and_term(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "broken.zarr"
    with open_store(layout.store_path("tiny", "mel-small", "logmel")) as store:
        features = store.read(np.arange(len(store))).astype(np.float32)
        features[:50] = 3e38  # a store refuses what is not finite; this overflows in the student
        meta = replace(store.meta, dtype="float32", complete=False)
        write_store(path, meta=meta, clip_id=store.clip_id, features=features, n_frames=store.n_frames)
    with pytest.raises(TrainingError, match=r"Step 1: the loss is not finite \(labels nan, total nan\).*store verify"):
        train(_settings(loss="labels", mel=str(path)))


def test_settings_are_checked() -> None:
    with pytest.raises(UnknownNameError, match="no student named 'cnn'"):
        TrainSettings(data="x", student="cnn")
    with pytest.raises(UnknownNameError, match=r"no setting named 'step'.*'steps'"):
        from_mapping({"data": "x", "step": 3})
    with pytest.raises(SettingError, match="batch is 1, but must lie between 2"):
        TrainSettings(data="x", batch=1)
    with pytest.raises(SettingError, match="both say where the teacher is"):
        TrainSettings(data="x", teacher=("a",), store=("b",))


# --- probes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ridge", "logistic"])
def test_a_probe_is_a_run(home: Path, kind: str) -> None:
    folder = probe(ProbeSettings(data="tiny", probe=kind, labelled=24))
    run = read_run(folder)
    assert run.kind == "probe"
    assert run.best["valid_map"] > 0.8
    assert run.n_labelled == 24
    with np.load(folder / "teacher_scores.npz", allow_pickle=False) as kept:
        ids, logits = kept["clip_id"], kept["logits"]
    scores = read_predictions(run, "test")
    where = {key: row for row, key in enumerate(ids.tolist())}
    rows = [where[key] for key in scores.clip_id]
    np.testing.assert_allclose(scores.scores, 1 / (1 + np.exp(-logits[rows])), atol=1e-6)
    assert logits.shape == (64 + 40 + 60, len(CLASSES))


# --- commands --------------------------------------------------------------------------------------


def test_the_commands_print_the_folder(home: Path) -> None:
    common = ["--data", "tiny", "--labelled", "24"]
    ran = CliRunner().invoke(train_command, [*common, "--steps", "5", "--loss", "dcor", "--device", "cpu"])
    assert ran.exit_code == 0, ran.output
    assert read_run(Path(ran.stdout.strip())).config["loss"] == "dcor"
    ran = CliRunner().invoke(probe_command, [*common, "--teacher", "teach", "--seed", "3"])
    assert read_run(Path(ran.stdout.strip())).kind == "probe"


def test_a_run_is_repeated_by_its_own_recipe(home: Path) -> None:
    common = ["--data", "tiny", "--labelled", "24", "--steps", "5", "--device", "cpu", "--lr", "1e-3"]
    first = CliRunner().invoke(train_command, common).stdout.strip()
    own = str(Path(first) / "recipe.toml")
    again = CliRunner().invoke(train_command, ["--recipe", own])
    assert again.stdout.strip() == first
    assert "is complete already" in again.stderr
    copied = CliRunner().invoke(train_command, ["--recipe", own, "--name", "copied"]).stdout.strip()
    assert np.array_equal(*(read_predictions(read_run(Path(run)), "test").scores for run in (first, copied)))
    other = CliRunner().invoke(train_command, ["--recipe", own, "--seed", "2"]).stdout.strip()
    config = read_run(Path(first)).config
    assert read_run(Path(other)).config == {**config, "seed": 2}
    fitted = CliRunner().invoke(probe_command, ["--data", "tiny", "--labelled", "24"]).stdout.strip()
    assert CliRunner().invoke(probe_command, ["--recipe", f"{fitted}/recipe.toml"]).stdout.strip() == fitted


def test_the_losses_are_listed() -> None:
    text = CliRunner().invoke(losses_command, []).stdout
    assert all(name in text for name in LOSSES)


def test_every_setting_has_an_option() -> None:
    for command, settings in ((train_command, TrainSettings), (probe_command, ProbeSettings)):
        options = {parameter.name for parameter in command.params}
        assert options == {field.name for field in fields(settings)} | {"recipe"}


def test_defaults_of_options_are_those_of_the_settings() -> None:
    made = TrainSettings(**_split_lists(train_command.make_context("train", ["--data", "x"]).params))
    assert made == TrainSettings(data="x")


# --- independence -----------------------------------------------------------------------------------

_WITHOUT_TEACHERS = """
import sys, warnings
class Wall:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline.extraction" or name.startswith("pipeline.extraction."):
            raise ImportError(f"stage two asked for {name}")
sys.meta_path.insert(0, Wall())
from pipeline.distillation.settings import TrainSettings
from pipeline.distillation.trainer import train
print(train(TrainSettings(data="tiny", steps=5, batch=8, device="cpu", loss="east-kd-all", name="walled")))
assert not [name for name in sys.modules if name.startswith(("pipeline.extraction", "dask", "distributed"))]
"""


def test_training_runs_where_no_teacher_can_be_imported(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TEACHERS],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert read_run(Path(done.stdout.strip())).complete
    assert done.stderr == ""


def test_the_history_is_a_plain_table(home: Path) -> None:
    folder = train(_settings(loss="kd", steps=40))
    with (folder / "history.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert {"step", "epoch", "train_kd", "train_labels", "valid_map", "valid_loss", "lr", "seconds"} <= rows[0].keys()


def test_absent_clips_are_dropped_with_a_count(home: Path) -> None:
    table = read_table(layout.table_path("tiny"))
    more = table.select(np.r_[np.arange(len(table)), 0])
    ids = more.clip_id.copy()
    ids[-1] = "train/new.wav@0"
    path = home / "more" / "clips.parquet"
    write_table(type(table)(**{**vars(more), "clip_id": ids, "name": "tiny"}), path)
    events: list[Event] = []
    run = read_run(train(_settings(data=str(path), loss="labels", labelled=None), events.append))
    assert run.n_labelled == Sizes().train
    texts = [event.text for event in events if isinstance(event, Warned)]
    assert "1 of 165 clips are left out: their features are not there." in texts
    lacking = "mel-small/logmel: 164 of 165 clips by id, 1 missing (train 1): 'train/new.wav@0'"
    assert lacking in texts
    with pytest.raises(StoreError, match=rf"{re.escape(lacking)}. --missing error refuses that: extract the clips"):
        train(_settings(data=str(path), loss="labels", labelled=None, missing="error", name="strict"))


_UNTIL_KILLED = """
import os, signal
from pipeline.distillation.settings import TrainSettings
from pipeline.distillation.trainer import train
from pipeline.events import EpochDone
def die(event):
    if isinstance(event, EpochDone) and event.step == 10:
        os.kill(os.getpid(), signal.SIGKILL)
train(TrainSettings(data="tiny", steps=20, batch=16, labelled=24, device="cpu", validate_every=5, loss="dcor",
                    name="killed"), die)
"""


@pytest.mark.slow
def test_a_killed_process_costs_nothing(home: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _UNTIL_KILLED], env=os.environ.copy(), check=False, timeout=240)
    assert done.returncode == -signal.SIGKILL
    again, whole = (train(_settings(loss="dcor", name=name)) for name in ("killed", "never killed"))
    assert all(torch.equal(value, _weights(whole)[key]) for key, value in _weights(again).items())
