"""Batches on the device: the same ones, wherever the features are kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.distillation.batches import Answers, Batch, Feed
from pipeline.distillation.features import Column, FeatureSet
from pipeline.distillation.placing import Ahead, keeps_on_device, place
from pipeline.distillation.processes import Part
from pipeline.distillation.sampling import plan_batches
from pipeline.errors import SettingError
from pipeline.stores import StoreReader, example_meta, open_store, write_store

N, CPU = 24, torch.device("cpu")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StoreReader]:
    features = np.random.default_rng(0).normal(size=(N, 5, 3)).astype(np.float16)
    meta = example_meta(frames=5, channels=3, dtype="float16", shard_clips=8)
    write_store(tmp_path / "mel.zarr", meta=meta, clip_id=[str(k) for k in range(N)], features=features,
                n_frames=np.full(N, 5))  # fmt: skip
    with open_store(tmp_path / "mel.zarr") as reader:
        yield reader


def _features(store: StoreReader, budget: int = 1 << 30) -> FeatureSet:
    return FeatureSet([Column(store, np.arange(N))] * 2, budget_bytes=budget)


def _feed(features: FeatureSet, part: Part | None = None, steps: int = 7) -> Feed:
    labels = np.random.default_rng(1).integers(0, 2, (N, 4)).astype(np.int8)
    labels[10:] = -1
    scores = np.random.default_rng(2).normal(size=(N, 4)).astype(np.float32)
    plan = plan_batches(8, 0.5, labelled=10, unlabelled=14, seed=3)
    return Feed(features, Answers(labels, scores), plan, steps=steps, part=part or Part())


def _equal(a: Batch, b: Batch, device: torch.device = CPU) -> bool:
    mine: list[torch.Tensor] = []
    theirs: list[torch.Tensor] = []
    a.each(lambda tensor: mine.append(tensor) or tensor)  # type: ignore[func-returns-value]
    b.each(lambda tensor: theirs.append(tensor) or tensor)  # type: ignore[func-returns-value]
    assert all(tensor.device == device for tensor in mine)
    return len(mine) == len(theirs) == 9 and all(torch.equal(x.cpu(), y) for x, y in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("data_on", ["host", "device"])
@pytest.mark.parametrize("budget", [1 << 30, 1])
def test_the_same_batches_wherever_they_are_made(store: StoreReader, device: str, data_on: str, budget: int) -> None:
    if data_on == "device" and budget == 1:
        pytest.skip("what is not in memory is not kept on a device")
    there = torch.device(device)
    plain = list(_feed(_features(store, budget)))
    placed = list(place(_feed(_features(store, budget)), data_on, there, lambda event: None))
    ahead = list(Ahead(_feed(_features(store, budget)), there))
    assert len(plain) == len(placed) == len(ahead) == 7
    assert all(_equal(a, b, there) for a, b in zip(placed, plain, strict=True))
    assert all(_equal(a, b, there) for a, b in zip(ahead, plain, strict=True))


def test_whole_stores_go_to_the_device_where_they_take_at_most_half(store: StoreReader) -> None:
    features = _features(store)
    gpu, enough = torch.device("cuda:0"), 2 * features.n_bytes
    assert keeps_on_device(features, "auto", gpu, enough)
    assert not keeps_on_device(features, "auto", gpu, enough - 1)
    assert not keeps_on_device(features, "host", gpu, enough)
    assert not keeps_on_device(features, "auto", CPU, None)
    with pytest.raises(SettingError, match=r"--data-on device: the features take 0\.00 GiB, but cuda:0 has room for"):
        keeps_on_device(features, "device", gpu, enough - 1)
    with pytest.raises(SettingError, match="they do not fit in memory, either"):
        keeps_on_device(_features(store, 1), "device", gpu, enough)


def test_a_loop_that_is_left_early_leaves_no_thread(store: StoreReader) -> None:
    import threading

    for _ in Ahead(_feed(_features(store)), CPU):
        break
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_an_error_while_gathering_reaches_the_loop(store: StoreReader) -> None:
    def broken() -> Iterator[Batch]:
        yield next(iter(_feed(_features(store))))
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(Ahead(broken(), CPU))  # type: ignore[arg-type]


@pytest.mark.parametrize("budget", [1 << 30, 1])
def test_processes_share_every_batch_in_the_seeded_order(store: StoreReader, budget: int) -> None:
    whole = list(_feed(_features(store, budget)).keys())
    parts = [list(_feed(_features(store, budget), Part(rank, 2)).keys()) for rank in range(2)]
    for batch, *mine in zip(whole, *parts, strict=True):
        assert np.array_equal(np.stack(mine, axis=1).reshape(-1), batch)
        assert all((part < 10).sum() == 2 for part in mine)  # labelled clips are shared evenly, too
