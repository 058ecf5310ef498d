"""From rendered arrangements to a clip table, for every dataset that is rendered here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.cards import DatasetCard, WeightsCard
from pipeline.datasets.corpora.arrange import CLIP_S, Arrangement
from pipeline.datasets.corpora.render import Rendered, present
from pipeline.errors import SettingError, WeightsError
from pipeline.events import Listener
from pipeline.manifest import UNKNOWN, ClipTable, clip_id
from pipeline.weights import fetch


def clip_table(
    card: DatasetCard,
    folder: Path,
    arrangements: Sequence[Arrangement],
    rendered: Mapping[str, Rendered],
    *,
    about: Mapping[str, object],
    hidden: Collection[str] = (),
) -> ClipTable:
    """The table of what lies below ``folder/audio``, its labels from the stems' levels.

    Args:
        about: how it was made, kept in the table's card.
        hidden: splits whose labels are left unknown.
    """
    paths = [arrangement.path for arrangement in arrangements]
    labels = np.stack([present(rendered[path], card.classes) for path in paths])
    labels[[arrangement.split in hidden for arrangement in arrangements]] = UNKNOWN
    return ClipTable(
        name=card.name,
        root=str(folder / "audio"),
        classes=card.classes,
        task=card.task,
        clip_s=CLIP_S,
        clip_id=_column([clip_id(path, 0.0) for path in paths]),
        path=_column(paths),
        split=_column([arrangement.split for arrangement in arrangements]),
        group=_column([arrangement.hymn for arrangement in arrangements]),
        start_s=np.zeros(len(paths)),
        duration_s=np.full(len(paths), CLIP_S),
        labels=labels,
        card=asdict(card) | {"classes": list(card.classes), "build": dict(about)},
    )


def summarise(table: ClipTable) -> str:
    """Clips of each split and classes per labelled clip, in one line."""
    counts = ", ".join(f"{int((table.split == name).sum()):,} {name}" for name in table.splits())
    labelled = table.labels[(table.labels != UNKNOWN).any(axis=1)]
    per_clip = float((labelled == 1).sum(axis=1).mean())
    return f"{table.name}: {len(table):,} clips of {table.clip_s:g} s ({counts}), {per_clip:.1f} classes per clip"


def sizes(wanted: Mapping[str, int], usual: Mapping[str, int]) -> dict[str, int]:
    """Clips of each split: what is wanted, else what is usual.

    Raises:
        SettingError: a split that there is not, or a count that cannot be.
    """
    unknown = sorted(set(wanted) - set(usual))
    if unknown:
        raise SettingError(f"There is no split {unknown[0]!r} to size; sizes can be given for {', '.join(usual)}.")
    found = {name: wanted.get(name, count) for name, count in usual.items()}
    for name, count in found.items():
        least = min(1, usual[name])
        if count < least:
            raise SettingError(f"{name}={count}: the split {name} needs {least} clip(s) or more.")
    return found


def fetch_first(
    cards: Sequence[WeightsCard], *, offline: bool, listener: Listener
) -> tuple[WeightsCard, Path] | list[str]:
    """The first of several banks that can be had, or why none can."""
    reasons = []
    for bank in cards:
        try:
            return bank, fetch(bank, offline=offline, listener=listener)
        except WeightsError as error:
            reasons.append(f"{bank.name}: {' '.join(str(error).splitlines()[:2])}")
    return reasons


def _column(values: list[str]) -> NDArray[np.object_]:
    return np.array(values, dtype=object)
