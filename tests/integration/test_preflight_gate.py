"""The gate before a teacher's first store, and the command that runs the same checks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from extracting import ROOT, meta_of, run, table_of, write_clips
from narrow_panns import make_random_checkpoint

from cli import east, main
from pipeline import layout, weights
from pipeline.errors import PlanError
from pipeline.events import Event, Note, Warned
from pipeline.extraction.preflight import CHECKS
from pipeline.extraction.preflight.gate import code_digest
from pipeline.manifest import ClipTable
from pipeline.registry import find_teacher
from pipeline.stores import StoreMeta
from pipeline.stores.info import describe_store, render
from pipeline.stores.schema import example_meta, parse_meta

N = 6


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> ClipTable:
    folder = tmp_path_factory.mktemp("music")
    return table_of(write_clips(folder, N), folder)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EAST_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("EAST_PLUGINS", "plugins")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))


def elsewhere(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("EAST_HOME", str(layout.home().parent / name))


def checked(events: list[Event]) -> int:
    """How many preflights really ran."""
    return sum(isinstance(event, Note) and event.text.startswith("Preflight of") for event in events)


def remembered() -> list[Path]:
    return sorted((weights.cache_dir() / "preflight").glob("*.json"))


def test_a_teacher_that_fails_is_refused_and_nothing_is_written(table: ClipTable) -> None:
    with pytest.raises(
        PlanError,
        match=r"(?s)fake-leaky did not pass its preflight \(mode fast, cpu\); nothing was written\."
        r".*  batch: (frames|clip) of the clip '.*' differs by \d\.\d\de-\d\d of its largest magnitude .*mixes clips"
        r".*east teachers check fake-leaky --mode fast.*--no-preflight",
    ):
        run(table, "mel-small", "fake-leaky")
    assert not layout.home().exists()
    assert not remembered()


def test_without_preflight_the_store_says_so(table: ClipTable) -> None:
    assert run(table, "fake-leaky/clip", preflight=False).n_done == N
    assert meta_of(table, "fake-leaky", "clip").preflight == {"status": "skipped"}
    about = describe_store(str(layout.store_path("tiny", "fake-leaky", "clip")))
    assert about["preflight"] == {"status": "skipped"}
    assert "preflight                  skipped\n" in render(about, as_json=False)


@pytest.mark.parametrize("format", ["zarr", "hdf5"])
def test_stores_keep_what_was_measured(table: ClipTable, format: layout.Format) -> None:
    run(table, "mel-small", "fake", format=format)
    record = meta_of(table, "fake", "frames", format).preflight
    assert record == meta_of(table, "fake", "clip", format).preflight
    assert (record["status"], record["mode"], record["device"]) == ("passed", "fast", "cpu")
    assert set(record["versions"]) == {"torch", "numpy"}
    assert set(record["checks"]) == set(CHECKS)
    assert record["checks"]["batch"]["limit"] == 1e-5
    assert record["checks"]["longest"]["status"] == "skipped"
    assert not meta_of(table, "mel-small", "logmel", format).preflight, "a mel is no teacher"
    shown = render(describe_store(str(layout.store_path("tiny", "fake", "clip", format))), as_json=False)
    assert "passed (cpu, fast, torch" in shown
    assert "batch 0.0e+00 of 1e-05" in shown


def test_a_pass_is_remembered_by_what_it_depends_on(table: ClipTable, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    run(table, "fake/clip", listener=events.append)
    first = meta_of(table, "fake", "clip").preflight
    assert (checked(events), len(remembered())) == (1, 1)
    elsewhere(monkeypatch, "again")
    run(table, "fake/clip", listener=events.append)
    assert checked(events) == 1
    assert meta_of(table, "fake", "clip").preflight == first
    elsewhere(monkeypatch, "exact")
    run(table, "fake/clip", mode="exact", listener=events.append)
    assert (checked(events), len(remembered())) == (2, 2), "another mode"
    elsewhere(monkeypatch, "frames")
    run(table, "fake/frames", listener=events.append)
    assert checked(events) == 3, "another output"
    elsewhere(monkeypatch, "torch")
    monkeypatch.setattr("torch.__version__", "99.0")
    run(table, "fake/clip", listener=events.append)
    assert checked(events) == 4, "another PyTorch"


FORGED = b'{"key": {}, "record": {"status": "passed", "checks": {}}}'


@pytest.mark.parametrize(
    "content", [FORGED, *(pytest.param(text, marks=pytest.mark.slow) for text in (b"", b"{", b"[]"))]
)
def test_a_damaged_memory_is_made_again(table: ClipTable, content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    run(table, "fake/clip")
    (path,) = remembered()
    path.write_bytes(content)
    elsewhere(monkeypatch, "again")
    events: list[Event] = []
    run(table, "fake/clip", listener=events.append)
    assert checked(events) == 1
    assert json.loads(path.read_text())["record"]["status"] == "passed"


def test_a_folder_that_cannot_be_written_costs_nothing_but_time(table: ClipTable) -> None:
    weights.cache_dir().write_text("a file where the folder should be")
    assert run(table, "fake/clip").n_done == N
    assert meta_of(table, "fake", "clip").preflight["status"] == "passed"


def test_a_store_that_is_there_is_not_held_up(table: ClipTable) -> None:
    """It has canaries, and its numbers are what they are: growing it with others would be worse."""
    run(table.select(np.arange(3)), "fake-leaky/clip", preflight=False)
    assert run(table, "fake-leaky/clip").n_done == N
    assert meta_of(table, "fake-leaky", "clip").preflight == {"status": "skipped"}


@pytest.mark.slow
def test_on_workers_the_checks_run_there(table: ClipTable) -> None:
    with pytest.raises(PlanError, match="fake-leaky did not pass"):
        run(table, "fake-leaky", n_workers=1)
    assert not layout.home().exists()
    run(table, "fake/clip", n_workers=1)
    assert meta_of(table, "fake", "clip").preflight["status"] == "passed"


def test_a_dry_run_checks_nothing(table: ClipTable) -> None:
    assert run(table, "fake-leaky", dry_run=True).dry_run
    assert not remembered()


def test_float16_is_warned_of_where_it_is_written(table: ClipTable, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = []
    run(table, "fake-big/clip", dtype="float32", listener=events.append)
    assert not any(isinstance(event, Warned) for event in events)
    elsewhere(monkeypatch, "again")
    with pytest.raises(Exception, match="--dtype float32"):
        run(table, "fake-big/clip", listener=events.append)
    (warning,) = [event.text for event in events if isinstance(event, Warned)]
    assert warning.startswith("fake-big: values up to ")
    assert checked(events) == 1, "remembered, and warned of all the same"


def test_changed_code_is_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "code" / "mine_to_check"
    package.mkdir(parents=True)
    for name in ("__init__", "extractor", "network"):
        (package / f"{name}.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    before = code_digest("mine_to_check.extractor:build")
    assert before == code_digest("mine_to_check.extractor:build")
    (package / "network.py").write_text("WIDTH = 3")
    assert code_digest("mine_to_check.extractor:build") != before
    sys.modules.pop("mine_to_check", None)


def test_a_store_from_before_and_one_with_nonsense(table: ClipTable) -> None:
    attributes = example_meta().attributes()
    attributes.pop("preflight")
    meta: StoreMeta = parse_meta(attributes, "old.zarr")
    assert meta.preflight == {}
    with pytest.raises(Exception, match=r"odd\.zarr: preflight is not a table"):
        parse_meta(attributes | {"preflight": "passed"}, "odd.zarr")


@pytest.mark.parametrize("nonsense", [{}, {"checks": 3}, {"status": [], "checks": {"a": 1}, "versions": {}}])
def test_nonsense_in_a_store_is_shown_without_harm(nonsense: dict[str, Any]) -> None:
    assert "preflight" in render({"preflight": nonsense}, as_json=False)


def cli(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(east, arguments)
    return result.exit_code, result.output


def test_the_command_shows_all_checks() -> None:
    code, text = cli("teachers", "check", "fake")
    assert code == 0, text
    assert all(name in text for name in CHECKS)
    code, text = cli("teachers", "check", "fake/clip", "--mode", "exact", "--device", "cpu", "--json")
    report = json.loads(text)
    assert (code, report["passed"], report["mode"]) == (0, True, "exact")
    assert "clip 2" in {check["name"]: check["sentence"] for check in report["checks"]}["shapes"]


def test_the_command_exits_with_1_and_names_the_check(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["teachers", "check", "fake-leaky"])
    assert caught.value.code == 1
    printed = capsys.readouterr()
    assert "failed" in printed.out
    assert f"error: fake-leaky fails 1 of {len(CHECKS)} checks: batch." in printed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "fakee"), "no teacher named 'fakee'. Did you mean 'fake'"),
        (("check", "mel-small"), "no teacher named 'mel-small'"),
        (("check", "fake/framez"), "fake has no output 'framez'"),
        (("check", "fake", "--weights", "."), "fake takes no --weights"),
        (("--json", "check", "fake"), "put --json after its name"),
    ],
)
def test_unusable_settings_are_told(arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["teachers", *arguments])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


@pytest.mark.slow
def test_cnn14_at_full_size_passes_in_seconds(tmp_path: Path) -> None:
    make_random_checkpoint(tmp_path / "net.pth")
    code, text = cli("teachers", "check", "panns", "--weights", str(tmp_path / "net.pth"), "--json")
    assert code == 0, text
    assert json.loads(text[text.index("{") :])["elapsed_s"] < 60


@pytest.mark.slow
def test_musicnn_passes_with_its_real_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EAST_WEIGHTS")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if any(weights.installed(card) is None for card in find_teacher("musicnn").weights):
        pytest.skip("MusiCNN's weights are not here")
    try:
        code, text = cli("teachers", "check", "musicnn/pools", "--json")
    finally:
        torch.set_num_threads(n_threads)
    assert code == 0, text
