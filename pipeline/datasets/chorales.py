"""The dataset ``chorales``: Bach chorales on random instruments, rendered here.

Citation, sources, checksums and licences are in :mod:`pipeline.datasets.chorales_card`.  Each clip
is ten seconds of one setting, two to four of twelve instruments, several labels per clip.  Splits
are by hymn.  ``test-unseen`` holds the arrangements of ``test``, played by a sound bank that is in
no other split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pipeline.cards import DatasetCard, WeightsCard
from pipeline.datasets.chorales_card import CHORALES, SCORES, SEEN_BANKS, UNSEEN_BANKS
from pipeline.datasets.corpora.arrange import Arrangement, arrange, in_other_bank, split_hymns
from pipeline.datasets.corpora.build import render_all
from pipeline.datasets.corpora.clips import clip_table, fetch_first, sizes, summarise
from pipeline.datasets.corpora.notes import Chorale, read_chorales
from pipeline.datasets.corpora.render import RATE_HZ
from pipeline.events import Listener, Note, Warned, ignore
from pipeline.manifest import ClipTable
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
    clips = sizes(clips, CLIPS)
    scores = fetch(SCORES, offline=offline, listener=listener)
    banks = [fetch(bank, offline=offline, listener=listener) for bank in SEEN_BANKS]
    unseen = _fetch_unseen(offline=offline, listener=listener)
    arrangements = plan(read_chorales(scores), clips=clips, seed=seed, unseen=unseen is not None)
    files = [*banks, unseen[1]] if unseen else banks
    rendered = render_all(arrangements, folder, files, task=card.name, n_workers=n_workers, listener=listener)
    heard = [*SEEN_BANKS, *([unseen[0]] if unseen else [])]
    about = {"seed": seed, "rate_hz": RATE_HZ, "banks": {bank.name: bank.sha256 for bank in heard}}
    table = clip_table(card, folder, arrangements, rendered, about=about)
    listener(Note(summarise(table)))
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
    found = fetch_first(UNSEEN_BANKS, offline=offline, listener=listener)
    if isinstance(found, tuple):
        return found
    listener(Warned(f"No sound bank for {UNSEEN} could be had, so that split is left out. {' '.join(found)}"))
    return None
