"""An epoch fed from stores against the common way: audio decoded, resampled and turned into mels on the fly.

The common way is a PyTorch ``DataLoader`` with two workers over OGG files of 44.1 kHz stereo, librosa's
mel spectrogram at 16 kHz, and one ``.npy`` file per clip with the teacher's embedding.  Both train
cnn-small with the same loss, optimiser and batch size.  Stage one, which is paid once for all runs, is
not counted, nor is the start of the workers; opening the stores and loading them is, in the first epoch.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.audio.extractor import Frames
from pipeline.distillation.batches import Answers, Batch, Feed
from pipeline.distillation.features import Column, FeatureSet
from pipeline.distillation.losses.compose import Goal
from pipeline.distillation.losses.settings import find_loss
from pipeline.distillation.objective import Distiller, Recipe
from pipeline.distillation.sampling import plan_batches
from pipeline.distillation.students.contract import build_student
from pipeline.stores import StoreReader, example_meta, open_store, write_store

TARGETS = {"common way / stores": 3.0}
RATE_HZ, FILE_HZ, MELS, CLASSES, BATCH, CHANNELS = 16_000, 44_100, 64, 20, 32, 512


class OnTheFly(Dataset[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]):
    """What many training scripts do for each clip of each epoch."""

    def __init__(self, folder: Path, labels: np.ndarray) -> None:
        self.folder, self.labels = folder, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        import librosa

        audio, rate = soundfile.read(self.folder / f"{k}.ogg", dtype="float32", always_2d=True)
        audio = librosa.resample(audio.mean(1), orig_sr=rate, target_sr=RATE_HZ, res_type="soxr_hq")
        power = librosa.feature.melspectrogram(y=audio, sr=RATE_HZ, n_fft=1024, hop_length=512, n_mels=MELS)
        mel = np.log10(np.maximum(power, 1e-10)).T
        embedding = np.load(self.folder / f"{k}.npy").astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(mel, np.float32)), torch.from_numpy(embedding), self.labels[k]


def run(n_clips: int = 512, clip_s: float = 10.0, workers: int = 2) -> dict[str, float]:
    """Seconds of an epoch each way, and their ratios.

    The faster of two epochs counts.  From stores also the first epoch, with loading, and one of features
    that do not fit into memory and are read in shuffled blocks.
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (n_clips, CLASSES)).astype(np.int8)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = _write(folder, n_clips, clip_s, rng)
        loader = DataLoader(
            OnTheFly(folder, torch.from_numpy(labels).float()),  # type: ignore[arg-type]
            batch_size=BATCH,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        common = min(_epoch(_module(), _batches(loader)) for _ in range(2))
        started = time.perf_counter()
        stores = [open_store(folder / f"{kind}.zarr") for kind in ("mel", "teacher")]
        whole = _feed(stores, labels, budget_bytes=1 << 40)
        loaded = time.perf_counter() - started
        first = loaded + _epoch(_module(), whole)
        stored = _epoch(_module(), whole)
        blocks = min(_epoch(_module(), _feed(stores, labels, budget_bytes=1)) for _ in range(2))
        n_frames = stores[0].shape[1]
        for store in stores:
            store.close()
    assert frames == n_frames
    return {
        "common way / stores": common / stored,
        "common way / stores, loading counted": common / first,
        "common way / stores in blocks": common / blocks,
        "common way s": common,
        "stores s": stored,
    }


def _feed(stores: list[StoreReader], labels: np.ndarray, *, budget_bytes: int) -> Feed:
    columns = [Column(store, np.arange(len(labels))) for store in stores]
    features = FeatureSet(columns, budget_bytes=budget_bytes)
    plan = plan_batches(BATCH, 1.0, labelled=len(labels), unlabelled=0, seed=0)
    return Feed(features, Answers(labels), plan, steps=len(labels) // BATCH)


def _write(folder: Path, n_clips: int, clip_s: float, rng: np.random.Generator) -> int:
    """Audio and embeddings as files, and the same clips as stores; gives the number of mel frames."""
    frames = 1 + int(clip_s * RATE_HZ) // 512
    embeddings = rng.normal(size=(n_clips, 5, CHANNELS)).astype(np.float16)
    for k in range(n_clips):
        soundfile.write(folder / f"{k}.ogg", _chord(clip_s, rng), FILE_HZ)
        np.save(folder / f"{k}.npy", embeddings[k])
    mels = rng.normal(size=(n_clips, frames, MELS)).astype(np.float16)
    for kind, values in (("mel", mels), ("teacher", embeddings)):
        meta = example_meta(
            extractor=kind, frames=values.shape[1], channels=values.shape[2], dtype="float16", shard_clips=32
        )
        n_frames = np.full(n_clips, values.shape[1])
        ids = [str(k) for k in range(n_clips)]
        write_store(folder / f"{kind}.zarr", meta=meta, clip_id=ids, features=values, n_frames=n_frames)
    return frames


def _chord(clip_s: float, rng: np.random.Generator) -> np.ndarray:
    """Six tones and a little noise, which pack about as music does: [samples, 2]."""
    time_s = np.arange(int(clip_s * FILE_HZ), dtype=np.float32) / FILE_HZ
    tones = sum(np.sin(2 * np.pi * rng.uniform(100, 4000) * time_s) for _ in range(6))
    return np.stack([tones, tones], 1) / 12 + 0.003 * rng.normal(size=(len(time_s), 2))


def _batches(loader: Iterable[list[torch.Tensor]]) -> Iterable[Batch]:
    for mel, embedding, targets in loader:
        known = torch.ones_like(targets, dtype=torch.bool)
        everyone = torch.ones(len(mel), dtype=torch.bool)
        teacher = Frames(embedding, torch.full((len(mel),), embedding.shape[1]))
        goal = Goal(targets, known, everyone, None, ~everyone, (teacher,))
        yield Batch(Frames(mel, torch.full((len(mel),), mel.shape[1])), goal)


def _epoch(module: Distiller, batches: Iterable[Batch]) -> float:
    optimiser = torch.optim.AdamW(module.student.parameters(), lr=1e-3, fused=True)
    module.student.train()
    started = time.perf_counter()
    for batch in batches:
        optimiser.zero_grad()
        module.training_step(batch, 0).backward()
        optimiser.step()
    return time.perf_counter() - started


def _module() -> Distiller:
    torch.manual_seed(0)
    recipe = Recipe(
        steps=1,
        lr=1e-3,
        weight_decay=0.01,
        clip_norm=0.0,
        schedule="constant",
        specaugment=True,
        mixup=False,
        seed=0,
    )
    student = build_student("cnn-small", n_classes=CLASSES, n_mels=MELS)
    return Distiller(student, find_loss("east-final"), recipe, "multi-label", teacher_channels=(CHANNELS,))


def test_it_runs_small() -> None:
    found = run(n_clips=BATCH, clip_s=0.5, workers=0)
    assert found.keys() >= TARGETS.keys()
    assert all(value > 0 for value in found.values())


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(run(), indent=2))
