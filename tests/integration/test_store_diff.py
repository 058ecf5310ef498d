"""Two stores against each other: equal, close, different, and errors that are none of these."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import cli
from pipeline.errors import StoreError
from pipeline.stores import example_meta, open_store, write_store
from pipeline.stores.checking.diff import diff_stores
from pipeline.stores.shards import write_shard

N = 20
IDS = [f"c{row:02d}" for row in range(N)]
FEATURES = np.random.default_rng(0).standard_normal((N, 3, 4)).astype(np.float32)


def make(path: Path, features: np.ndarray = FEATURES, order: np.ndarray | None = None, **changes: object) -> str:
    order = np.arange(N) if order is None else order
    ids = [IDS[row] for row in order]
    write_store(
        path, meta=example_meta(**changes), clip_id=ids, features=features[order], n_frames=np.full(len(ids), 3)
    )
    return str(path)


def test_order_and_format_do_not_matter(tmp_path: Path) -> None:
    left = make(tmp_path / "a.zarr")
    right = make(tmp_path / "b.h5", order=np.arange(N)[::-1], chunk_clips=2, shard_clips=8)
    found = diff_stores(left, right)
    assert (found.verdict, found.exit_code, found.n_both, found.settings) == ("equal", 0, N, ())


def test_close_and_different_name_the_clip(tmp_path: Path) -> None:
    changed = FEATURES.copy()
    changed[7, 1, 2] += 0.01
    changed[3] *= 1 + 1e-6
    left, right = make(tmp_path / "a.zarr"), make(tmp_path / "b.zarr", changed)
    close = diff_stores(left, right, atol=0.02)
    assert (close.verdict, close.exit_code, close.features, close.beyond) == ("close", 10, ("c03", "c07"), ())
    different = diff_stores(left, right, atol=1e-4)
    assert (different.exit_code, different.beyond, different.largest_clip) == (11, ("c07",), "c07")
    assert different.largest == pytest.approx(0.01, rel=1e-3)
    assert "largest difference: 0.01, in 'c07'" in different.text()


def test_other_type_is_close_and_its_setting_named(tmp_path: Path) -> None:
    found = diff_stores(make(tmp_path / "a.zarr"), make(tmp_path / "b.zarr", dtype="float16"), rtol=1e-3, atol=1e-6)
    assert found.verdict == "close"
    assert found.settings == ("dtype: 'float32' | 'float16'",)


def test_clips_that_only_one_has(tmp_path: Path) -> None:
    found = diff_stores(
        make(tmp_path / "a.zarr", order=np.arange(18)), make(tmp_path / "b.zarr", order=np.arange(2, N))
    )
    assert (found.verdict, found.only_left, found.only_right) == ("different", ("c00", "c01"), ("c18", "c19"))


def foreign(path: Path, features: np.ndarray) -> str:
    """A store whose features another program wrote over, with right checksums and the digests as they were."""
    make(path)
    write_shard(path / "features/c.0.0.0", features[:16], chunk_clips=4, shard_clips=16)
    write_shard(path / "features/c.1.0.0", features[16:], chunk_clips=4, shard_clips=16)
    return str(path)


def test_equal_digests_are_trusted_unless_all_is_read(tmp_path: Path) -> None:
    changed = FEATURES.copy()
    changed[5, 2, 1] += 1
    left, right = make(tmp_path / "a.zarr"), foreign(tmp_path / "b.zarr", changed)
    assert diff_stores(left, right).verdict == "equal"
    found = diff_stores(left, right, read=True)
    assert (found.verdict, found.features, found.beyond, found.untrue) == ("different", ("c05",), ("c05",), ("c05",))
    assert "the same digest is stated for other features: 1 clips: 'c05' (east store verify)" in found.text()
    assert diff_stores(left, make(tmp_path / "c.h5"), read=True).verdict == "equal"
    done = CliRunner().invoke(cli.east, ["store", "diff", left, right, "--read"], obj={})
    assert done.exit_code == 11


def test_signs_of_zero_are_equal_and_not_a_number_is_beyond_every_tolerance(tmp_path: Path) -> None:
    zeros, signed = np.zeros_like(FEATURES), np.zeros_like(FEATURES)
    signed[3] = -0.0
    left, right = make(tmp_path / "a.zarr", zeros), make(tmp_path / "b.zarr", signed)
    with open_store(left) as one, open_store(right) as other:
        assert one.meta.content_digest != other.meta.content_digest
    found = diff_stores(left, right)
    assert (found.verdict, found.features, found.largest) == ("equal", (), 0.0)

    odd = FEATURES.copy()
    odd[4, 0, 0], odd[8, 1, 1], odd[18, 2, 3] = np.nan, np.inf, -np.inf
    left, right = make(tmp_path / "plain.zarr"), foreign(tmp_path / "odd.zarr", odd)
    found = diff_stores(left, right, rtol=1e6, atol=1e6, read=True)
    assert (found.verdict, found.features, found.beyond) == ("different", ("c04", "c08", "c18"), ("c04", "c08", "c18"))
    assert (found.largest, json.loads(found.as_json())["largest"]) == (np.inf, None)
    assert diff_stores(foreign(tmp_path / "twin.zarr", odd), right, read=True).verdict == "equal"


def test_what_lies_beyond_the_valid_frames_is_not_compared(tmp_path: Path) -> None:
    left = tmp_path / "a.zarr"
    n_frames = np.full(N, 2)
    write_store(left, meta=example_meta(), clip_id=IDS, features=FEATURES, n_frames=n_frames)
    clean = FEATURES.copy()
    clean[:, 2:] = 0
    write_store(tmp_path / "b.zarr", meta=example_meta(), clip_id=IDS, features=clean, n_frames=n_frames)
    assert diff_stores(str(left), str(tmp_path / "b.zarr"), read=True).verdict == "equal"


def test_command(tmp_path: Path) -> None:
    left, right = make(tmp_path / "a.zarr"), make(tmp_path / "b.zarr", FEATURES + 1)
    assert CliRunner().invoke(cli.east, ["store", "diff", left, left], obj={}).exit_code == 0
    done = CliRunner().invoke(cli.east, ["store", "diff", left, right, "--json"], obj={})
    assert done.exit_code == 11
    with pytest.raises(SystemExit, match=r"11"):
        cli.main(["store", "diff", left, right])
    assert json.loads(done.stdout)["features"] == IDS
    done = CliRunner().invoke(cli.east, ["store", "diff", left, str(tmp_path / "none.zarr")], obj={})
    assert isinstance(done.exception, StoreError)
