"""From settings to everything a run trains on: splits, joined features, labels, teacher scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.distillation.batches import Answers
from pipeline.distillation.features import Column, FeatureSet
from pipeline.distillation.joining import ABSENT, join_stores
from pipeline.distillation.probe import Probe, clip_features, fit_probe
from pipeline.distillation.sampling import choose_labelled
from pipeline.distillation.settings import ProbeSettings, TrainSettings
from pipeline.distillation.soundness import check_join
from pipeline.errors import SettingError, StoreError, TrainingError
from pipeline.events import Listener, Note, Warned
from pipeline.manifest import TRAIN, UNLABELLED, VALID, ClipTable
from pipeline.manifest.table import Strings, encode
from pipeline.stores import StoreReader
from pipeline.texts import counted, shown

_HELD_OUT = 0.15


@dataclass(frozen=True, eq=False)
class Split:
    """The clips of one split that have what is needed, and where they lie in the stores."""

    table: ClipTable
    columns: tuple[Column, ...]

    def features(self, budget_bytes: int) -> FeatureSet:
        """The same, ready to be gathered."""
        return FeatureSet(self.columns, budget_bytes=budget_bytes)


@dataclass(frozen=True, eq=False)
class Scores:
    """A teacher's logits for every clip it knows."""

    clip_id: NDArray[np.object_]
    logits: NDArray[np.float32]

    def of(self, table: ClipTable) -> NDArray[np.float32]:
        """Logits of a table's clips, NaN where there are none: [clips, classes]."""
        where = {key: row for row, key in enumerate(self.clip_id.tolist())}
        rows = np.array([where.get(key, ABSENT) for key in table.clip_id.tolist()], np.int64)
        found = np.full((len(table), self.logits.shape[1]), np.nan, np.float32)
        found[rows != ABSENT] = self.logits[rows[rows != ABSENT]]
        return found


@dataclass(frozen=True, eq=False)
class Scored(Scores):
    """The same, and the probe that gave them."""

    probe: Probe


def used_splits(table: ClipTable, listener: Listener) -> ClipTable:
    """The clips that training uses: train, valid, test, their variants, and unlabelled ones.

    Clips of the split ``unlabelled`` become training clips whose labels nobody knows.  Without a
    valid split, 15 % of train is held out; clips of one group (a song, an artist), or of one file, stay together.

    Raises:
        SettingError: there are no training clips, no classes, or no valid split and one group to hold out.
    """
    if not table.classes:
        raise SettingError(f"{table.name!r} has no classes: there is nothing to learn.")
    used = table.select(np.array([_is_used(name) for name in table.split.tolist()], bool))
    if not (used.split == TRAIN).any():
        raise SettingError(
            f"{table.name!r} has no clips in the split {TRAIN!r}, only {', '.join(table.splits()) or 'none at all'}. "
            "Name the splits train, valid and test in its clip table."
        )
    if (used.split == VALID).any():
        return _with_unlabelled(used)
    held = _held_out(used)
    listener(
        Note(
            f"{table.name} has no split {VALID!r}: {int(held.sum()):,} of its {int((used.split == TRAIN).sum()):,} "
            "training clips are held out, groups and files whole."
        )
    )
    pieces = _pieces(used)[1]
    heard = (used.split == UNLABELLED) & np.isin(pieces, pieces[held])
    held_out = replace(used, split=np.where(held, VALID, used.split).astype(object))
    return _with_unlabelled(held_out.select(~heard))  # no music of the validation clips is trained on


def _is_used(split: str) -> bool:
    return split in (TRAIN, UNLABELLED) or split.startswith((VALID, "test"))


def _with_unlabelled(table: ClipTable) -> ClipTable:
    hidden = table.split == UNLABELLED
    if not hidden.any():
        return table
    labels = np.where(hidden[:, None], np.int8(-1), table.labels)
    return replace(table, labels=labels, split=np.where(hidden, TRAIN, table.split).astype(object))


def _pieces(table: ClipTable) -> tuple[Strings, NDArray[np.int64]]:
    """What belongs together: clips of a group, and where there is none, of a file; names, and each clip's number."""
    return encode(np.where(table.group != "", table.group, table.path))


def _held_out(table: ClipTable) -> NDArray[np.bool_]:
    train, (names, pieces) = np.asarray(table.split == TRAIN), _pieces(table)
    groups = np.array(sorted(np.unique(pieces[train]).tolist(), key=names.tolist().__getitem__))
    if len(groups) == 1:
        n = counted(int(train.sum()), "training clip")
        raise SettingError(
            f"{table.name!r} has no split {VALID!r}, and none can be held out: {n} in one group or file, "
            f"{shown(names[groups[0]])}, and those are not divided. Give clips of its clip table the split "
            f"{VALID!r}, or groups (songs, artists) of their own."
        )
    chosen = np.random.default_rng(1223).permutation(groups)[: max(1, round(_HELD_OUT * len(groups)))]
    return np.asarray(train & np.isin(pieces, chosen))


def visible_labels(table: ClipTable, settings: TrainSettings | ProbeSettings, listener: Listener) -> ClipTable:
    """What a run may use: :func:`used_splits`, then :func:`hide_labels` as the settings say."""
    used = used_splits(table, listener)
    return hide_labels(used, settings.labelled, settings.seed, unlabelled=settings.unlabelled)


