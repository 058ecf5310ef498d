"""Training fed from stores against tensors in memory, and Lightning against a bare loop.

``run()`` gives ratios of step times measured side by side: 1.0 means that feeding from stores, or
Lightning's loop, costs nothing.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import lightning.pytorch as lightning
import numpy as np
import torch

from pipeline.audio.extractor import Frames
from pipeline.distillation.batches import Answers, Batch, Feed
from pipeline.distillation.engine import build_trainer, quiet
from pipeline.distillation.features import Column, FeatureSet
from pipeline.distillation.losses.settings import find_loss
from pipeline.distillation.objective import Distiller, Recipe
from pipeline.distillation.sampling import plan_batches
from pipeline.distillation.settings import TrainSettings
from pipeline.distillation.students.contract import build_student
from pipeline.stores import StoreReader, example_meta, open_store, write_store

MELS, CLASSES = 64, 17
TARGETS = {"from_stores": 0.95, "lightning": 0.9}


def run(*, n_clips: int = 512, frames: int = 313, channels: int = 1506, steps: int = 60) -> dict[str, float]:
    """Step time in memory over step time ``from_stores``, ``from_windows`` and in ``lightning``.

    Steps are taken in turn, so that a busy machine disturbs all alike, and compared turn by turn.
    What Lightning adds to a step is measured on a batch too small to hide it.
    """
    with tempfile.TemporaryDirectory() as folder:
        stores = _stores(Path(folder), n_clips, frames, channels)
        whole, windows = (_features(stores, budget) for budget in (1 << 40, 1))
        windows.group_blocks = 4
        answers = _answers(n_clips)
        ready = list(_feed(whole, answers, 4))
        feeds = [_Again(ready, steps), _feed(whole, answers, steps), _feed(windows, answers, steps)]
        seconds = _in_turn(_module(steps), feeds)
        small = [_cut(batch) for batch in ready]
        bare = _in_turn(_module(steps), [_Again(small, steps)])[0]
        looped = _lightning(_module(steps), _Again(small, steps), Path(folder), steps)
        for store in stores:
            store.close()
    ratio = np.median(seconds[0] / seconds, axis=1)
    step, added = float(np.median(seconds[0])), float(np.median(looped) - np.median(bare))
    return {
        "from_stores": float(ratio[1]),
        "from_windows": float(ratio[2]),
        "lightning": step / (step + max(0.0, added)),
        "step_ms": 1000 * step,
    }


def _in_turn(module: Distiller, feeds: Sequence[Iterable[Batch]]) -> np.ndarray:
    """Seconds of each step, gathering included: [feeds, steps]; the first steps are left out."""
    optimiser = torch.optim.AdamW(module.student.parameters(), lr=1e-3, fused=True)
    module.student.train()
    seconds: list[list[float]] = [[] for _ in feeds]
    runs = [iter(feed) for feed in feeds]
    while True:
        for times, batches in zip(seconds, runs, strict=True):
            started = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return np.array(seconds)[:, 2:]
            optimiser.zero_grad()
            module.training_step(batch, 0).backward()
            optimiser.step()
            times.append(time.perf_counter() - started)


def _cut(batch: Batch) -> Batch:
    """Two clips of a few frames."""
    mel = Frames(batch.mel.features[:2, :16].contiguous(), batch.mel.n_frames[:2].clamp(max=16))
    goal = batch.goal
    teachers = tuple(Frames(t.features[:2], t.n_frames[:2]) for t in goal.teachers)
    cut = {name: value[:2] for name, value in goal._asdict().items() if isinstance(value, torch.Tensor)}
    return Batch(mel, goal._replace(**cut, teachers=teachers))


def _stores(folder: Path, n_clips: int, frames: int, channels: int) -> list[StoreReader]:
    rng = np.random.default_rng(0)
    ids = [f"clip {k}" for k in range(n_clips)]
    for name, shape in (("mel", (frames, MELS)), ("teacher", (5, channels))):
        meta = example_meta(extractor=name, frames=shape[0], channels=shape[1], dtype="float16", shard_clips=32)
        features = rng.normal(size=(n_clips, *shape)).astype(np.float16)
        write_store(
            folder / f"{name}.zarr", meta=meta, clip_id=ids, features=features, n_frames=np.full(n_clips, shape[0])
        )
    return [open_store(folder / f"{name}.zarr") for name in ("mel", "teacher")]


def _features(stores: list[StoreReader], budget: int) -> FeatureSet:
    return FeatureSet([Column(store, np.arange(len(store))) for store in stores], budget_bytes=budget)


def _answers(n_clips: int) -> Answers:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, (n_clips, CLASSES)).astype(np.int8)
    labels[n_clips // 4 :] = -1
    return Answers(labels, rng.normal(size=(n_clips, CLASSES)).astype(np.float32))


def _feed(features: FeatureSet, answers: Answers, steps: int) -> Feed:
    n = int(answers.labelled.sum())
    plan = plan_batches(32, 0.5, labelled=n, unlabelled=len(answers.labelled) - n, seed=0)
    return Feed(features, answers, plan, steps=steps)


class _Again:
    """The same batches, already in memory, over and over."""

    def __init__(self, batches: list[Batch], steps: int) -> None:
        self.batches, self.steps = batches, steps

    def __iter__(self) -> Iterator[Batch]:
        return (self.batches[k % len(self.batches)] for k in range(self.steps))


def _module(steps: int) -> Distiller:
    torch.manual_seed(0)
    recipe = Recipe(
        steps=steps,
        lr=1e-3,
        weight_decay=0.01,
        clip_norm=0.0,
        schedule="constant",
        specaugment=True,
        mixup=False,
        seed=0,
    )
    student = build_student("cnn-small", n_classes=CLASSES, n_mels=MELS)
    return Distiller(student, find_loss("east-kd-all"), recipe, "multi-label")


def _lightning(module: Distiller, batches: Iterable[Batch], folder: Path, steps: int) -> np.ndarray:
    marks: list[float] = []

    class Marks(lightning.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            marks.append(time.perf_counter())

    with quiet():
        settings = TrainSettings(data="x", steps=steps, loss="labels")
        build_trainer(settings, ("cpu",), Marks(), folder).fit(module, train_dataloaders=batches)  # type: ignore[arg-type]
    return np.diff(marks)[1:]


def test_it_runs_small() -> None:
    torch.set_num_threads(1)
    ratios = run(n_clips=40, frames=40, channels=16, steps=5)
    assert ratios.keys() == {"from_stores", "from_windows", "lightning", "step_ms"}
    assert all(value > 0 for value in ratios.values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(run(), indent=2))
