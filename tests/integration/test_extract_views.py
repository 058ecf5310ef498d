"""Views in stage one: made in the pass that decodes the clips, and stores like all others."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import plugins
import pytest
import soundfile as sf
from extracting import ROOT, run, table_of, write_clips

from pipeline import layout
from pipeline.audio.digest import samples_digest
from pipeline.audio.samples import resample
from pipeline.audio.views import make_view, view_seed
from pipeline.errors import SettingError, StoreError
from pipeline.events import Event, ShardDone
from pipeline.extraction.checking import verify_from_options
from pipeline.extraction.request import choose_requests
from pipeline.manifest import ClipTable
from pipeline.manifest.table import strings
from pipeline.stores import StoreReader, open_store
from pipeline.stores.sharing.reproducing import commands

N = 20


@pytest.fixture(scope="session")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("music")
    write_clips(folder, N)
    return folder


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EAST_WEIGHTS", str(tmp_path_factory.getbasetemp() / "weights"))
    monkeypatch.setenv("EAST_PLUGINS", "plugins")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


@pytest.fixture
def table(music: Path) -> ClipTable:
    """Twelve training clips, of which ten have known labels; eight for validation."""
    labels = np.ones((N, 1), np.int8)
    labels[10:12] = -1
    split = strings(["train"] * 12 + ["valid"] * 8)
    return replace(table_of(sorted(music.iterdir()), music), classes=("a",), labels=labels, split=split)


def opened(table: ClipTable, extractor: str, output: str) -> StoreReader:
    return open_store(layout.store_path(table.name, extractor, output))


def digests(table: ClipTable) -> dict[str, str]:
    found = {}
    for path in layout.list_stores(table.name):
        with open_store(path) as reader:
            assert reader.meta.complete
            found[reader.meta.name] = reader.meta.content_digest
    return found


def shards(events: list[Event]) -> Counter[str]:
    return Counter(event.store for event in events if isinstance(event, ShardDone))


def test_a_store_of_views_holds_what_the_extractor_makes_of_them(table: ClipTable) -> None:
    run(table, "fake", "fake:view=2", dtype="float32")
    with opened(table, "fake-view2", "clip") as reader:
        level, peak = reader.read(np.arange(10))[:, 0].T
        assert reader.clip_id.tolist() == table.clip_id.tolist()[:10]
        assert reader.meta.card["parameters"]["view"] == 2
        assert "--teacher fake/clip --student none --teacher-views 2 " in commands(reader.meta)
    for row in (0, 7):
        samples, rate_hz = sf.read(table.audio_path(row), dtype="float32")
        seed = view_seed(samples_digest(samples, rate_hz), 2)
        clip = resample(samples, rate_hz, plugins.RATE_HZ)
        view, n_valid = make_view(clip, len(clip), plugins.RATE_HZ, seed)
        whole = view[: n_valid // plugins.HOP * plugins.HOP].reshape(-1, plugins.HOP)
        assert level[row] == pytest.approx(np.sqrt((whole**2).mean(1)).mean(), rel=1e-5)
        assert peak[row] == pytest.approx(np.abs(whole).max(1).mean(), rel=1e-5)


def test_one_decode_pass_feeds_the_clips_and_all_views(table: ClipTable) -> None:
    report = run(table, *choose_requests("none", "cnn-small", views=2))
    assert report.audio_s == N
    assert len(set(digests(table).values())) == len(report.stores) == 3


def test_more_views_later_compute_only_the_new_ones(table: ClipTable, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    run(table, *choose_requests("fake/clip", "none", teacher_views=1), listener=events.append)
    assert shards(events) == {"fake/clip": 2, "fake-view1/clip": 1}
    events.clear()
    requests = choose_requests("fake/clip", "none", teacher_views=3)
    dry = run(table, *requests, dry_run=True)
    assert "10 clips" in dry.plan
    assert "fake-view2/clip" in dry.plan
    assert "fake-view3/clip" in dry.plan
    run(table, *requests, listener=events.append)
    assert shards(events) == {"fake-view2/clip": 1, "fake-view3/clip": 1}
    grown = digests(table)
    monkeypatch.setenv("EAST_HOME", str(layout.home().parent / "once"))
    run(table, *requests)
    assert digests(table) == grown


@pytest.mark.slow
def test_workers_and_hdf5_give_the_same_views(table: ClipTable, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = choose_requests("fake", "cnn-small", views=1, teacher_views=1)
    run(table, *requests)
    serial = digests(table)
    monkeypatch.setenv("EAST_HOME", str(layout.home().parent / "dask"))
    run(table, *requests, n_workers=2, format="hdf5")
    assert digests(table) == serial


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(table: ClipTable, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = choose_requests("none", "cnn-small", views=1)

    def stop(event: Event) -> None:
        if isinstance(event, ShardDone) and event.store == "mel-small-view1/logmel":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(table, *requests, listener=stop)
    run(table, *requests)
    resumed = digests(table)
    monkeypatch.setenv("EAST_HOME", str(layout.home().parent / "once"))
    run(table, *requests)
    assert digests(table) == resumed


def test_renamed_clips_and_other_stores_give_their_views(table: ClipTable, monkeypatch: pytest.MonkeyPatch) -> None:
    run(table, "mel-small:view=1")
    there, before = layout.home(), digests(table)
    monkeypatch.setenv("EAST_HOME", str(layout.home().parent / "other"))
    names = strings([f"other-{name}" for name in table.clip_id.tolist()])
    report = run(replace(table, clip_id=names), "mel-small:view=1", reuse=(str(there / "tiny" / "stores"),))
    assert report.n_copied == N
    with opened(table, "mel-small-view1", "logmel") as copied:
        rows = copied.read(np.arange(N))
    run(table, "mel-small:view=1")
    with open_store(there / "tiny" / "stores" / "mel-small-view1" / "logmel.zarr") as reader:
        assert np.array_equal(rows, reader.read(np.arange(N)))
        assert reader.meta.content_digest == before["mel-small-view1/logmel"]


def test_canaries_of_views_are_computed_again(table: ClipTable, monkeypatch: pytest.MonkeyPatch) -> None:
    run(table, "mel-small", "mel-small:view=1")
    path = str(layout.store_path(table.name, "mel-small-view1", "logmel"))

    def verify() -> str:
        report = verify_from_options(path, repair=False, audio=None, data=None, canaries=True, listener=lambda _: None)
        return report.text()

    assert "within the card's tolerance" in verify()
    with opened(table, "mel-small", "logmel") as clean, open_store(path) as view:
        assert not np.allclose(clean.canaries()["features"], view.canaries()["features"], atol=0.1)
    monkeypatch.setattr("pipeline.extraction.canaries.view_seed", lambda digest, view: 7)
    assert "other numbers here" in verify()


def test_a_view_is_never_mixed_with_another(table: ClipTable) -> None:
    run(table, "mel-small:view=1")
    place = layout.store_path(table.name, "mel-small-view2", "logmel")
    place.parent.mkdir()
    layout.store_path(table.name, "mel-small-view1", "logmel").rename(place)
    with pytest.raises(StoreError, match="extractor is 'mel-small-view1' there and 'mel-small-view2' here"):
        run(table, "mel-small:view=2")


def test_views_of_nothing_are_refused(table: ClipTable) -> None:
    with pytest.raises(SettingError, match="--views asks for views, but --student is none"):
        choose_requests("fake", "none", views=1)
    with pytest.raises(SettingError, match="--teacher-views asks for views, but --teacher is none"):
        choose_requests("none", "cnn-small", teacher_views=1)
    hidden = replace(table, labels=np.full((N, 1), -1, np.int8))
    with pytest.raises(SettingError, match="no clips of the split 'train' with known labels"):
        run(hidden, "fake", "fake:view=1")
    assert not layout.list_stores(table.name)


def test_the_preflight_of_a_teacher_serves_its_views(table: ClipTable) -> None:
    run(table, "fake", "fake:view=1")
    with opened(table, "fake", "clip") as clean, opened(table, "fake-view1", "clip") as view:
        assert clean.meta.preflight == view.meta.preflight
        assert clean.meta.preflight["status"] == "passed"
