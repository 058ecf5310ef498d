"""What is wrong with labels and stores, found before a run begins: refused, or said once by count and name.

Nothing is changed here.  A class that cannot be learnt stays a class, and a clip that a store lacks
is left out where the stores are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pipeline.distillation.joining import ABSENT, StoreJoin, join_stores
from pipeline.errors import ManifestError, StoreError, TrainingError
from pipeline.events import Listener, Note, Warned
from pipeline.manifest import ClipTable, check_table
from pipeline.stores import StoreReader
from pipeline.texts import counted, some

#: Defects of a clip table that make labels or joins wrong, and one that makes scores too good.
_FATAL = ("empty", "duplicate-id", "blank-id", "duplicate-class", "label", "single-label")
_LEAK = "group"


def check_material(
    table: ClipTable, used: ClipTable, stores: Sequence[StoreReader], missing: str, listener: Listener
) -> None:
    """All of the checks below, before anything is read.

    Args:
        table: the clip table as it is on the disk.
        used: the clips of it that the run uses, with the labels that it sees.
        missing: ``drop`` or ``error``, for clips that a store lacks.

    Raises:
        ManifestError, TrainingError, StoreError: as each check says.
    """
    check_clips(table, listener)
    check_labels(used, listener, held_out=not (table.split == "valid").any())
    check_stores(table, used, stores, missing, listener)


def check_clips(table: ClipTable, listener: Listener) -> None:
    """Refuse a table whose rows contradict each other; say if groups lie in several splits.

    Raises:
        ManifestError: ids that repeat, or labels that cannot be.
    """
    problems = check_table(table)
    if fatal := [str(problem) for problem in problems if problem.kind in _FATAL]:
        raise ManifestError(f"The clip table {table.name!r} cannot be trained on: {'; '.join(fatal)}.")
    for problem in problems:
        if problem.kind == _LEAK:
            text = "What was trained on is judged, too: scores look better than they are."
            listener(Warned(f"{table.name}: {problem}. {text}"))


def check_labels(table: ClipTable, listener: Listener, *, held_out: bool = False) -> None:
    """Say which classes cannot be learnt, and which no split can judge.

    Args:
        table: the clips that are used, with the labels that training sees.
        held_out: its validation clips were training clips, since the clip table has no such split.

    Raises:
        TrainingError: no training clip has a known label, or none can choose among checkpoints.
    """
    train = table.labels[table.split == "train"]
    known = (train >= 0).any(axis=0)
    if not known.any():
        whole = "" if table.labelled().any() else f", nor has any of the {len(table):,} clips of all splits"
        raise TrainingError(
            f"None of the {len(train):,} training clips of {table.name!r} has a known label{whole}. Students and the "
            f"probes of teachers learn from some: label clips in its clip table; `east data show {table.name}` counts."
            f"{_held(table) if held_out else ''}"
        )
    seen, absent = (train == 1).any(axis=0), (train == 0).any(axis=0)
    elsewhere = (table.labels == 1).any(axis=0) & ~seen
    for rows, text in (
        (~known, "have no known label in train and cannot be learnt"),
        (known & ~seen, "have no positive label in train: nothing shows the student what they are"),
        (known & ~absent, "have no negative label in train: nothing shows the student what they are not"),
        (elsewhere, "have positive labels in other splits but none in train; those count in the metrics all the same"),
    ):
        if rows.any():
            listener(Warned(f"{table.name}: {_classes(table, rows)} {text}."))
    _check_judges(table, listener, held_out=held_out)


def _held(table: ClipTable) -> str:
    """How the validation split came about, for errors that it may have caused."""
    n = int((table.split == "valid").sum())
    were = "was" if n == 1 else "were"
    return (
        f" There is no split 'valid' in it, so {counted(n, 'training clip')} {were} held out, whole "
        "groups (songs, artists) drawn at random: better choose, by giving clips that split."
    )


def _check_judges(table: ClipTable, listener: Listener, *, held_out: bool) -> None:
    for split in table.splits():
        if split == "train":
            continue
        labels = table.labels[table.split == split]
        bare = ~((labels == 1).any(axis=0) & (labels == 0).any(axis=0))
        if bare.all() and split == "valid":
            raise TrainingError(
                "No class has both a positive and a negative validation label: nothing can be chosen. "
                f"{table.name!r} has {counted(len(labels), 'clip')} to validate on, and needs labels of both kinds "
                f"there.{_held(table) if held_out else ''}"
            )
        if bare.any():
            text = "have no positive or no negative known label and are left out of its means"
            listener(Warned(f"{table.name}, split {split}: {_classes(table, bare)} {text}."))


def check_stores(
    table: ClipTable, used: ClipTable, stores: Sequence[StoreReader], missing: str, listener: Listener
) -> None:
    """Say which clips each store lacks, and whether the stores are of other tables or of other audio.

    Args:
        table: the clip table as it is on the disk, whose digest the stores know.
        used: its clips that the run uses.
        missing: ``drop`` says what is lacking, ``error`` refuses.

    Raises:
        StoreError: a store has no clip of the table, or lacks some and that is an error.
    """
    joins = join_stores(used.clip_id, stores)
    for join, store in zip(joins, stores, strict=True):
        check_join(join, used, store, missing, listener)
    _check_tables(table, stores, listener)
    _check_repeats(used, stores[0], joins[0].rows, listener)
    for (one, rows), (other, theirs) in combinations(zip(stores, (join.rows for join in joins), strict=True), 2):
        _check_audio(used, (one, rows), (other, theirs), listener)


def _check_repeats(used: ClipTable, store: StoreReader, rows: NDArray[np.int64], listener: Listener) -> None:
    """Say which clips that judge are, sample by sample, the audio of clips that are trained on."""
    there = np.flatnonzero(rows != ABSENT)
    digests = store.samples_digest[rows[there]]
    there, digests = there[digests.any(axis=1)], digests[digests.any(axis=1)]
    audio = [row.tobytes() for row in digests]
    trained = {key for key, place in zip(audio, there.tolist(), strict=True) if used.split[place] == "train"}
    found: dict[str, list[str]] = {}
    for key, place in zip(audio, there.tolist(), strict=True):
        if used.split[place] != "train" and key in trained:
            found.setdefault(str(used.split[place]), []).append(str(used.clip_id[place]))
    for split, ids in found.items():
        listener(
            Warned(
                f"{used.name}, split {split}: {counted(len(ids), 'clip')} of the very samples of clips that are "
                f"trained on ({some(ids)}). Scores there look better than they are."
            )
        )


def check_join(join: StoreJoin, used: ClipTable, store: StoreReader, missing: str, listener: Listener) -> None:
    """Say which of the clips used a store lacks.

    Raises:
        StoreError: it has none of them, or lacks some and ``missing`` is ``error``.
    """
    lacking = join.rows == ABSENT
    if lacking.all():
        raise StoreError(
            f"{join.name} and the clip table have no clip in common: {join.sentence()}. Is it another dataset's store?"
        )
    if not lacking.any() and not join.by_samples:
        return
    where = ", ".join(
        f"{split} {count:,}" for split in used.splits() if (count := int((lacking & (used.split == split)).sum()))
    )
    text = f"{join.sentence()}" + (f" ({where}): {some(used.clip_id[lacking].tolist())}" if where else "")
    if join.failed:
        text += f"; `east store info {store.path} --failures` says why they failed"
    if missing == "error" and lacking.any():
        raise StoreError(
            f"{text}. --missing error refuses that: extract the clips into {store.path}, or leave them out with "
            "--missing drop."
        )
    listener(Warned(text))


def _check_tables(table: ClipTable, stores: Sequence[StoreReader], listener: Listener) -> None:
    """Stores are made for a clip table, and keep its digest; derived and imported ones have none."""
    known = [store for store in stores if store.meta.manifest_digest]
    digests = {store.meta.manifest_digest for store in known}
    if digests <= {table.digest()}:
        return
    told = "; ".join(
        f"{store.meta.name} ({store.path}) for {store.meta.manifest_digest[:12]}"
        + (f" of {name!r}" if (name := store.meta.dataset.get("name")) else "")
        for store in known
    )
    if len(digests) > 1:
        listener(
            Warned(
                f"The stores were made for different clip tables: {told}. The table of this run is "
                f"{table.digest()[:12]} of {table.name!r}. Clips are joined by their ids: are they the same clips?"
            )
        )
    else:
        listener(
            Note(
                f"{table.name}: labels, splits or clips have changed since the stores were made: {told}, now "
                f"{table.digest()[:12]}."
            )
        )


def _check_audio(
    used: ClipTable,
    one: tuple[StoreReader, NDArray[np.int64]],
    other: tuple[StoreReader, NDArray[np.int64]],
    listener: Listener,
) -> None:
    """Clips that have the same id in two stores, but not the same samples."""
    both = np.flatnonzero((one[1] != ABSENT) & (other[1] != ABSENT))
    ours, theirs = (store.samples_digest[rows[both]] for store, rows in (one, other))
    differ = both[ours.any(axis=1) & theirs.any(axis=1) & (ours != theirs).any(axis=1)]
    if len(differ):
        listener(
            Warned(
                f"{len(differ):,} of {len(both):,} clips have other audio in {one[0].meta.name} ({one[0].path}) than "
                f"in {other[0].meta.name} ({other[0].path}) under the same id: {some(used.clip_id[differ].tolist())}. "
                "A teacher of other audio teaches nothing; extract both from the same files."
            )
        )


def _classes(table: ClipTable, rows: NDArray[np.bool_]) -> str:
    names = [name for name, there in zip(table.classes, rows.tolist(), strict=True) if there]
    return f"{len(names):,} of {len(rows):,} classes ({some(names)})"
