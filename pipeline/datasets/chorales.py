"""The dataset ``chorales``: Bach chorales on random instruments, rendered here.

Citation, sources, checksums and licences are in :mod:`pipeline.datasets.chorales_card`.  Each clip
is ten seconds of one setting, two to four of twelve instruments, several labels per clip.  Splits
are by hymn.  ``test-unseen`` holds the arrangements of ``test``, played by a sound bank that is in
no other split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import numpy as np

from pipeline.cards import DatasetCard, WeightsCard
from pipeline.datasets.chorales_card import CHORALES, SCORES, SEEN_BANKS, UNSEEN_BANKS
from pipeline.datasets.corpora.arrange import CLIP_S, Arrangement, arrange, in_other_bank, split_hymns
from pipeline.datasets.corpora.build import render_all
from pipeline.datasets.corpora.notes import Chorale, read_chorales
from pipeline.datasets.corpora.render import RATE_HZ, Rendered, present
from pipeline.errors import WeightsError
from pipeline.events import Listener, Note, Warned, ignore
from pipeline.manifest import ClipTable, clip_id
from pipeline.weights import fetch

__all__ = ["CLIPS", "SEED", "build", "plan"]

SEED = 1223
CLIPS: Mapping[str, int] = MappingProxyType({"train": 1500, "valid": 200, "test": 300})
UNSEEN = "test-unseen"


def build(
    card: DatasetCard = CHORALES,
    folder: Path = Path("data/chorales"),
    *,
    clips: Mapping[str, int] = CLIPS,
    seed: int = SEED,
    n_workers: int = 0,
    offline: bool = False,
    listener: Listener = ignore,
) -> ClipTable:
    """Fetch scores and sound banks, render what is not there yet below ``folder/audio``.

    Args:
        clips: how many clips each split gets; ``test-unseen`` has as many as ``test``.
        n_workers: processes; 0 takes all cores.
        offline: use only what was fetched before.

    Raises:
        WeightsError: scores or the banks heard in training cannot be had.
        MissingExtraError: the synthesiser is not installed.
    """
    scores = fetch(SCORES, offline=offline, listener=listener)
    banks = [fetch(bank, offline=offline, listener=listener) for bank in SEEN_BANKS]
    unseen = _fetch_unseen(offline=offline, listener=listener)
    arrangements = plan(read_chorales(scores), clips=clips, seed=seed, unseen=unseen is not None)
    files = [*banks, unseen[1]] if unseen else banks
    rendered = render_all(arrangements, folder, files, task=card.name, n_workers=n_workers, listener=listener)
    heard = [*SEEN_BANKS, *([unseen[0]] if unseen else [])]
    about = {"seed": seed, "rate_hz": RATE_HZ, "banks": {bank.name: bank.sha256 for bank in heard}}
    table = _table(card, folder, arrangements, rendered, about)
    listener(Note(_summary(table)))
    return table


def plan(chorales: Sequence[Chorale], *, clips: Mapping[str, int], seed: int, unseen: bool) -> list[Arrangement]:
    """All arrangements in order of split, the same for a seed on every machine."""
    dealt = split_hymns(chorales, dict(clips), seed)
    arrangements = []
    for split, n_clips in clips.items():
        for index in range(n_clips):
            chorale = dealt[split][index % len(dealt[split])]
            path = f"{split}/{index:04d}-{chorale.name}.flac"
            arrangements.append(arrange(chorale, path, split, n_banks=len(SEEN_BANKS), seed=seed))
    if unseen:
        tested = [arrangement for arrangement in arrangements if arrangement.split == "test"]
        paths = [f"{UNSEEN}/{arrangement.path.removeprefix('test/')}" for arrangement in tested]
        bank = len(SEEN_BANKS)
        arrangements += [in_other_bank(clip, path, UNSEEN, bank) for clip, path in zip(tested, paths, strict=True)]
    return arrangements


def _fetch_unseen(*, offline: bool, listener: Listener) -> tuple[WeightsCard, Path] | None:
    reasons = []
    for bank in UNSEEN_BANKS:
        try:
            return bank, fetch(bank, offline=offline, listener=listener)
        except WeightsError as error:
            reasons.append(f"{bank.name}: {str(error).splitlines()[0]}")
    listener(Warned(f"No sound bank for {UNSEEN} could be had, so that split is left out. {' '.join(reasons)}"))
    return None


def _table(
    card: DatasetCard,
    folder: Path,
    arrangements: Sequence[Arrangement],
    rendered: Mapping[str, Rendered],
    about: Mapping[str, object],
) -> ClipTable:
    def column(values: list[str]) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
        return np.array(values, dtype=object)

    paths = [arrangement.path for arrangement in arrangements]
    return ClipTable(
        name=card.name,
        root=str(folder / "audio"),
        classes=card.classes,
        task=card.task,
        clip_s=CLIP_S,
        clip_id=column([clip_id(path, 0.0) for path in paths]),
        path=column(paths),
        split=column([arrangement.split for arrangement in arrangements]),
        group=column([arrangement.hymn for arrangement in arrangements]),
        start_s=np.zeros(len(paths)),
        duration_s=np.full(len(paths), CLIP_S),
        labels=np.stack([present(rendered[path], card.classes) for path in paths]),
        card=asdict(card) | {"classes": list(card.classes), "build": dict(about)},
    )


def _summary(table: ClipTable) -> str:
    counts = ", ".join(f"{int((table.split == name).sum()):,} {name}" for name in table.splits())
    per_clip = float((table.labels == 1).sum(axis=1).mean())
    return f"{table.name}: {len(table):,} clips of {table.clip_s:g} s ({counts}), {per_clip:.1f} classes per clip"
