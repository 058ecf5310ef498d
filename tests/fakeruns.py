"""Run folders as training writes them, without training: for tests of what reads them."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.manifest import ClipTable, write_table
from pipeline.manifest.table import strings

CLASSES = ("piano", "guitar", "bass", "strings", "brass", "flute", "drums", "organ")
SPLITS = {"train": 120, "valid": 60, "test": 150, "test-unseen": 150}
ROWS = {
    "labels only": {"strength": 0.32, "store": "", "kind": "student", "n_parameters": 53_192},
    "east-kd": {"strength": 0.42, "store": "musicnn", "kind": "student", "n_parameters": 53_192},
    "kd on all clips": {"strength": 0.52, "store": "musicnn", "kind": "student", "n_parameters": 53_192},
    "teacher probe": {"strength": 0.60, "store": "musicnn", "kind": "probe", "n_parameters": 12_056},
}


def make_table(folder: Path, *, name: str = "demo", clips_per_file: int = 1, seed: int = 0) -> ClipTable:
    """A clip table in ``folder/clips.parquet``, with some unknown labels."""
    generator = np.random.default_rng(seed)
    split = np.repeat(list(SPLITS), list(SPLITS.values()))
    n_clips = len(split)
    files = [f"{part}/{index // clips_per_file:04d}.ogg" for index, part in enumerate(split)]
    labels = (generator.random((n_clips, len(CLASSES))) < np.linspace(0.15, 0.5, len(CLASSES))).astype(np.int8)
    labels[generator.random(labels.shape) < 0.1] = -1
    start_s = np.array([10.0 * (index % clips_per_file) for index in range(n_clips)])
    table = ClipTable(
        name=name,
        root=str(folder / "audio"),
        classes=CLASSES,
        task="multi-label",
        clip_s=10.0,
        clip_id=strings(f"{path}@{int(start * 1000)}" for path, start in zip(files, start_s, strict=True)),
        path=strings(files),
        split=strings(split),
        group=strings(files),
        start_s=start_s,
        duration_s=np.full(n_clips, 10.0),
        labels=labels,
        card={
            "summary": "Four hundred arrangements rendered with free sound banks.",
            "licence": "scores: public domain; sound bank: MIT",
            "citation": "Invented for tests.",
            "source": "rendered",
            "split_rule": "by work",
        },
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_table(table, folder / "clips.parquet")
    return table


def make_run(runs: Path, table: ClipTable, row: str, seed: int, *, complete: bool = True, **change: Any) -> Path:
    """One run folder; its scores follow the labels as strongly as its row says."""
    facts = ROWS[row]
    folder = runs / f"{row.replace(' ', '-')}-s{seed}"
    (folder / "predictions").mkdir(parents=True)
    strength = facts["strength"] + 0.01 * np.random.default_rng(seed).normal()
    for split in SPLITS:
        if split != "train":
            easier = 1.0 if split != "test-unseen" else 0.75
            _predict(folder / "predictions" / f"{split}.npz", table, split, easier * strength, seed)
    _history(folder / "history.csv", strength)
    run = _facts(table, row, seed, folder.name) | {"complete": complete} | change
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    return folder


def make_dataset(home: Path, *, name: str = "demo", seeds: tuple[int, ...] = (1, 2, 3), **table: Any) -> Path:
    """Table and all rows of runs in ``home/NAME``."""
    folder = home / name
    clips = make_table(folder, name=name, **table)
    for row in ROWS:
        for seed in seeds:
            make_run(folder / "runs", clips, row, seed)
    return folder


def _predict(path: Path, table: ClipTable, split: str, strength: float, seed: int) -> None:
    part = table.select(table.split == split)
    hard = np.random.default_rng(7).normal(0, 0.25, (len(table), len(CLASSES)))[table.split == split]
    noise = np.random.default_rng(100 + seed).normal(0, 0.1, hard.shape)
    scores = 1 / (1 + np.exp(-6 * (strength * np.clip(part.labels, 0, 1) + hard + noise - 0.4)))
    np.savez(path, clip_id=part.clip_id.astype(str), scores=scores.astype(np.float32))


def _history(path: Path, strength: float) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["step", "epoch", "bce", "valid_map", "lr", "seconds"])
        for step in range(100, 800, 100):
            value = 0.2 + strength * (1 - np.exp(-step / 250))
            writer.writerow([step, step // 50, f"{1 / step:.5f}", f"{value:.4f}", 0.001, step / 15])


def _facts(table: ClipTable, row: str, seed: int, name: str) -> dict[str, Any]:
    facts = ROWS[row]
    mel = {"extractor": "mel64", "output": "logmel", "licence_weights": ""}
    teacher = {"extractor": facts["store"], "output": "pools", "licence_weights": "ISC", "citation": "Pons 2019"}
    return {
        "format": 1,
        "kind": facts["kind"],
        "name": name,
        "group": f"cnn-small {row} 200 labels" if facts["kind"] == "student" else f"{row} 200 labels",
        "seed": seed,
        "config": {"data": table.name, "loss": row, "lam": 0.5, "steps": 700, "labelled": 200, "seed": seed},
        "dataset": {
            "name": table.name,
            "digest": table.digest(),
            "classes": list(table.classes),
            "task": table.task,
            "clip_s": table.clip_s,
            "licence": table.card["licence"],
            "citation": table.card["citation"],
        },
        "stores": [mel, teacher] if facts["store"] else [mel],
        "front_end": {"name": "mel64"},
        "provenance": {"version": "0.1.0", "commit": "0" * 40, "packages": {"torch": "2.13.0"}},
        "n_parameters": facts["n_parameters"],
        "train_s": 50.0 + seed,
        "n_labelled": 200,
        "n_unlabelled": 1300,
        "best": {"step": 600, "valid_map": 0.5},
        "licence": "ISC (MusiCNN weights)",
    }
