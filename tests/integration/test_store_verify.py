"""Every flipped bit is found and the right clips or file named; what is damaged is made again, and nothing else."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import badfiles
import h5py
import numpy as np
import plugins
import pytest
import soundfile as sf
from click.testing import CliRunner
from extracting import CLIP_S, ROOT, run, table_of, write_clips

import cli
from pipeline import layout
from pipeline.errors import StoreError
from pipeline.events import Event, ShardDone, TaskStarted
from pipeline.manifest import ClipTable
from pipeline.stores import example_meta, open_store, write_store
from pipeline.stores.checking.audio_files import AudioPlaces
from pipeline.stores.checking.repair import repair_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.journal import JOURNAL
from pipeline.stores.target import working_path

N, CHUNK, FLIPS = 37, 4, 40
IDS = [f"c{row}" for row in range(N)]
JUST = VerifyOptions()


def make(path: Path) -> Path:
    features = np.random.default_rng(0).standard_normal((N, 3, 4)).astype(np.float32)
    write_store(path, meta=example_meta(), clip_id=IDS, features=features, n_frames=np.full(N, 3))
    return path


def files_of(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def flip(file: Path, bit: int) -> bytes:
    before = file.read_bytes()
    content = bytearray(before)
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
    return before


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_a_good_store_is_fine(tmp_path: Path, suffix: str) -> None:
    report = verify_store(make(tmp_path / f"s.{suffix}"), JUST)
    assert not report.findings
    assert {check.name: check.status for check in report.checks}["canaries"] == "not checked"
    assert report.verdict().endswith("is finished and fine: 37 clips done, 0 failed, 0 pending.")
    report.require()


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_every_flipped_bit_is_found_and_its_file_named(tmp_path: Path, suffix: str, seed: int) -> None:
    path, rng = make(tmp_path / f"s.{suffix}"), random.Random(seed)
    files, wrong = files_of(path), []
    weights = [file.stat().st_size for file in files]
    for number in range(FLIPS * (1 + 9 * seed)):
        file = rng.choice(files) if number % 2 else rng.choices(files, weights)[0]
        bit = rng.randrange(8 * file.stat().st_size)
        before = flip(file, bit)
        named = {finding.file for finding in verify_store(path, JUST).findings}
        if not named or (path.is_dir() and file.relative_to(path).as_posix() not in named):
            wrong.append((file.name, bit, named))
        file.write_bytes(before)
    assert not wrong


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_the_clips_behind_a_damaged_chunk_are_named(tmp_path: Path, suffix: str) -> None:
    path = make(tmp_path / f"s.{suffix}")
    features = np.random.default_rng(0).standard_normal((N, 3, 4)).astype("<f4")
    row, file = 21, path if path.is_file() else path / "features/c.1.0.0"
    at = file.read_bytes().index(features[row].tobytes())
    flip(file, 8 * at + 3)
    report = verify_store(path, JUST)
    assert report.clips == ("c20", "c21", "c22", "c23")
    if suffix == "zarr":
        assert [finding.lost for finding in report.findings if finding.lost] == [("c21",)]
    with pytest.raises(StoreError, match=r"findings? in .*--repair"):
        report.require()


def test_files_that_are_missing_or_nobody_knows(tmp_path: Path) -> None:
    path = make(tmp_path / "s.zarr")
    (path / "features/c.2.0.0").unlink()
    (path / "features/extra").write_text("hello")
    named = {finding.file for finding in verify_store(path, JUST).findings}
    assert {"features/c.2.0.0", "features/extra"} <= named


@pytest.fixture
def extracted(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> ClipTable:
    monkeypatch.setenv("EAST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EAST_WEIGHTS", str(tmp_path_factory.getbasetemp() / "weights"))
    monkeypatch.setenv("EAST_PLUGINS", "plugins")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))
    table = table_of(write_clips(tmp_path / "music", N), tmp_path / "music")
    run(table, "fake/frames")
    return table


def test_repaired_then_only_what_was_damaged_is_computed(extracted: ClipTable) -> None:
    path = layout.store_path("tiny", "fake", "frames")
    right = verify_store(path, JUST)
    digest = json.loads((path / "zarr.json").read_text())["attributes"]["content_digest"]
    flip(path / "features/c.1.0.0", 77)
    report = repair_store(path, JUST)
    assert len(report.clips) == len(report.findings[0].clips) > 0
    assert "pending; everything else is fine" in report.after
    events: list[Event] = []
    run(extracted, "fake/frames", listener=events.append)
    assert [event.total for event in events if isinstance(event, TaskStarted) and event.task == "extract"] == [
        len(report.clips)
    ]
    assert json.loads((path / "zarr.json").read_text())["attributes"]["content_digest"] == digest
    assert verify_store(path, JUST).verdict() == right.verdict()


def test_damage_in_an_unfinished_store_is_made_again(extracted: ClipTable) -> None:
    """What the journal of the killed run says of the damaged clips does not count any more."""
    path = layout.store_path("tiny", "fake", "frames")
    digest = json.loads((path / "zarr.json").read_text())["attributes"]["content_digest"]
    shutil.rmtree(path)

    def stop(event: Event) -> None:
        if isinstance(event, ShardDone) and event.shard == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(extracted, "fake/frames", listener=stop)
    before = verify_store(path, JUST)
    assert (path / JOURNAL).exists()
    assert not before.findings
    flip(path / "features/c.1.0.0", 77)
    report = repair_store(path, JUST)
    assert report.clips
    after = verify_store(path, JUST)
    assert (after.findings, after.n_done) == ((), before.n_done - len(report.clips))
    run(extracted, "fake/frames")
    assert not verify_store(path, JUST).findings
    assert json.loads((path / "zarr.json").read_text())["attributes"]["content_digest"] == digest


def test_missing_audio_and_stray_files_mark_nothing(extracted: ClipTable, tmp_path: Path) -> None:
    path = layout.store_path("tiny", "fake", "frames")
    (tmp_path / "unmounted").mkdir()
    with pytest.raises(StoreError, match=r"is not repaired: audio .* is missing"):
        repair_store(path, VerifyOptions(audio=AudioPlaces(tmp_path / "unmounted", {})))
    assert not verify_store(path, JUST).findings
    (path / "features/extra").write_text("hello")
    with pytest.raises(StoreError, match=r"is not repaired: .*yours to remove"):
        repair_store(path, JUST)
    (path / "features/extra").unlink()
    assert not verify_store(path, JUST).findings


def test_what_cannot_be_repaired_is_said(tmp_path: Path) -> None:
    path = make(tmp_path / "s.zarr")
    flip(path / "n_frames/c/0", 5)
    with pytest.raises(StoreError, match=r"n_frames/c/0 is damaged, which only a copy"):
        repair_store(path, JUST)
    path = make(tmp_path / "s.h5")
    flip(path, 8 * 300)
    with pytest.raises(StoreError, match=r"s\.h5 is not repaired: .*Damaged features alone can be made again"):
        repair_store(path, JUST)
    assert not working_path(path).exists()


def test_an_hdf5_file_is_packed_anew_with_its_damaged_clips_alone_computed(extracted: ClipTable) -> None:
    run(extracted, "fake/frames", format="hdf5")
    path = layout.store_path("tiny", "fake", "frames", "hdf5")
    with open_store(path) as reader:
        digest, right = reader.meta.content_digest, reader.read(np.arange(len(reader)))
    with h5py.File(path) as file:
        where = file["features"].id.get_chunk_info_by_coord((0, 0, 0)).byte_offset
    before = path.read_bytes()
    flip(path, 8 * where + 3)
    report = repair_store(path, JUST)
    damaged = path.read_bytes()
    assert damaged != before
    assert 0 < len(report.clips) < N
    assert "pending; everything else is fine" in report.after
    events: list[Event] = []
    run(extracted, "fake/frames", format="hdf5", listener=events.append)
    assert [event.total for event in events if isinstance(event, TaskStarted) and event.task == "extract"] == [
        len(report.clips)
    ]
    with open_store(path) as reader:
        assert reader.meta.content_digest == digest
        assert np.array_equal(reader.read(np.arange(len(reader))), right)
    assert not verify_store(path, JUST).findings
    assert not working_path(path).exists()


def test_command_with_canaries_and_audio(extracted: ClipTable, tmp_path: Path) -> None:
    path = layout.store_path("tiny", "fake", "frames")
    arguments = ["store", "verify", str(path), "--audio", str(tmp_path / "music")]
    done = CliRunner().invoke(cli.east, arguments, obj={})
    assert done.exit_code == 0, done.output
    assert "computed again, within the card's tolerance" in done.output
    rate_hz = badfiles.CODECS["flac"][0]
    sf.write(tmp_path / "music/003.flac", badfiles.music(rate_hz, CLIP_S, seed=99), rate_hz)
    (tmp_path / "music/004.flac").unlink()
    done = CliRunner().invoke(cli.east, [*arguments, "--json"], obj={})
    assert isinstance(done.exception, StoreError)
    found = json.loads(done.stdout)
    assert found["clips"] == ["003.flac", "004.flac"]


def canaries_of(path: Path, *options: str) -> tuple[str, str, int]:
    """Status and words of the check of canaries, and the exit status."""
    done = CliRunner().invoke(cli.east, ["store", "verify", str(path), "--json", *options], obj={})
    check = {check["name"]: check for check in json.loads(done.stdout)["checks"]}["canaries"]
    return check["status"], check["text"], 0 if done.exit_code == 0 else 1


def test_canaries_are_computed_again_with_the_weights_that_are_here(
    extracted: ClipTable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EAST_WEIGHTS", str(tmp_path / "weights"))
    file = tmp_path / "weights/fake-weighty/factor.npy"
    file.parent.mkdir(parents=True)
    file.write_bytes(plugins.weights_bytes())
    run(extracted, "fake-weighty/frames")
    path = layout.store_path("tiny", "fake-weighty", "frames")
    with open_store(path) as reader:
        assert reader.meta.weights_sha256 == (plugins.WEIGHTS.sha256,)
    status, text, code = canaries_of(path)
    assert (status, code) == ("ok", 0)
    assert text.startswith("computed again, within the card's tolerance")
    assert canaries_of(path, "--no-canaries")[:2] == ("not checked", "left out as asked")
    file.write_bytes(plugins.weights_bytes(0.6))
    assert canaries_of(path) == ("not checked", "not computed again: its weights are not here (east weights get)", 0)
    file.unlink()
    assert canaries_of(path)[0] == "not checked"


def test_canaries_that_come_out_other_are_damage(extracted: ClipTable, monkeypatch: pytest.MonkeyPatch) -> None:
    run(extracted, "fake-drift/frames")
    path = layout.store_path("tiny", "fake-drift", "frames")
    assert canaries_of(path)[::2] == ("ok", 0)
    monkeypatch.setenv("FAKE_DRIFT", "1.01")
    status, text, code = canaries_of(path)
    assert (status, code) == ("damaged", 1)
    assert "gives other numbers here" in text
