"""Stores out of stores: merged, subset, converted, in both formats."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from synthetic import Sizes, make_dataset

import cli
from pipeline import layout
from pipeline.errors import SettingError, StoreError
from pipeline.events import Event, TaskAdvanced, Warned
from pipeline.stores import StoreMeta, StoreWriter, example_meta, open_store, write_store
from pipeline.stores.making.convert import convert_store
from pipeline.stores.making.merge import merge_stores
from pipeline.stores.making.subset import read_ids, subset_store

N = 40
IDS = [f"clip {row:02d}" for row in range(N)]
FEATURES = np.random.default_rng(0).standard_normal((N, 3, 4)).astype(np.float32)
DIGESTS = np.random.default_rng(1).integers(1, 256, (N, 32)).astype(np.uint8)


def make(path: Path, rows: slice | np.ndarray = slice(None), **changes: object) -> StoreMeta:
    meta = example_meta(**({"chunk_clips": 4, "shard_clips": 8} | changes))
    ids = np.array(IDS, object)[rows]
    return write_store(
        path,
        meta=meta,
        clip_id=ids,
        features=FEATURES[rows],
        n_frames=np.full(len(ids), 3),
        samples_digest=DIGESTS[rows],
    )


@pytest.mark.parametrize("out", ["out.zarr", "out.h5"])
def test_merge_has_the_content_of_one_extraction(tmp_path: Path, out: str) -> None:
    whole = make(tmp_path / "whole.zarr")
    make(tmp_path / "a.zarr", slice(0, 17))
    make(tmp_path / "b.h5", slice(17, N), chunk_clips=2, shard_clips=16)
    meta = merge_stores(tmp_path / out, [str(tmp_path / "b.h5"), str(tmp_path / "a.zarr")])
    assert meta.content_digest == whole.content_digest
    with open_store(tmp_path / out) as reader:
        row = reader.clip_id.tolist().index("clip 03")
        assert np.array_equal(reader.read(np.array([row]))[0], FEATURES[3])
        assert np.array_equal(reader.samples_digest[row], DIGESTS[3])
        assert [source["extractor"] for source in reader.meta.derived["sources"]] == ["example", "example"]


def test_merge_of_clips_in_several_stores(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.zarr")
    a, b = str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr")
    make(tmp_path / "a.zarr", slice(0, 20))
    make(tmp_path / "b.zarr", slice(15, N))
    with pytest.raises(
        StoreError, match=r"5 clips are in several of the stores: 'clip 15', 'clip 16', 'clip 17', \.\.\."
    ):
        merge_stores(tmp_path / "out.zarr", [a, b])
    assert not (tmp_path / "out.zarr").exists()
    assert merge_stores(tmp_path / "out.zarr", [a, b], same=True).content_digest == whole.content_digest
    write_store(
        tmp_path / "c.zarr", meta=example_meta(), clip_id=["clip 15"], features=FEATURES[:1], n_frames=np.array([3])
    )
    with pytest.raises(StoreError, match=r"'clip 15' is in .*a\.zarr and in .*c\.zarr, with other features"):
        merge_stores(tmp_path / "out2.zarr", [a, str(tmp_path / "c.zarr")], same=True)


def with_canaries(path: Path, rows: slice, canaries: dict[str, np.ndarray]) -> str:
    """A finished store that has some, as extraction writes them."""
    meta = example_meta(chunk_clips=4, shard_clips=8, card={"version": 1, "parameters": {}, "tolerance": 1e-3})
    with StoreWriter(path, meta, np.array(IDS[rows], object), make_canaries=lambda: canaries) as writer:
        for shard in writer.pending_shards():
            part = slice(rows.start + 8 * shard, min(rows.stop, rows.start + 8 * (shard + 1)))
            n, empty = part.stop - part.start, np.zeros((part.stop - part.start, 32), np.uint8)
            writer.record(
                writer.target.write(
                    shard, clip_ids=IDS[part], features=FEATURES[part], n_frames=np.full(n, 3),
                    state=np.ones(n, np.uint8), failure=[""] * n, file_digest=empty, samples_digest=empty,
                )
            )  # fmt: skip
        writer.finish({})
    return str(path)


CANARIES = {"features": np.linspace(-2, 2, 24, dtype=np.float32).reshape(2, 3, 4), "n_frames": np.array([3, 3])}


def test_merge_of_stores_whose_canaries_disagree(tmp_path: Path) -> None:
    other = CANARIES | {"features": CANARIES["features"] * np.float32(1 + 1e-2)}
    close = CANARIES | {"features": CANARIES["features"] * np.float32(1 + 1e-4)}
    a = with_canaries(tmp_path / "a.zarr", slice(0, 20), CANARIES)
    b = with_canaries(tmp_path / "b.h5", slice(20, N), other)
    c = with_canaries(tmp_path / "c.zarr", slice(20, N), close)
    with pytest.raises(
        StoreError, match=r"b\.h5 and .*a\.zarr .* differ by 1\.00e-02 of their range, the card allows 1e-03"
    ):
        merge_stores(tmp_path / "out.zarr", [a, b])
    assert not (tmp_path / "out.zarr").exists()
    events: list[Event] = []
    merge_stores(tmp_path / "out.zarr", [a, c], listener=events.append)
    assert not [event for event in events if isinstance(event, Warned)]
    with open_store(tmp_path / "out.zarr") as reader:
        assert np.array_equal(reader.canaries()["features"], CANARIES["features"])


def test_merge_says_which_store_has_no_canaries(tmp_path: Path) -> None:
    """Those that have some are compared all the same, and the merged store keeps them."""
    other = CANARIES | {"features": CANARIES["features"] + 1}
    a = with_canaries(tmp_path / "a.zarr", slice(0, 10), {})
    b = with_canaries(tmp_path / "b.zarr", slice(10, 20), CANARIES)
    c = with_canaries(tmp_path / "c.zarr", slice(20, N), other)
    with pytest.raises(StoreError, match=r"c\.zarr and .*b\.zarr were not made by the same numbers"):
        merge_stores(tmp_path / "out.zarr", [a, b, c])
    d = with_canaries(tmp_path / "d.zarr", slice(20, N), {"features": np.zeros((1, 3, 4), np.float32)})
    events: list[Event] = []
    merge_stores(tmp_path / "out.h5", [a, b, d], listener=events.append)
    first, second = [event.text for event in events if isinstance(event, Warned)]
    assert first.endswith("a.zarr has no canaries: nothing shows that its numbers are those of the others.")
    assert second.endswith("b.zarr are other signals: not compared.")
    with open_store(tmp_path / "out.h5") as reader:
        assert np.array_equal(reader.canaries()["features"], CANARIES["features"])


def test_merge_of_an_unfinished_store(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr", slice(0, 20))
    with StoreWriter(tmp_path / "b.zarr", example_meta(), np.array(IDS[20:], object), make_canaries=dict):
        pass
    with pytest.raises(StoreError, match=r"b\.zarr is not finished: 20 of its 20 clips are pending"):
        merge_stores(tmp_path / "out.zarr", [str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr")])
    assert not (tmp_path / "out.zarr").exists()


def test_merge_of_other_settings_names_the_field(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr", slice(0, 20))
    make(tmp_path / "b.zarr", slice(20, N), hop_s=0.5)
    with pytest.raises(StoreError, match=r"hop_s is 0\.5 there and 1\.0 here"):
        merge_stores(tmp_path / "out.zarr", [str(tmp_path / "a.zarr"), str(tmp_path / "b.zarr")])
    with pytest.raises(SettingError, match=r"two stores or more"):
        merge_stores(tmp_path / "out.zarr", [str(tmp_path / "a.zarr")])


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
def test_subset_by_ids(tmp_path: Path, suffix: str) -> None:
    make(tmp_path / f"s.{suffix}")
    rows = np.array([30, 2, 11])
    expected = make(tmp_path / "expected.zarr", np.sort(rows))
    meta = subset_store(str(tmp_path / f"s.{suffix}"), tmp_path / f"out.{suffix}", [IDS[row] for row in rows])
    assert meta.content_digest == expected.content_digest
    with open_store(tmp_path / f"out.{suffix}") as reader:
        assert reader.clip_id.tolist() == ["clip 02", "clip 11", "clip 30"]


def test_subset_by_split_and_label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EAST_HOME", str(tmp_path))
    table = make_dataset(tmp_path, sizes=Sizes(train=12, valid=8, test=6))
    source = str(layout.store_path("tiny", "teach", "clip"))
    low, high = (table.labels[:, table.classes.index(name)] == 1 for name in ("low", "high"))
    cases = {
        "split": (["--split", "valid"], table.split == "valid"),
        "splits": (["--split", "valid", "--split", "test"], np.isin(table.split.astype(str), ["valid", "test"])),
        "label": (["--label", "low"], low),
        "both": (["--split", "train", "--label", "low", "--label", "high"], (table.split == "train") & (low | high)),
    }
    for name, (options, chosen) in cases.items():
        out = tmp_path / f"{name}.zarr"
        done = CliRunner().invoke(cli.east, ["store", "subset", source, str(out), "--data", "tiny", *options], obj={})
        assert done.exit_code == 0, done.output
        with open_store(out) as reader, open_store(source) as whole:
            assert set(reader.clip_id.tolist()) == set(table.clip_id[np.asarray(chosen, bool)].tolist())
            assert 0 < len(reader) < len(whole)
            rows = np.flatnonzero(np.isin(whole.clip_id.astype(str), reader.clip_id.astype(str)))
            assert np.array_equal(reader.read(np.arange(len(reader))), whole.read(rows))
    for options, words in (
        (["--split", "vaild"], r"no split 'vaild'; it has"),
        (["--label", "x"], r"no label 'x'; it has low"),
    ):
        arguments = ["store", "subset", source, str(tmp_path / "no.zarr"), "--data", "tiny", *options]
        done = CliRunner().invoke(cli.east, arguments, obj={})
        assert isinstance(done.exception, SettingError)
        assert re.search(words, str(done.exception))


def test_ids_from_a_file(tmp_path: Path) -> None:
    """As editors on any system leave it."""
    make(tmp_path / "s.zarr")
    ids = tmp_path / "ids.txt"
    ids.write_bytes("\ufeffclip 03\r\n  clip 11\t\n\nclip 30".encode())
    arguments = ["store", "subset", f"{tmp_path}/s.zarr", f"{tmp_path}/out.zarr", "--ids", str(ids)]
    assert CliRunner().invoke(cli.east, arguments, obj={}).exit_code == 0
    with open_store(tmp_path / "out.zarr") as reader:
        assert reader.clip_id.tolist() == ["clip 03", "clip 11", "clip 30"]
    missing = [f"nobody {row}" for row in range(12)]
    ids.write_text("\n".join(["clip 01", *missing]))
    with pytest.raises(StoreError, match=r"lacks 12 of the 13 clips: 'nobody 0', .*'nobody 9', \.\.\.\. Extract"):
        subset_store(f"{tmp_path}/s.zarr", tmp_path / "no.zarr", read_ids(ids))
    ids.write_bytes("Käse".encode("latin-1"))
    with pytest.raises(SettingError, match=r"ids\.txt is not UTF-8 text \(.* at byte 1\)"):
        read_ids(ids)
    ids.write_text(" \n\n")
    with pytest.raises(SettingError, match=r"ids\.txt holds no clip id"):
        read_ids(ids)


def test_subset_of_clips_that_are_not_there(tmp_path: Path) -> None:
    make(tmp_path / "s.zarr")
    with pytest.raises(StoreError, match=r"lacks 1 of the 2 clips: 'nobody'.*--allow-missing"):
        subset_store(str(tmp_path / "s.zarr"), tmp_path / "out.zarr", ["clip 01", "nobody"])
    subset_store(str(tmp_path / "s.zarr"), tmp_path / "out.zarr", ["clip 01", "nobody"], allow_missing=True)
    with pytest.raises(StoreError, match=r"has none of the 1 clips"):
        subset_store(str(tmp_path / "s.zarr"), tmp_path / "none.zarr", ["nobody"], allow_missing=True)


def test_there_and_back_is_equal_to_the_bit(tmp_path: Path) -> None:
    first = make(tmp_path / "a.zarr")
    second, error = convert_store(str(tmp_path / "a.zarr"), tmp_path / "b.h5", chunk_clips=5, shard_clips=10)
    third, _ = convert_store(str(tmp_path / "b.h5"), tmp_path / "c.zarr", chunk_clips=8, shard_clips=16)
    assert first.content_digest == second.content_digest == third.content_digest
    assert error.text() == "Values are equal to the bit."
    assert first.fingerprint == third.fingerprint
    with open_store(tmp_path / "c.zarr") as reader:
        assert np.array_equal(reader.read(np.arange(N)), FEATURES)


def test_smaller_type_measures_and_records_its_error(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr")
    meta, error = convert_store(str(tmp_path / "a.zarr"), tmp_path / "b.zarr", dtype="float16")
    worst = float(np.abs(FEATURES.astype(np.float16).astype(np.float64) - FEATURES).max())
    assert error.absolute == pytest.approx(worst)
    assert meta.derived["settings"]["error"]["absolute"] == pytest.approx(worst)
    assert (meta.dtype, meta.complete) == ("float16", True)
    assert meta.fingerprint != make(tmp_path / "again.zarr").fingerprint


@pytest.mark.parametrize("out", ["b.zarr", "b.h5"])
def test_values_beyond_the_smaller_type_are_refused_before_anything_is_written(tmp_path: Path, out: str) -> None:
    features = FEATURES.copy()
    features[33, 1, 2] = -65_505.0
    write_store(tmp_path / "a.zarr", meta=example_meta(), clip_id=IDS, features=features, n_frames=np.full(N, 3))
    with pytest.raises(StoreError, match=r"clip 'clip 33' .* 65505, which float16 \(up to 65504\) cannot hold"):
        convert_store(str(tmp_path / "a.zarr"), tmp_path / out, dtype="float16")
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_interrupted_work_goes_on(tmp_path: Path) -> None:
    make(tmp_path / "a.zarr")

    def stop(event: Event) -> None:
        if isinstance(event, TaskAdvanced):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_store(str(tmp_path / "a.zarr"), tmp_path / "b.h5", listener=stop)
    assert not (tmp_path / "b.h5").exists()
    with pytest.raises(StoreError, match=r"unfinished store that was made in another way"):
        subset_store(str(tmp_path / "a.zarr"), tmp_path / "b.h5", IDS)
    events: list[Event] = []
    convert_store(str(tmp_path / "a.zarr"), tmp_path / "b.h5", listener=events.append)
    assert (
        sum(event.amount for event in events if isinstance(event, TaskAdvanced) and event.task.startswith("write"))
        == 32
    )
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a.zarr", "b.h5"]


@pytest.mark.parametrize(
    ("out", "message"),
    [("out.txt", r"the suffix says the format"), ("a.zarr", r"is, or lies inside, the source"),
     ("a.zarr/x.h5", r"is, or lies inside, the source"), ("b.zarr", r"is there already; nothing is overwritten")],
)  # fmt: skip
def test_places_that_are_refused(tmp_path: Path, out: str, message: str) -> None:
    make(tmp_path / "a.zarr")
    make(tmp_path / "b.zarr")
    with pytest.raises((SettingError, StoreError), match=message):
        convert_store(str(tmp_path / "a.zarr"), tmp_path / out)


def test_commands(tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.zarr")
    (tmp_path / "ids.txt").write_text("\n".join(IDS[:5]))
    (tmp_path / "rest.txt").write_text("\n".join(IDS[5:]))
    for name in ("ids", "rest"):
        arguments = [
            "store",
            "subset",
            f"{tmp_path}/whole.zarr",
            f"{tmp_path}/{name}.zarr",
            "--ids",
            f"{tmp_path}/{name}.txt",
        ]
        assert CliRunner().invoke(cli.east, arguments, obj={}).exit_code == 0
    done = CliRunner().invoke(
        cli.east, ["store", "merge", *(f"{tmp_path}/{name}" for name in ("m.h5", "ids.zarr", "rest.zarr"))]
    )
    assert f"content digest: {whole.content_digest}" in done.output
    done = CliRunner().invoke(cli.east, ["store", "convert", f"{tmp_path}/m.h5", f"{tmp_path}/c.zarr"])
    assert "Values are equal to the bit." in done.output
    done = CliRunner().invoke(cli.east, ["store", "subset", f"{tmp_path}/m.h5", f"{tmp_path}/d.zarr"])
    assert done.exit_code == 2
    assert "Name the clips by --data" in done.output
