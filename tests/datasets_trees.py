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


@dataclass
class MagnaTagATune:
    """A tree of MagnaTagATune: two clips per track, two tracks per folder, 60 tags of falling frequency."""

    root: Path
    folders: str = "0123456789abcdef"

    def __post_init__(self) -> None:
        rng = np.random.default_rng(2)
        self.tags = [f"tag {number:02d}" for number in range(60)]
        self.paths, self.artist = [], []
        for number, folder in enumerate(self.folders):
            for track in range(2):
                name = f"the_band_{number}-an_album-0{track + 1}-song"
                self.paths += [f"{folder}/{name}-{start}-{start + 29}.mp3" for start in (0, 29)]
                self.artist += [f"Bänd {number}"] * 2
        self.ids = [str(2 + 5 * row) for row in range(len(self.paths))]
        chance = np.linspace(0.5, 0.05, len(self.tags))
        self.labels = (rng.random((len(self.paths), len(self.tags))) < chance).astype(int)
        self.labels[:, 50:] = 0
        self.labels[0, 50:] = 1  # one clip each: below all others
        self.labels[1:3, :] = 0  # two clips without any tag
        self.labels[3:5, :50] = 1

    @property
    def columns(self) -> list[int]:
        """As in the annotations: not by frequency."""
        return np.random.default_rng(5).permutation(len(self.tags)).tolist()

    def write(self, *, seconds: float = 0.2) -> Path:
        for row, path in enumerate(self.paths):
            tone(self.root / path, row, seconds)
        self.write_annotations()
        with (self.root / "clip_info_final.csv").open("w", newline="", encoding="latin-1") as handle:
            sheet = csv.writer(handle, delimiter="\t", quoting=csv.QUOTE_ALL)
            sheet.writerow(["clip_id", "track_number", "title", "artist", "album", "url", "mp3_path"])
            for key, path, artist in zip(self.ids, self.paths, self.artist, strict=True):
                sheet.writerow([key, 1, 'A "song"', artist, "An\tAlbum", "http://he3.magnatune.com", path])
        return self.root

    def write_annotations(self) -> None:
        with (self.root / "annotations_final.csv").open("w", newline="") as handle:
            sheet = csv.writer(handle, delimiter="\t", quoting=csv.QUOTE_ALL)
            sheet.writerow(["clip_id", *(self.tags[column] for column in self.columns), "mp3_path"])
            for key, row, path in zip(self.ids, self.labels, self.paths, strict=True):
                sheet.writerow([key, *row[self.columns], path])