def hide_labels(table: ClipTable, labelled: int | None, seed: int, *, unlabelled: int | None = None) -> ClipTable:
    """The same clips, of which only ``labelled`` training clips keep their labels.

    Validation and test labels stay: validation chooses the checkpoint.

    Args:
        unlabelled: how many training clips without labels stay; None keeps all.

    Raises:
        SettingError: there are fewer of either than asked for.
    """
    shown = _hidden(table, labelled, seed)
    return shown if unlabelled is None else _thinned(shown, unlabelled, seed)


def _thinned(table: ClipTable, unlabelled: int, seed: int) -> ClipTable:
    others = np.flatnonzero((table.split == TRAIN) & ~table.labelled())
    if unlabelled > len(others):
        raise SettingError(
            f"--unlabelled {unlabelled} asks for more clips than the {len(others)} training clips without a label."
        )
    keep = np.ones(len(table), bool)
    keep[np.random.default_rng([seed, 13]).permutation(others)[unlabelled:]] = False
    return table.select(keep)


def _hidden(table: ClipTable, labelled: int | None, seed: int) -> ClipTable:
    if labelled is None:
        return table
    train = np.flatnonzero(table.split == TRAIN)
    kept = choose_labelled(table.labels[train], labelled, seed)
    labels = table.labels.copy()
    labels[train[~kept]] = -1
    return replace(table, labels=labels)


def join_splits(
    table: ClipTable,
    stores: Sequence[StoreReader],
    *,
    required: int,
    views: Sequence[StoreReader] = (),
    listener: Listener,
) -> dict[str, Split]:
    """Join every split; clips absent from the first ``required`` stores are dropped and counted.

    Args:
        views: of the clips in the first store.

    Raises:
        StoreError: no training or no validation clip is left.
    """
    joins = join_stores(table.clip_id, (*stores, *views))
    keep = np.ones(len(table), bool)
    for join in joins[:required]:
        keep &= join.rows != ABSENT
    if dropped := int((~keep).sum()):
        listener(Warned(f"{dropped:,} of {len(table):,} clips are left out: their features are not there."))
    splits: dict[str, Split] = {}
    for name in table.splits():
        rows = np.flatnonzero(keep & (table.split == name))
        columns = [Column(store, join.rows[rows]) for store, join in zip((*stores, *views), joins, strict=True)]
        first = replace(columns[0], views=tuple(columns[len(stores) :]))
        splits[name] = Split(table.select(rows), (first, *columns[1 : len(stores)]))
    for name in (TRAIN, VALID):
        if not len(splits[name].table):
            raise StoreError(f"No clip of the split {name!r} has features. Extract the stores for this clip table.")
    return splits


def score_clips(
    kind: str,
    table: ClipTable,
    stores: Sequence[StoreReader],
    listener: Listener,
    *,
    views: Sequence[Sequence[StoreReader]] = (),
    missing: str = "drop",
) -> tuple[Scored, ClipTable]:
    """Fit the probe on the labelled training clips and score every clip that all teachers know.

    Args:
        views: for each of the stores, those of its views; the probe is fitted on them beside the clips.
        missing: ``drop`` or ``error``, for labelled clips that a view lacks.

    Returns:
        The scores, and the table of the clips that have them.
    """
    joins = join_stores(table.clip_id, stores)
    features = clip_features([Column(store, join.rows) for store, join in zip(stores, joins, strict=True)])
    train, valid = (np.flatnonzero(table.split == name) for name in (TRAIN, VALID))
    probe = fit_probe(
        kind,
        features[train],
        table.labels[train],
        table.task,
        valid=(features[valid], table.labels[valid]),
        views=[_view_features(table.select(train), view, missing, listener) for view in zip(*views, strict=True)],
    )
    there = np.isfinite(features).all(axis=1)
    logits = probe.logits(features[there])
    if not np.isfinite(logits).all():
        raise TrainingError("The probe's scores are not finite. Does a teacher store hold damaged features?")
    listener(Note(f"Probe: {_in_words(probe.about)}"))
    if probe.doubt:
        listener(Warned(probe.doubt))
    return Scored(table.clip_id[there], logits, probe), table.select(np.flatnonzero(there))


def _view_features(
    train: ClipTable, stores: Sequence[StoreReader], missing: str, listener: Listener
) -> NDArray[np.float32]:
    """What all teachers heard in one view of each labelled training clip, NaN elsewhere: [clips, channels]."""
    labelled = np.flatnonzero(train.labelled())
    joins = join_stores(train.clip_id[labelled], stores)
    for join, store in zip(joins, stores, strict=True):
        check_join(join, train.select(labelled), store, missing, listener)
    found = clip_features([Column(store, join.rows) for store, join in zip(stores, joins, strict=True)])
    features = np.full((len(train), found.shape[1]), np.nan, np.float32)
    features[labelled] = found
    return features


def _in_words(about: dict[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in about.items()
    )


def training_answers(split: Split, loss_clips: str, scored: Scores | None) -> tuple[Split, Answers]:
    """Labels and scores of the training clips; clips that could teach nothing are left out.

    Args:
        loss_clips: ``all`` keeps unlabelled clips that a teacher knows, ``labelled`` none.
    """
    labelled = split.table.labelled()
    scores = None if scored is None else scored.of(split.table)
    taught = np.zeros(len(labelled), bool)
    if loss_clips == "all":
        for column in split.columns[1:]:
            taught |= column.rows != ABSENT
        if scores is not None:
            taught |= np.isfinite(scores).all(axis=1)
    rows = np.flatnonzero(labelled | taught)
    if not labelled.any():
        raise TrainingError("No training clip has both features and a known label.")
    columns = tuple(column.select(rows) for column in split.columns)
    table = split.table.select(rows)
    return Split(table, columns), Answers(table.labels, None if scores is None else scores[rows])
