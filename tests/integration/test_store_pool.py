"""Pooling over time against plain numpy; what a pooled store says of itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from extracting import run, table_of, write_clips

import cli
from pipeline import layout
from pipeline.errors import SettingError, StoreError
from pipeline.events import Event, TaskAdvanced
from pipeline.extraction.checking import recompute_canaries
from pipeline.stores import State, StoreMeta, example_meta, open_store, write_store
from pipeline.stores.making.pool import pool_store
from pipeline.stores.making.subset import subset_store

N, FRAMES, CHANNELS = 21, 7, 3
RNG = np.random.default_rng(0)
FEATURES = RNG.normal(-5, 2, (N, FRAMES, CHANNELS)).astype(np.float32)
VALID = RNG.integers(1, FRAMES + 1, N)
VALID[0], VALID[1] = FRAMES, 4
FAILED = 5
VALID[FAILED] = 0
FEATURES[np.arange(FRAMES) >= VALID[:, None]] = 0
STATISTICS = {"mean": np.mean, "std": np.std, "max": np.max, "min": np.min}


def make(path: Path, **changes: object) -> StoreMeta:
    sizes = {"frames": FRAMES, "hop_s": 0.5, "window_s": 0.8, "offset_s": 0.1, "chunk_clips": 2, "shard_clips": 4}
    state, failure = np.full(N, State.DONE, np.uint8), [""] * N
    state[FAILED], failure[FAILED] = State.FAILED, "empty: no samples"
    return write_store(
        path,
        meta=example_meta(**({"channels": CHANNELS} | sizes | changes)),
        clip_id=[f"c{row}" for row in range(N)],
        features=FEATURES,
        n_frames=VALID,
        state=state,
        failure=failure,
    )


def expected(how: str, group: int) -> np.ndarray:
    """By loops over clips and groups, in float64."""
    groups = -(-FRAMES // group)
    out = np.zeros((N, groups, CHANNELS * len(how.split("-"))))
    for clip in range(N):
        for number in range(groups):
            frames = FEATURES[clip, number * group : min((number + 1) * group, VALID[clip])].astype(np.float64)
            if len(frames):
                out[clip, number] = np.concatenate([STATISTICS[name](frames, axis=0) for name in how.split("-")])
    return out


@pytest.mark.parametrize("suffix", ["zarr", "h5"])
@pytest.mark.parametrize("how", ["mean", "max", "mean-std", "min-std-max"])
@pytest.mark.parametrize("group", [0, 2, 3])
def test_pooling_is_what_numpy_says(tmp_path: Path, suffix: str, how: str, group: int) -> None:
    source = make(tmp_path / f"s.{suffix}")
    meta = pool_store(str(tmp_path / f"s.{suffix}"), tmp_path / f"p.{suffix}", how=how, hop_s=group * 0.5)
    wanted = expected(how, group or FRAMES)
    with open_store(tmp_path / f"p.{suffix}") as reader:
        found = reader.read(np.arange(N))
        assert found.shape == wanted.shape
        assert found == pytest.approx(wanted, abs=1e-5)
        assert reader.n_frames.tolist() == [-(-n // (group or FRAMES)) for n in VALID]
        assert (reader.state[FAILED], reader.failure[FAILED]) == (State.FAILED, "empty: no samples")
    assert meta.hop_s == group * 0.5
    assert meta.window_s == pytest.approx(0.8 + 0.5 * ((group or FRAMES) - 1))
    assert (meta.offset_s, meta.rate_hz, meta.clip_s) == (source.offset_s, source.rate_hz, source.clip_s)
    assert meta.derived["settings"] == {"how": how, "frames_per_group": group}


def test_a_pooled_store_is_never_taken_for_its_source(tmp_path: Path) -> None:
    source = make(tmp_path / "s.zarr")
    path = str(tmp_path / "s.zarr")
    first = pool_store(path, tmp_path / "a.zarr", how="mean")
    again = pool_store(path, tmp_path / "b.h5", how="mean")
    assert (first.fingerprint, first.content_digest) == (again.fingerprint, again.content_digest)
    assert first.output == "features-mean"
    part = subset_store(path, tmp_path / "part.zarr", ["c1", "c2"])
    assert part.fingerprint == source.fingerprint
    assert pool_store(str(tmp_path / "part.zarr"), tmp_path / "c.zarr", how="mean").fingerprint == first.fingerprint
    coarse = pool_store(path, tmp_path / "d.zarr", how="mean", hop_s=1.0)
    assert coarse.output == "features-mean-1s"
    # seven frames and a hop of seven frames: the same numbers, but another hop
    others = [coarse, pool_store(path, tmp_path / "e.zarr", how="max"),
              pool_store(path, tmp_path / "f.zarr", how="mean", dtype="float16"),
              pool_store(path, tmp_path / "g.zarr", how="mean", hop_s=3.5)]  # fmt: skip
    make(tmp_path / "half.zarr", dtype="float16")
    others.append(pool_store(str(tmp_path / "half.zarr"), tmp_path / "h.zarr", how="mean", dtype="float32"))
    assert len({meta.fingerprint for meta in (source, first, *others)}) == 7


def test_what_cannot_be_pooled_is_said(tmp_path: Path) -> None:
    make(tmp_path / "s.zarr")
    path, out = str(tmp_path / "s.zarr"), tmp_path / "out.zarr"
    with pytest.raises(SettingError, match=r"--how 'median' is no way to pool: mean, std, max, min, or several"):
        pool_store(path, out, how="median")
    with pytest.raises(SettingError, match=r"--how 'mean-mean' is no way"):
        pool_store(path, out, how="mean-mean")
    for hop_s in (0.7, 0.5, 0.2):
        with pytest.raises(SettingError, match=r"is not two or more times the hop of example/features, 0\.5 s: .* 1 s"):
            pool_store(path, out, how="mean", hop_s=hop_s)
    pool_store(path, tmp_path / "p.zarr", how="mean")
    with pytest.raises(StoreError, match=r"has one frame per clip already"):
        pool_store(str(tmp_path / "p.zarr"), out, how="max")
    assert not out.exists()


def test_interrupted_pooling_goes_on(tmp_path: Path) -> None:
    make(tmp_path / "s.zarr")
    whole = pool_store(str(tmp_path / "s.zarr"), tmp_path / "whole.zarr", how="mean-std")

    def stop(event: Event) -> None:
        if isinstance(event, TaskAdvanced):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool_store(str(tmp_path / "s.zarr"), tmp_path / "p.zarr", how="mean-std", listener=stop)
    with pytest.raises(StoreError, match=r"unfinished store that was made in another way"):
        pool_store(str(tmp_path / "s.zarr"), tmp_path / "p.zarr", how="mean")
    meta = pool_store(str(tmp_path / "s.zarr"), tmp_path / "p.zarr", how="mean-std")
    assert meta.content_digest == whole.content_digest


def test_canaries_are_pooled_and_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(layout.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.setenv("EAST_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("EAST_PLUGINS", "plugins")
    run(table_of(write_clips(tmp_path / "music", 3), tmp_path / "music"), "fake/frames")
    source = layout.store_path("tiny", "fake", "frames")
    pool_store(str(source), tmp_path / "p.zarr", how="mean-std", hop_s=2 * _hop(source))
    subset_store(str(tmp_path / "p.zarr"), tmp_path / "part.zarr", ["001.flac"])
    for name in ("p", "part"):
        done = CliRunner().invoke(cli.east, ["store", "verify", f"{tmp_path}/{name}.zarr"], obj={})
        assert done.exit_code == 0, done.output
        assert "computed again, within the card's tolerance" in done.output
    with open_store(source) as before, open_store(tmp_path / "p.zarr") as after:
        assert after.canaries()["features"].shape[2] == 2 * before.shape[2]
        wrong = after.canaries()
        wrong["features"] = wrong["features"] * 1.01
        assert recompute_canaries(after.meta, wrong).agrees is False
    pool_store(str(tmp_path / "p.zarr"), tmp_path / "twice.zarr", how="max")
    done = CliRunner().invoke(cli.east, ["store", "verify", f"{tmp_path}/twice.zarr"], obj={})
    assert "itself gives no output 'frames-mean-std-" in done.output


def test_command(tmp_path: Path) -> None:
    make(tmp_path / "s.zarr")
    arguments = [str(tmp_path / "s.zarr"), str(tmp_path / "p.h5"), "--how", "mean-std", "--hop", "1"]
    done = CliRunner().invoke(cli.east, ["store", "pool", *arguments], obj={})
    assert done.exit_code == 0, done.output
    assert "example/features-mean-std-1s: 4 frames x 6 channels per clip" in done.output


def _hop(path: Path) -> float:
    with open_store(path) as reader:
        return reader.meta.hop_s
