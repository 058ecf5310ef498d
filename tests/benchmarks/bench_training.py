"""Training fed from stores against tensors in memory, and Lightning against a bare loop.

``run()`` gives ratios of step times measured side by side: 1.0 means that feeding from stores, or
Lightning's loop, costs nothing.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import lightning.pytorch as lightning
import numpy as np
import torch

from pipeline.distillation.batches import Answers, Batch, Feed
from pipeline.distillation.features import Column, FeatureSet
from pipeline.distillation.fitting import _quiet, _trainer
from pipeline.distillation.losses.settings import find_loss
from pipeline.distillation.objective import Distiller, Recipe
from pipeline.distillation.sampling import plan_batches
from pipeline.distillation.settings import TrainSettings
from pipeline.distillation.students.contract import build_student
from pipeline.stores import StoreReader, example_meta, open_store, write_store

MELS, CLASSES = 64, 17
TARGETS = {"from_stores": 0.95, "lightning": 0.95}


def run(
    *, n_clips: int = 512, frames: int = 313, channels: int = 1506, steps: int = 12, rounds: int = 4
) -> dict[str, float]:
    """Ratios ``from_stores`` and ``from_windows`` (in-memory over store-fed step time), ``lightning``."""
    with tempfile.TemporaryDirectory() as folder:
        stores = _stores(Path(folder), n_clips, frames, channels)
        whole, windows = (_features(stores, budget) for budget in (1 << 40, 1))
        windows.group_blocks = 4
        answers = _answers(n_clips)
        ready = list(_feed(whole, answers, 4))
        module = _module(steps)
        ways: dict[str, Callable[[], float]] = {
            "memory": lambda: _bare(module, _Again(ready, steps)),
            "from_stores": lambda: _bare(module, _feed(whole, answers, steps)),
            "from_windows": lambda: _bare(module, _feed(windows, answers, steps)),
            "lightning": lambda: _lightning(_module(steps), _Again(ready, steps), Path(folder), steps),
        }
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(rounds):  # interleaved, so that a busy machine disturbs all alike
            best = {name: min(best[name], way()) for name, way in ways.items()}
        for store in stores:
            store.close()
    return {name: best["memory"] / seconds for name, seconds in best.items() if name != "memory"} | {
        "step_ms": 1000 * best["memory"]
    }


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
    recipe = Recipe(steps=steps, lr=1e-3, weight_decay=0.01, schedule="constant", specaugment=True, mixup=False, seed=0)
    student = build_student("cnn-small", n_classes=CLASSES, n_mels=MELS)
    return Distiller(student, find_loss("east-kd-all"), recipe, "multi-label")


def _bare(module: Distiller, batches: Iterable[Batch]) -> float:
    """Median seconds from one step's end to the next's, without Lightning."""
    optimiser = torch.optim.AdamW(module.student.parameters(), lr=1e-3, fused=True)
    module.student.train()
    marks = []
    for batch in batches:
        optimiser.zero_grad()
        module.training_step(batch, 0).backward()
        optimiser.step()
        marks.append(time.perf_counter())
    return float(np.median(np.diff(marks)))


def _lightning(module: Distiller, batches: Iterable[Batch], folder: Path, steps: int) -> float:
    marks: list[float] = []

    class Marks(lightning.Callback):
        def on_train_batch_end(self, *_: object) -> None:
            marks.append(time.perf_counter())

    with _quiet():
        settings = TrainSettings(data="x", steps=steps, loss="labels")
        _trainer(settings, "cpu", Marks(), folder).fit(module, train_dataloaders=batches)  # type: ignore[arg-type]
    return float(np.median(np.diff(marks)))


def test_it_runs_small() -> None:
    torch.set_num_threads(1)
    ratios = run(n_clips=40, frames=40, channels=16, steps=4, rounds=1)
    assert ratios.keys() == {"from_stores", "from_windows", "lightning", "step_ms"}
    assert all(value > 0 for value in ratios.values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(run(), indent=2))
