"""Stores out of stores: merged, subset, converted, in both formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cli
from pipeline.errors import SettingError, StoreError
from pipeline.events import Event, TaskAdvanced
from pipeline.stores import StoreMeta, example_meta, open_store, write_store
from pipeline.stores.making.convert import convert_store
from pipeline.stores.making.merge import merge_stores
from pipeline.stores.making.subset import subset_store

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
