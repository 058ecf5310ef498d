"""Joining, holding and drawing: every clip meets its own features, in an order the seed decides."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.distillation.batches import Answers, Batch, Feed, evaluation_batches
from pipeline.distillation.features import Column, FeatureSet, memory_budget
from pipeline.distillation.joining import join_stores
from pipeline.distillation.sampling import batch_positions, choose_labelled, plan_batches, shuffle_blocks
from pipeline.errors import SettingError
from pipeline.stores import StoreReader, example_meta, open_store, write_store

N_CLIPS = 50


def _store(path: Path, ids: list[str], *, frames: int = 3, channels: int = 4, **arrays: object) -> StoreReader:
    """Features say which clip they belong to: every value is the number at the end of the id."""
    numbers = np.array([int(key.split("-")[-1]) for key in ids], np.float32)
    features = np.broadcast_to(numbers[:, None, None], (len(ids), frames, channels))
    extractor = path.stem
    meta = example_meta(extractor=extractor, frames=frames, channels=channels, dtype="float16", shard_clips=8)
    n_frames = arrays.pop("n_frames", np.full(len(ids), frames))
    write_store(path, meta=meta, clip_id=ids, features=features, n_frames=n_frames, **arrays)  # type: ignore[arg-type]
    return open_store(path)


def _ids(n: int = N_CLIPS) -> list[str]:
    return [f"clip-{k}" for k in range(n)]


def _objects(ids: list[str]) -> np.ndarray:
    return np.array(ids, object)


def _digest(ids: list[str]) -> np.ndarray:
    numbers = np.array([int(key.split("-")[-1]) + 1 for key in ids], np.uint8)
    return np.repeat(numbers[:, None], 32, axis=1)


@pytest.fixture
def pair(tmp_path: Path) -> list[StoreReader]:
    """A mel store, and a teacher store whose rows lie in another order."""
    shuffled = np.random.default_rng(0).permutation(_ids()).tolist()
    return [_store(tmp_path / "mel.zarr", _ids(), channels=2), _store(tmp_path / "teacher.h5", shuffled)]


def _set(stores: list[StoreReader], ids: list[str], budget: int = 1 << 30) -> FeatureSet:
    joins = join_stores(_objects(ids), stores)
    columns = [Column(store, join.rows) for store, join in zip(stores, joins, strict=True)]
    return FeatureSet(columns, budget_bytes=budget)


def _answers(n: int = N_CLIPS, n_labelled: int = 20) -> Answers:
    labels = np.full((n, 3), -1, np.int8)
    labels[:n_labelled] = np.arange(n_labelled)[:, None] % 2
    return Answers(labels, np.arange(n * 3, dtype=np.float32).reshape(n, 3))


# --- joining ---------------------------------------------------------------------------------------


def test_clips_meet_their_features_by_id(pair: list[StoreReader]) -> None:
    wanted = ["clip-40", "clip-3", "clip-17"]
    features = _set(pair, wanted)
    window = features.window(np.arange(3))
    for column in range(2):
        values = window.gather(column, torch.tensor([2, 0, 1])).features
        assert values[:, 0, 0].tolist() == [17, 40, 3]


def test_misses_fall_back_on_the_samples(tmp_path: Path) -> None:
    ids = _ids(6)
    mel = _store(tmp_path / "mel.zarr", ids, samples_digest=_digest(ids))
    foreign = [f"other/name-{k}" for k in (5, 4, 2)]
    teacher = _store(tmp_path / "teacher.zarr", foreign, samples_digest=_digest(foreign))
    _, join = join_stores(_objects(ids), [mel, teacher])
    assert join.rows.tolist() == [-1, -1, 2, -1, 1, 0]
    assert (join.by_id, join.by_samples, join.missing) == (0, 3, 3)
    assert join.sentence() == "teacher/features: 0 of 6 clips by id, 3 found by their samples, 3 missing"


def test_clips_without_a_digest_are_not_confused(tmp_path: Path) -> None:
    mel = _store(tmp_path / "mel.zarr", _ids(3))
    teacher = _store(tmp_path / "teacher.zarr", ["x-7", "x-8"])
    _, join = join_stores(_objects(_ids(3)), [mel, teacher])
    assert join.by_samples == 0
    assert join.missing == 3


def test_failed_clips_are_dropped_and_counted(tmp_path: Path) -> None:
    state = np.array([1, 2, 1, 1], np.uint8)
    failure = ["", "zero bytes", "", ""]
    n_frames = np.array([3, 0, 3, 2])
    store = _store(tmp_path / "mel.zarr", _ids(4), state=state, failure=failure, n_frames=n_frames)
    (join,) = join_stores(_objects([*_ids(4), "clip-9"]), [store])
    assert join.rows.tolist() == [0, -1, 2, 3, -1]
    assert (join.failed, join.missing) == (1, 1)
    assert "1 missing, 1 failed there" in join.sentence()


# --- memory and windows ------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [1 << 30, 1], ids=["resident", "windows"])
def test_both_ways_of_holding_give_the_same_clips(pair: list[StoreReader], budget: int) -> None:
    features = _set(pair, _ids(), budget)
    assert features.resident == (budget > 1)
    seen = []
    for batch in evaluation_batches(features, _answers(), 7):
        assert torch.equal(batch.mel.features[:, 0, 0], batch.goal.teachers[0].features[:, 0, 0])
        assert batch.mel.features.dtype == torch.float32
        seen += batch.mel.features[:, 0, 0].int().tolist()
    assert seen == list(range(N_CLIPS))


def test_in_memory_the_stored_type_is_kept(pair: list[StoreReader]) -> None:
    window = _set(pair, _ids()).window(np.arange(1))
    assert all(tensor.dtype == torch.float16 for tensor in window._features)


def test_absent_clips_have_no_frames(tmp_path: Path) -> None:
    stores = [_store(tmp_path / "mel.zarr", _ids(3)), _store(tmp_path / "teacher.zarr", ["clip-2"])]
    batch = next(evaluation_batches(_set(stores, _ids(3)), _answers(3, 3), 3))
    assert batch.goal.teachers[0].n_frames.tolist() == [0, 0, 3]
    assert not batch.goal.teachers[0].features[:2].any()


def test_the_budget_can_be_set() -> None:
    assert memory_budget(2.0) == 2 << 30
    assert memory_budget(0) > 1 << 20


# --- order -------------------------------------------------------------------------------------------


def _feed(features: FeatureSet, first_step: int = 0, steps: int = 12, seed: int = 5) -> Feed:
    plan = plan_batches(8, 0.5, labelled=20, unlabelled=30, seed=seed)
    return Feed(features, _answers(), plan, steps=steps, first_step=first_step)


def _clips(feed: Feed) -> list[list[int]]:
    return [batch.mel.features[:, 0, 0].int().tolist() for batch in feed]


@pytest.mark.parametrize("budget", [1 << 30, 500], ids=["resident", "windows"])
def test_batches_follow_the_seed_and_go_on_from_any_step(pair: list[StoreReader], budget: int) -> None:
    features = _set(pair, _ids(), budget)
    whole = _clips(_feed(features))
    assert len(whole) == 12
    assert whole == _clips(_feed(features))
    assert whole[7:] == _clips(_feed(features, first_step=7))
    assert whole != _clips(_feed(features, seed=6))


def test_the_order_is_of_the_run_and_not_of_the_memory(pair: list[StoreReader]) -> None:
    sets = [_set(pair, _ids(), budget) for budget in (1 << 30, 500, 500)]
    sets[2].group_blocks = 3  # as with more memory
    plan = plan_batches(8, 0.5, labelled=20, unlabelled=30, seed=5)
    orders = {}
    for blocks in (None, 0, 2):
        feeds = [Feed(found, _answers(), plan, steps=12, shuffled_blocks=blocks) for found in sets]
        orders[blocks] = [str(_clips(feed)) for feed in feeds]
    assert [found.shuffled_blocks for found in sets] == [0, 2, 3]
    assert len(set(orders[None])) == 3
    assert len(set(orders[0])) == len(set(orders[2])) == 1
    assert (orders[None][0], orders[None][1]) == (orders[0][0], orders[2][0])


@pytest.mark.parametrize("budget", [1 << 30, 500], ids=["resident", "windows"])
def test_batches_mix_labelled_and_unlabelled_clips(pair: list[StoreReader], budget: int) -> None:
    for batch in _feed(_set(pair, _ids(), budget)):
        assert batch.goal.labelled.tolist() == [True] * 4 + [False] * 4
        clips = batch.mel.features[:, 0, 0].long()
        assert torch.equal(batch.goal.teachers[0].features[:, 1, 2].long(), clips)
        assert torch.equal(batch.goal.scores, torch.stack([clips * 3, clips * 3 + 1, clips * 3 + 2], 1).float())
        assert torch.equal(batch.goal.targets[:4, 0].long(), clips[:4] % 2)
        assert not batch.goal.known[4:].any()


@pytest.mark.parametrize("blocks", [None, np.arange(40) // 5], ids=["free", "blocks"])
def test_every_clip_comes_once_per_pass(blocks: np.ndarray | None) -> None:
    plan = plan_batches(8, 1.0, labelled=40, unlabelled=0, seed=1)
    order = batch_positions(plan, np.arange(40), np.empty(0, np.int64), blocks, 2)
    for _ in range(3):
        assert sorted(np.concatenate(list(islice(order, 5))).tolist()) == list(range(40))


def test_block_shuffle_touches_few_blocks_at_a_time() -> None:
    blocks = np.arange(400) // 10
    parts = list(shuffle_blocks(np.arange(400), blocks, 4, np.random.default_rng(0)))
    assert len(parts) == 10
    assert all(len(np.unique(blocks[part])) == 4 for part in parts)
    assert parts[0].tolist() != sorted(parts[0].tolist())
    assert sorted(np.concatenate(parts).tolist()) == list(range(400))


def test_batch_plans() -> None:
    assert plan_batches(32, 0.5, labelled=10, unlabelled=90, seed=0).n_labelled == 16
    assert plan_batches(32, 0.5, labelled=10, unlabelled=0, seed=0).n_labelled == 32
    assert plan_batches(32, 0.0, labelled=10, unlabelled=9, seed=0).n_labelled == 1
    assert plan_batches(32, 0.5, labelled=0, unlabelled=9, seed=0).n_unlabelled == 32


def test_a_batch_on_its_device_is_not_copied(pair: list[StoreReader]) -> None:
    batch = next(iter(_feed(_set(pair, _ids()))))
    assert batch.to(torch.device("cpu")) is batch
    assert isinstance(batch.to(torch.device("meta")), Batch)


# --- the labelled subset --------------------------------------------------------------------------


def _rare_labels() -> np.ndarray:
    rng = np.random.default_rng(0)
    labels = (rng.random((500, 6)) < [0.5, 0.3, 0.2, 0.1, 0.02, 0.006]).astype(np.int8)
    labels[:2, 5] = 1
    labels[400:] = -1
    return labels


def test_every_class_has_positives_in_the_subset() -> None:
    labels = _rare_labels()
    for seed in range(5):
        mask = choose_labelled(labels, 30, seed)
        assert mask.sum() == 30
        assert ((labels[mask] == 1).sum(0) >= 2).all()
        assert not mask[400:].any()


def test_the_subset_follows_the_seed() -> None:
    labels = _rare_labels()
    assert (choose_labelled(labels, 40, 1) == choose_labelled(labels, 40, 1)).all()
    assert (choose_labelled(labels, 40, 1) != choose_labelled(labels, 40, 2)).any()


def test_impossible_subsets_are_refused() -> None:
    with pytest.raises(SettingError, match="--labelled 401 asks for more clips than the 400"):
        choose_labelled(_rare_labels(), 401, 0)
    with pytest.raises(SettingError, match="--labelled 2 is too few"):
        choose_labelled(_rare_labels(), 2, 0)


# --- views -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def viewed(tmp_path_factory: pytest.TempPathFactory) -> list[StoreReader]:
    """A mel store, a teacher, and two views; view K of clip k holds 100 K + k, and one of view 2 failed."""
    tmp_path = tmp_path_factory.mktemp("viewed")
    stores = [_store(tmp_path / "mel.zarr", _ids(), channels=2), _store(tmp_path / "teacher.h5", _ids())]
    for view in (1, 2):
        order = np.random.default_rng(view).permutation(N_CLIPS)
        state = np.where((order == 7) & (view == 2), 2, 1).astype(np.uint8)
        features = np.broadcast_to((100.0 * view + order)[:, None, None], (N_CLIPS, 3, 2)).astype(np.float32)
        meta = example_meta(extractor=f"mel-view{view}", channels=2, dtype="float16", shard_clips=8)
        n_frames = np.where(state == 2, 0, np.where(order == 3, 2, 3))
        failure = ["zero bytes" if bad == 2 else "" for bad in state]
        ids = [f"clip-{k}" for k in order]
        path = tmp_path / f"mel-view{view}.zarr"
        write_store(path, meta=meta, clip_id=ids, features=features, n_frames=n_frames, state=state, failure=failure)
        stores.append(open_store(path))
    return stores


def _viewed_set(stores: list[StoreReader], budget: int = 1 << 30) -> FeatureSet:
    joins = join_stores(_objects(_ids()), stores)
    mel, teacher, *views = (Column(store, join.rows) for store, join in zip(stores, joins, strict=True))
    return FeatureSet([Column(mel.store, mel.rows, tuple(views)), teacher], budget_bytes=budget)


@pytest.mark.parametrize("budget", [1 << 30, 500], ids=["resident", "windows"])
def test_batches_draw_the_clip_or_a_view_and_keep_its_goal(viewed: list[StoreReader], budget: int) -> None:
    features = _viewed_set(viewed, budget)
    assert features.resident == (budget > 2000)
    seen: list[int] = []
    for batch in _feed(features, steps=60):
        heard = batch.mel.features[:, 0, 0].int()
        clips = heard % 100
        assert torch.equal(batch.goal.teachers[0].features[:, 0, 0].int(), clips)
        assert torch.equal(batch.goal.scores[:, 0].int(), clips * 3)
        views = heard // 100
        assert batch.mel.n_frames.tolist() == [2 if c == 3 and v else 3 for c, v in zip(clips, views, strict=True)]
        seen += [(int(c), int(v)) for c, v in zip(clips, views, strict=True)]
    counts = np.bincount([view for _, view in seen], minlength=3)
    assert (abs(counts - len(seen) / 3) < 35).all()  # three standard deviations of a fair draw are 32
    assert {view for clip, view in seen if clip == 7} <= {0, 1}
    assert {view for clip, view in seen if clip == 8} == {0, 1, 2}


@pytest.mark.parametrize("budget", [1 << 30, 500], ids=["resident", "windows"])
def test_versions_follow_the_seed_and_the_step(viewed: list[StoreReader], budget: int) -> None:
    features = _viewed_set(viewed, budget)
    whole = _clips(_feed(features))
    assert whole == _clips(_feed(features))
    assert whole[7:] == _clips(_feed(features, first_step=7))
    positions, keys = (list(draw) for draw in (_feed(features).positions(), _feed(features).keys()))
    assert [part.tolist() for part in positions] == [(part % N_CLIPS).tolist() for part in keys]


def test_evaluation_hears_the_clips_as_they_are(viewed: list[StoreReader]) -> None:
    seen = [
        row for b in evaluation_batches(_viewed_set(viewed), _answers(), 9) for row in b.mel.features[:, 0, 0].int()
    ]
    assert seen == list(range(N_CLIPS))


def test_memory_counts_every_version_and_a_window_one(viewed: list[StoreReader]) -> None:
    features = _viewed_set(viewed)
    assert features.n_bytes == N_CLIPS * (3 * 3 * 2 + 3 * 4) * 2
    assert features.clip_bytes == (3 * 2 + 3 * 4) * 2
    windows = _viewed_set(viewed, 2000)
    keys = np.array([3, 53, 109])
    held = windows.window(keys)._features
    assert [len(part) for part in held] == [3, 2]
    assert held[0][:, 0, 0].tolist() == [3, 103, 209]


def test_fewer_clips_keep_their_views(viewed: list[StoreReader]) -> None:
    column = _viewed_set(viewed).columns[0].select(np.array([9, 4]))
    assert column.read(np.arange(6))[:, 0, 0].tolist() == [9, 4, 109, 104, 209, 204]
    assert column.without_views().read(np.arange(2))[:, 0, 0].tolist() == [9, 4]
