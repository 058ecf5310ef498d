"""A licence from a teacher's weights to the tags of a student: store, derived stores, run, prediction, files."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys
from pathlib import Path

import badfiles
import numpy as np
import pytest
from click.testing import CliRunner
from extracting import ROOT, run, table_of, write_clips

sys.path.insert(0, str(Path(__file__).parent))

from cli import east
from pipeline import layout
from pipeline.deployment.predict import predict
from pipeline.distillation.describing import carried_licences
from pipeline.distillation.settings import TrainSettings
from pipeline.distillation.trainer import train
from pipeline.licences import strictest
from pipeline.manifest import ClipTable, read_table, write_table
from pipeline.stores import example_meta, open_store, write_store
from pipeline.stores.info import describe_store
from pipeline.stores.licensing import strictest_licence
from pipeline.stores.making.convert import convert_store
from pipeline.stores.making.merge import merge_stores
from pipeline.stores.making.pool import pool_store
from pipeline.stores.making.subset import subset_store

N = 16
NC = "CC-BY-NC-4.0 (weights of fake-nc)"


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EAST_WEIGHTS", str(tmp_path_factory.getbasetemp() / "weights"))
    monkeypatch.setenv("EAST_PLUGINS", "plugins")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


def labelled(folder: Path, name: str, licence: str, rows: slice = slice(None)) -> ClipTable:
    """A table with two classes and splits, kept under the home folder."""
    paths = write_clips(folder, N)[rows]
    n = len(paths)
    splits = np.array((["train", "valid", "train", "test"] * n)[:n], object)
    table = dataclasses.replace(
        table_of(paths, folder, name=name),
        classes=("odd", "low"),
        labels=np.array([[row // 4 % 2, row // 8 % 2] for row in range(n)], np.int8),
        split=splits,
        card={"licence": licence} if licence else {},
    )
    write_table(table, layout.table_path(name))
    return table


def extracted(table: ClipTable, teacher: str = "fake-nc") -> Path:
    run(table, f"{teacher}/frames", "mel-small", preflight=False)
    return layout.store_path(table.name, teacher, "frames")


def written(path: Path, first: int, dataset: dict[str, str]) -> Path:
    ids = [f"clip {row}" for row in range(first, first + 8)]
    write_store(
        path, meta=example_meta(dataset=dataset), clip_id=ids, features=np.ones((8, 3, 4)), n_frames=np.full(8, 3)
    )
    return path


def trained(name: str, *stores: Path) -> Path:
    teachers = [str(path) for path in stores]
    return train(TrainSettings(data=name, teacher=(), store=tuple(teachers), loss="kd", steps=2, batch=4,
                               device="cpu", validate_every=2))  # fmt: skip


def test_a_licence_goes_from_the_weights_to_the_tags(tmp_path: Path) -> None:
    table = labelled(tmp_path / "music", "tiny", "CC-BY-4.0")
    store = extracted(table)
    assert "**CC-BY-NC-4.0** (weights of fake-nc)" in (store / "features/README.md").read_text()
    pool_store(str(store), tmp_path / "pooled.h5", how="mean")
    convert_store(str(tmp_path / "pooled.h5"), tmp_path / "again.zarr", dtype="float16")
    assert describe_store(str(tmp_path / "again.zarr"))["licence"] == NC
    folder = trained("tiny", tmp_path / "again.zarr")
    for facts in (json.loads((folder / name).read_text()) for name in ("run.json", "student.json")):
        assert facts["licence"] == NC
        assert ["CC-BY-NC-4.0", "weights of fake-nc"] in facts["licences"]
        assert ["CC-BY-4.0", "audio of tiny"] in facts["licences"]
        assert ["MIT", "code of fake-nc"] in facts["licences"]
    song = tmp_path / "song.wav"
    badfiles.write(song, badfiles.music(16_000, 2.0, seed=1), 16_000, "WAV", "PCM_16")
    tags = predict(folder, [str(song)])
    assert tags.as_dict()["licence"] == NC
    assert tags.as_dict()["licence_demands"] == "Name the author; no commercial use."
    assert {"licence": "CC-BY-4.0", "covers": "audio of tiny"} in tags.as_dict()["licences"]
    assert next(csv.DictReader(io.StringIO(tags.to_csv())))["licence"] == NC
    done = CliRunner().invoke(east, ["predict", str(folder), str(song)])
    assert done.stdout.splitlines()[-1].endswith(f"{NC}. Name the author; no commercial use.")


def test_merged_and_subset_stores_keep_the_strictest_of_their_sources(tmp_path: Path) -> None:
    """The audio of one source is stricter than anything the first store knows of."""
    free, strict = (
        written(tmp_path / f"{name}.zarr", first, {"name": name, "licence": licence})
        for name, first, licence in (("free", 0, "CC0-1.0"), ("strict", 8, "CC-BY-NC-ND-4.0"))
    )
    merge_stores(tmp_path / "merged.zarr", [str(free), str(strict)])
    with open_store(tmp_path / "merged.zarr") as reader:
        ids = reader.clip_id.tolist()[:3]
        assert strictest_licence(reader.meta) == "CC-BY-NC-ND-4.0 (audio of strict)"
    subset_store(str(tmp_path / "merged.zarr"), tmp_path / "some.h5", ids)
    with open_store(tmp_path / "some.h5") as reader:
        assert strictest_licence(reader.meta) == "CC-BY-NC-ND-4.0 (audio of strict)"
        assert "audio of free: [CC0-1.0]" in reader_card(tmp_path / "some.h5")


def reader_card(path: Path) -> str:
    return CliRunner().invoke(east, ["store", "card", str(path)]).output


def test_audio_without_a_licence_makes_a_student_that_nobody_may_use_until_it_is_said(tmp_path: Path) -> None:
    table = labelled(tmp_path / "music", "mine", "")
    store = extracted(table, "fake")
    assert json.loads((trained("mine", store) / "run.json").read_text())["licence"] == "unknown (audio of mine)"
    with open_store(store) as reader:
        stated = carried_licences([reader], {"name": "mine", "licence": "CC-BY-4.0"})
    assert strictest(stated) == "CC-BY-4.0 (audio of mine)"


def test_the_licence_of_own_audio_is_said_with_the_table(tmp_path: Path) -> None:
    write_clips(tmp_path / "music", 4)
    done = CliRunner().invoke(
        east, ["data", "from", str(tmp_path / "music"), "--name", "own", "--licence", "CC-BY-SA-4.0", "--clip-s", "1"]
    )
    assert done.exit_code == 0, done.output
    store = extracted(_read("own"), "fake")
    with open_store(store) as reader:
        assert strictest_licence(reader.meta) == "CC-BY-SA-4.0 (audio of own)"
        assert "--teacher fake/frames --student none" in (store / "features/README.md").read_text()


def _read(name: str) -> ClipTable:
    return read_table(layout.table_path(name))
