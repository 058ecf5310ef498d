"""Training on views of the mels, and probes fitted on a teacher's: what they read, and what they refuse."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parent))

from synthetic import make_dataset

from pipeline import layout
from pipeline.distillation.probing import probe
from pipeline.distillation.settings import ProbeSettings, TrainSettings
from pipeline.distillation.trainer import train
from pipeline.errors import SettingError, StoreError
from pipeline.evaluation.runs import read_history, read_predictions, read_run
from pipeline.events import EpochDone, Event, Note
from pipeline.stores import open_store, write_store
from pipeline.stores.schema import with_fingerprint


def write_view(extractor: str, output: str, view: int, *, noise: float = 0.5, **changes: object) -> None:
    """A store beside a store, as ``east extract --views`` leaves it, with noisier features."""
    with open_store(layout.store_path("tiny", extractor, output)) as clean:
        rows = np.arange(len(clean))
        features = clean.read(rows).astype(np.float32)
        features += noise * np.random.default_rng(view).standard_normal(features.shape, np.float32)
        card = dict(clean.meta.card) | {"parameters": {"view": view, "view_rule": 1}}
        meta = replace(clean.meta, extractor=f"{extractor}-view{view}", card=card, runs=(), content_digest="")
        meta = with_fingerprint(replace(meta, **changes))
        place = layout.store_path("tiny", f"{extractor}-view{view}", output)
        kept = features[:, : meta.frames].astype(meta.dtype)
        n_frames = np.minimum(clean.n_frames, meta.frames)
        write_store(place, meta=meta, clip_id=clean.clip_id.tolist(), features=kept, n_frames=n_frames)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path))
    make_dataset(tmp_path)
    return tmp_path


def _settings(**changes: object) -> TrainSettings:
    base = {"data": "tiny", "steps": 10, "batch": 16, "labelled": 24, "device": "cpu", "validate_every": 5, "views": 2}
    return TrainSettings(**(base | changes))  # type: ignore[arg-type]


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "student.safetensors")


def test_views_change_the_student_and_are_written_down(home: Path) -> None:
    for view in (1, 2):
        write_view("mel-small", "logmel", view)
    clean, two = (train(_settings(views=views)) for views in (0, 2))
    losses = [read_history(read_run(folder))["train_total"].tolist() for folder in (clean, two)]
    assert losses[0] != losses[1]
    facts = json.loads((two / "run.json").read_text())
    heard = [store["extractor"] for store in facts["stores"]]
    assert heard == ["mel-small", "teach", "mel-small-view1", "mel-small-view2"]
    assert facts["config"]["views"] == 2
    assert facts["group"].endswith("views 2")


@pytest.mark.parametrize(
    "memory_gb", [pytest.param(0.0, id="memory", marks=pytest.mark.slow), pytest.param(1e-6, id="blocks")]
)
def test_going_on_gives_what_would_have_been(home: Path, memory_gb: float) -> None:
    for view in (1, 2):
        write_view("mel-small", "logmel", view)
    whole = train(_settings(name="whole", memory_gb=memory_gb))

    def die(event: Event) -> None:
        if isinstance(event, EpochDone) and event.step == 5:
            raise RuntimeError("pulled the plug")

    settings = _settings(name="parts", memory_gb=memory_gb)
    with pytest.raises(RuntimeError, match="pulled the plug"):
        train(settings, die)
    events: list[Event] = []
    parts = train(settings, events.append)
    assert Note("Going on from step 5.") in events
    assert all(torch.equal(value, _weights(parts)[key]) for key, value in _weights(whole).items())
    one, two = (read_history(read_run(path)) for path in (whole, parts))
    assert one["train_total"].tolist() == two["train_total"].tolist()


def test_going_on_with_other_memory_gives_what_would_have_been(home: Path) -> None:
    whole = train(_settings(name="whole", memory_gb=1e-6, views=0))

    def die(event: Event) -> None:
        if isinstance(event, EpochDone) and event.step == 5:
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="pulled the plug"):
        train(_settings(name="parts", memory_gb=1e-6, views=0), die)
    parts = train(_settings(name="parts", memory_gb=1.0, views=0))
    assert json.loads((parts / "run.json").read_text())["shuffled_blocks"] > 0
    one, two = (read_history(read_run(path)) for path in (whole, parts))
    assert one["train_total"].tolist() == two["train_total"].tolist()


def test_only_training_clips_are_heard_in_views(home: Path) -> None:
    """Views far off: a student that met them in validation or prediction would tell other things."""
    write_view("mel-small", "logmel", 1)
    near = train(_settings(views=1, name="near"))
    with open_store(layout.store_path("tiny", "mel-small-view1", "logmel")) as view:
        rows = np.arange(len(view))
        features, ids, meta = view.read(rows).astype(np.float32), view.clip_id.tolist(), view.meta
    features[[not key.startswith("train") for key in ids]] = 50.0
    place = layout.store_path("tiny", "mel-small-view1", "logmel")
    meta = replace(meta, content_digest="")
    shutil.rmtree(place)
    write_store(place, meta=meta, clip_id=ids, features=features, n_frames=np.full(len(ids), meta.frames))
    far = train(_settings(views=1, name="far"))
    for split in ("valid", "test"):
        scores = [read_predictions(read_run(folder), split).scores for folder in (near, far)]
        assert np.array_equal(*scores)


def test_views_that_are_not_there_name_their_command(home: Path) -> None:
    write_view("mel-small", "logmel", 1)
    command = "east extract --data tiny --teacher none --student cnn-small --views 2"
    with pytest.raises(StoreError, match=rf"no store of view 2 of mel-small/logmel beside .*{command}"):
        train(_settings())
    assert not list(layout.runs_dir("tiny").glob("*"))


def test_views_made_with_other_settings_are_refused(home: Path) -> None:
    write_view("mel-small", "logmel", 1, hop_s=0.1, frames=39)
    with pytest.raises(StoreError, match=r"is not of view 1 of what .* holds: hop_s, frames differ"):
        train(_settings(views=1))


def test_a_probe_is_fitted_on_views_of_labelled_clips(home: Path) -> None:
    write_view("teach", "clip", 1, noise=1.0)
    command = "east extract --data tiny --teacher teach/clip --student none --teacher-views 2"
    with pytest.raises(StoreError, match=f"no store of view 2 of teach/clip beside .*{command}"):
        probe(ProbeSettings("tiny", labelled=24, probe_views=2))
    plain, viewed = (read_run(probe(ProbeSettings("tiny", labelled=24, probe_views=n))) for n in (0, 1))
    facts = json.loads((viewed.folder / "run.json").read_text())
    assert facts["probe"]["n_clips"] == facts["probe"]["n_views"] == 24
    assert [store["extractor"] for store in facts["stores"]] == ["teach", "teach-view1"]
    assert viewed.group == f"{plain.group} probe_views 1"
    scores = [read_predictions(run, "test").scores for run in (plain, viewed)]
    assert not np.array_equal(*scores)
    run = json.loads((train(_settings(views=0, probe_views=1)) / "run.json").read_text())
    assert run["probe"] == facts["probe"]
    with pytest.raises(SettingError, match="--probe-views goes with the ridge probe"):
        ProbeSettings("tiny", probe="logistic", probe_views=1)


def test_labelled_clips_that_a_view_lacks_are_refused_where_that_is_asked_for(home: Path) -> None:
    write_view("teach", "clip", 1)
    place = layout.store_path("tiny", "teach-view1", "clip")
    with open_store(place) as view:
        rows = np.arange(0, len(view), 2)
        features, ids, meta = view.read(rows).astype(np.float32), view.clip_id[rows].tolist(), view.meta
    shutil.rmtree(place)
    n_frames = np.full(len(ids), meta.frames)
    write_store(place, meta=replace(meta, content_digest=""), clip_id=ids, features=features, n_frames=n_frames)
    settings = ProbeSettings("tiny", labelled=24, probe_views=1, missing="error")
    with pytest.raises(StoreError, match=r"teach-view1/clip: .* missing .*--missing error refuses that"):
        probe(settings)
    facts = json.loads((probe(replace(settings, missing="drop")) / "run.json").read_text())
    assert 0 < facts["probe"]["n_views"] < 24
