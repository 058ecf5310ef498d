"""Small trees in the exact layout of public datasets, with audio that can be decoded."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

# fmt: off
OPENMIC_CLASSES = [
    "accordion", "banjo", "bass", "cello", "clarinet", "cymbals", "drums", "flute", "guitar", "mallet_percussion",
    "mandolin", "organ", "piano", "saxophone", "synthesizer", "trombone", "trumpet", "ukulele", "violin", "voice",
]
# fmt: on


def tone(path: Path, pitch: int, seconds: float, rate_hz: int = 16_000) -> None:
    """A tone of its own pitch with a little noise, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time_s = np.arange(int(seconds * rate_hz)) / rate_hz
    noise = np.random.default_rng(pitch).normal(0, 0.01, len(time_s))
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * (110 + 20 * pitch) * time_s) + noise, rate_hz)


@dataclass
class OpenMic:
    """What a tree of OpenMIC-2018 holds; change it, then ``write``."""

    root: Path
    n_train: int = 20
    n_test: int = 8
    pickled_keys: bool = True
    answers: list[tuple[str, str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Two clips per artist; every clip has three answers, and each class positives and negatives."""
        rng = np.random.default_rng(1)
        self.keys = [f"{46 + 7 * row:06d}_{3840 * (row % 5)}" for row in range(self.n_train + self.n_test)]
        self.split = {key: "train" if row < self.n_train else "test" for row, key in enumerate(self.keys)}
        self.artist = {key: str(100 + row // 2) for row, key in enumerate(self.keys)}
        for row, key in enumerate(self.keys):
            for column in sorted(rng.choice(20, 3, replace=False).tolist()):
                relevance = float(rng.choice([0.0, 0.15, 0.85, 1.0]))
                self.answers.append((key, OPENMIC_CLASSES[column], relevance if row % 7 else 0.5))

    def audio(self, key: str) -> Path:
        return self.root / "audio" / key[:3] / f"{key}.ogg"

    def write(self, *, seconds: float = 0.2) -> Path:
        for row, key in enumerate(self.keys):
            tone(self.audio(key), row, seconds)
        (self.root / "class-map.json").write_text(json.dumps({name: k for k, name in enumerate(OPENMIC_CLASSES)}))
        self.write_answers()
        self.write_archive()
        (self.root / "partitions").mkdir()
        for name in ("train", "test"):
            listed = [key for key in self.keys if self.split[key] == name]
            (self.root / "partitions" / f"split01_{name}.csv").write_text("\n".join(listed) + "\n")
        with (self.root / "openmic-2018-metadata.csv").open("w", newline="") as handle:
            rows = csv.writer(handle)
            rows.writerow(["artist_id", "artist_name", "track_title", "sample_key", "start_time"])
            for key in self.keys:
                rows.writerow([self.artist[key], 'The "Who", & Co', "line one\nline two", key, 3.84])
        return self.root

    def write_answers(self) -> None:
        lines = [f"{key},{name},{relevance},3" for key, name, relevance in self.answers]
        text = "\n".join(["sample_key,instrument,relevance,num_responses", *lines])
        (self.root / "openmic-2018-aggregated-labels.csv").write_text(text + "\n")

    def write_archive(self) -> None:
        """As the dataset's own script: rows in the order of the sorted keys, the keys as Python objects."""
        keys = sorted(self.keys)
        true, mask = np.full((len(keys), 20), 0.5), np.zeros((len(keys), 20), bool)
        for key, name, relevance in self.answers:
            place = keys.index(key), OPENMIC_CLASSES.index(name)
            true[place], mask[place] = relevance, True
        features = np.random.default_rng(3).integers(0, 256, (len(keys), 10, 128))
        kept = np.array(keys, dtype=object if self.pickled_keys else str)
        np.savez(self.root / "openmic-2018.npz", X=features, Y_true=true, Y_mask=mask, sample_key=kept)
