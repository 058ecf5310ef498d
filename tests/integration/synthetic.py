"""A small dataset whose labels can be learnt: stores and a clip table, no audio."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import layout
from pipeline.manifest import ClipTable, write_table
from pipeline.stores import example_meta, write_store

CLASSES = ("low", "middle", "high", "loud")
FRAMES, MELS = 40, 64
CLIP_S = 1.28


@dataclass(frozen=True)
class Sizes:
    train: int = 64
    valid: int = 40
    test: int = 30


def make_dataset(
    home: Path,
    name: str = "tiny",
    *,
    sizes: Sizes | None = None,
    single_label: bool = False,
    teachers: tuple[str, ...] = ("teach/clip",),
    valid_split: bool = True,
) -> ClipTable:
    """Write ``home/NAME`` with a table, a mel store and teacher stores; ``EAST_HOME`` must be ``home``."""
    assert layout.home() == home
    sizes = sizes or Sizes()
    rng = np.random.default_rng(0)
    splits = ["train"] * sizes.train + ["valid" if valid_split else "train"] * sizes.valid
    splits += ["test"] * sizes.test + ["test-far"] * sizes.test
    n = len(splits)
    if single_label:
        labels = np.eye(len(CLASSES), dtype=np.int8)[rng.integers(0, len(CLASSES), n)]
    else:
        labels = (rng.random((n, len(CLASSES))) < 0.4).astype(np.int8)
    table = _table(home, name, splits, labels, single_label)
    write_table(table, layout.table_path(name))
    ids = table.clip_id.tolist()
    _write_mel(name, ids, labels, rng)
    for teacher in teachers:
        _write_teacher(name, teacher, ids, labels, rng)
    return table


def _table(home: Path, name: str, splits: list[str], labels: np.ndarray, single_label: bool) -> ClipTable:
    n = len(splits)
    ids = np.array([f"{split}/{k:03d}.wav@0" for k, split in enumerate(splits)], object)
    return ClipTable(
        name=name,
        root=str(home / name),
        classes=CLASSES,
        task="single-label" if single_label else "multi-label",
        clip_s=CLIP_S,
        clip_id=ids,
        path=np.array([key.split("@")[0] for key in ids], object),
        split=np.array(splits, object),
        group=np.array([f"song {k // 2}" for k in range(n)], object),
        start_s=np.zeros(n),
        duration_s=np.full(n, CLIP_S),
        labels=labels,
        card={"licence": "CC-BY-4.0", "citation": "made up"},
    )


def _write_mel(name: str, ids: list[str], labels: np.ndarray, rng: np.random.Generator) -> None:
    """Each class lifts a band of mels; the last lifts all of them."""
    mel = rng.normal(0, 1.0, (len(ids), FRAMES, MELS)).astype(np.float32)
    for column, band in enumerate((slice(0, 16), slice(20, 36), slice(44, 60), slice(0, 64))):
        mel[:, :, band] += 0.8 * labels[:, column, None, None]
    meta = example_meta(
        extractor="mel-small",
        output="logmel",
        card={"name": "mel-small", "kind": "mel", "version": 1, "parameters": {}, "licence_code": "MIT"},
        frames=FRAMES,
        channels=MELS,
        dtype="float16",
        clip_s=CLIP_S,
        hop_s=0.032,
    )
    path = layout.store_path(name, "mel-small", "logmel")
    write_store(path, meta=meta, clip_id=ids, features=mel, n_frames=np.full(len(ids), FRAMES))


def _write_teacher(name: str, teacher: str, ids: list[str], labels: np.ndarray, rng: np.random.Generator) -> None:
    """Frames that know the labels well: a random linear map of them, and a little noise."""
    extractor, output = teacher.split("/")
    frames, channels = 4, 24
    clean = labels @ rng.normal(size=(len(CLASSES), channels))
    features = clean[:, None, :] + 0.4 * rng.normal(size=(len(ids), frames, channels)) + 3
    meta = example_meta(
        extractor=extractor,
        output=output,
        card={"name": extractor, "kind": "teacher", "version": 1, "parameters": {}, "licence_weights": "CC-BY-NC-4.0"},
        frames=frames,
        channels=channels,
        dtype="float16",
        clip_s=CLIP_S,
        hop_s=0.32,
    )
    order = rng.permutation(len(ids))  # rows lie in another order: joins go by id
    path = layout.store_path(name, extractor, output)
    write_store(
        path,
        meta=meta,
        clip_id=[ids[k] for k in order],
        features=features.astype(np.float32)[order],
        n_frames=np.full(len(ids), frames),
    )
