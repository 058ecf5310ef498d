"""The loader of OpenMIC-2018; what it is stands in :mod:`pipeline.datasets.openmic_card`.

::

    openmic-2018/
      audio/000/000046_3840.ogg ...
      class-map.json
      openmic-2018.npz                     X, Y_true, Y_mask, sample_key
      openmic-2018-aggregated-labels.csv   sample_key, instrument, relevance, num_responses
      openmic-2018-metadata.csv            sample_key, artist_id, ...
      partitions/split01_train.csv, split01_test.csv

A clip's id is its ``sample_key``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline import layout
from pipeline.cards import DatasetCard, Scalar
from pipeline.datasets.openmic_card import OPENMIC
from pipeline.datasets.openmic_labels import Known, class_columns, from_csv, from_npz, require_same
from pipeline.datasets.public import card_of, find_root, hold_out, require_file, summary, usable_audio, whole_groups
from pipeline.datasets.remarks import Remarks
from pipeline.errors import ManifestError
from pipeline.events import Listener, Note, ignore
from pipeline.files import publish_bytes
from pipeline.manifest import UNKNOWN, ClipTable
from pipeline.manifest.table import Labels, Strings, strings
from pipeline.manifest.tablefiles import read_columns
from pipeline.texts import some

__all__ = ["CLIP_S", "KEYS_FILE", "build"]

CLIP_S = 10.0
ANSWERS, ARCHIVE, METADATA = "openmic-2018-aggregated-labels.csv", "openmic-2018.npz", "openmic-2018-metadata.csv"
#: Keys of the archive's rows, one per line, for `east store import --ids`.
KEYS_FILE = "npz-keys.txt"


def build(
    card: DatasetCard = OPENMIC,
    folder: Path = Path("openmic-2018"),
    *,
    valid: float = 0.15,
    seed: int = 1223,
    grouped: bool = True,
    labels: str = "both",
    listener: Listener = ignore,
) -> ClipTable:
    """The clip table of OpenMIC-2018 in ``folder``; audio that is absent or empty is left out and named.

    Args:
        valid: share of train that is held out; the rule does not depend on which audio is there.
        grouped: hold out whole artists (tracks where the artist is not known); else single clips.
        labels: ``csv``, ``npz`` or ``both``, which must agree.

    Raises:
        ManifestError: files that are needed are not there, cannot be read, or contradict each other.
        SettingError: a share that cannot be.
    """
    root = find_root(card, folder, (ANSWERS, ARCHIVE, "partitions"))
    remarks = Remarks(card.name, listener)
    known = _labels(card, root, labels, remarks)
    keys, split = _partition(root)
    _compare_keys(keys, known, remarks)
    group = _groups(root, keys, remarks) if grouped else keys
    group = whole_groups(group, split, remarks, "artists")
    split = hold_out(split, group, valid, seed)
    path, usable = usable_audio(root / "audio", strings(f"{key[:3]}/{key}.ogg" for key in keys), remarks)
    chosen: dict[str, Scalar] = {"valid": valid, "seed": seed, "grouped": grouped, "labels": labels}
    table = ClipTable(
        name=card.name,
        root=str(root / "audio"),
        classes=card.classes,
        task=card.task,
        clip_s=CLIP_S,
        clip_id=keys,
        path=path,
        split=split,
        group=group,
        start_s=np.zeros(len(keys)),
        duration_s=np.full(len(keys), CLIP_S),
        labels=_rows(keys, known),
        card=card_of(card, chosen, remarks, split="split01"),
    ).select(usable)
    listener(summary(table))
    return table


def _labels(card: DatasetCard, root: Path, wanted: str, remarks: Remarks) -> Known:
    """Labels from the files asked for; of ``both``, one that is absent is said."""
    answers, archive = root / ANSWERS, root / ARCHIVE
    if wanted in ("csv", "npz"):
        require_file(answers if wanted == "csv" else archive, "its labels were asked for.")
    if wanted == "both" and not (answers.is_file() and archive.is_file()):
        require_file(archive if not answers.is_file() else answers, "there are no labels without it.")
        remarks.listener(Note(f"Only {(answers if answers.is_file() else archive).name} is there to read labels from."))
    csv = from_csv(answers, card.classes, remarks) if answers.is_file() else None
    if not archive.is_file() or (wanted == "csv" and csv is not None):
        assert csv is not None  # one of the two is there
        return csv
    npz = from_npz(archive, class_columns(root, card.classes), csv.keys if csv is not None else None)
    if wanted == "both" and csv is not None:
        require_same(csv, npz, card.classes)
        publish_bytes(layout.dataset_dir(card.name) / KEYS_FILE, "".join(f"{key}\n" for key in npz.keys).encode())
    return npz


def _partition(root: Path) -> tuple[Strings, Strings]:
    """Keys in order, and the split of each.

    Raises:
        ManifestError: a list that is absent, or a clip in both.
    """
    found: dict[str, str] = {}
    for name in ("train", "test"):
        path = require_file(root / "partitions" / f"split01_{name}.csv", "it says which clips are in which split.")
        keys = [line.strip().strip('"') for line in path.read_text("utf-8-sig").splitlines()]
        keys = [key for key in keys if key and key != "sample_key"]
        if both := sorted(set(keys) & set(found)):
            raise ManifestError(f"{len(both):,} clips are in both lists of {path.parent}: {some(both)}.")
        found |= dict.fromkeys(keys, name)
    ordered = sorted(found)
    return strings(ordered), strings(found[key] for key in ordered)


def _compare_keys(keys: Strings, known: Known, remarks: Remarks) -> None:
    listed, labelled = set(keys.tolist()), set(known.keys)
    remarks.add("unlisted", "clips with labels are in no split and are left out", sorted(labelled - listed))
    remarks.add("unlabelled", "clips of the splits have no labels, all are unknown", sorted(listed - labelled))


def _groups(root: Path, keys: Strings, remarks: Remarks) -> Strings:
    """Artist of each clip; the track where the metadata has none."""
    artists: dict[str, str] = {}
    if (root / METADATA).is_file():
        cells = read_columns(root / METADATA)
        named = next((name for name in ("artist_id", "artist_name") if name in cells), "")
        if named and "sample_key" in cells:
            artists = dict(zip(cells["sample_key"].tolist(), cells[named].tolist(), strict=True))
    unknown = [key for key in keys if not artists.get(key)]
    remarks.add("artist", f"clips have no artist in {METADATA}; their track stands for it", unknown)
    return strings(f"artist {artists[key]}" if artists.get(key) else f"track {key.split('_')[0]}" for key in keys)


def _rows(keys: Strings, known: Known) -> Labels:
    where: dict[str, int] = {key: row for row, key in enumerate(known.keys)}
    rows: NDArray[np.int64] = np.array([where.get(key, -1) for key in keys], np.int64)
    return np.where((rows >= 0)[:, None], known.labels[rows], np.int8(UNKNOWN))
