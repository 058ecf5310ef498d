"""The dataset ``scores``: scores of many composers on random instruments, rendered here.

Citation, sources, checksums and licences are in :mod:`pipeline.datasets.scores_card`.  Each clip is
ten seconds of one score, one to five of eighteen instruments, with a drum track under some.  Splits
are by work.  ``valid-other`` and ``test-unseen`` hold the arrangements of ``valid`` and ``test``,
each played by a sound bank that is in no other split; ``unlabelled`` holds more clips of the works
of ``train``, their labels left unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import MappingProxyType

from pipeline.cards import DatasetCard, WeightsCard
from pipeline.datasets.corpora.arrange import Arrangement, in_other_bank
from pipeline.datasets.corpora.build import plan_digest, render_all
from pipeline.datasets.corpora.clips import clip_table, sizes, summarise
from pipeline.datasets.corpora.ensemble import Bank, Deck, arrange_score, deal_works
from pipeline.datasets.corpora.render import RATE_HZ, BankFile, NoteFolders
from pipeline.datasets.corpora.scores import NOTES as NOTES_FILE
from pipeline.datasets.corpora.scores import Score, load_scores
from pipeline.datasets.scores_card import CARD, CORPUS, NOTE_PROGRAMS, NOTES, OTHER_BANK, SEEN_BANKS, UNSEEN_BANK
from pipeline.errors import WeightsError
from pipeline.events import Listener, Note, TaskAdvanced, TaskFinished, TaskStarted, Warned, ignore
from pipeline.manifest import UNLABELLED, ClipTable
from pipeline.weights import fetch

__all__ = ["CLIPS", "SEED", "build", "plan"]

SEED = 1223
CLIPS: Mapping[str, int] = MappingProxyType({"train": 3600, "valid": 500, "test": 700, "unlabelled": 0})
_REPEATED = {"valid": "valid-other", "test": "test-unseen"}
_NOTES_BANK = "tonejs"


@dataclass(frozen=True)
class Banks:
    """What could be had: the banks heard in training, and the one that repeats a split, by that split."""

    seen: tuple[tuple[Bank, BankFile], ...]
    repeating: Mapping[str, BankFile]
    digests: Mapping[str, str]

    @property
    def files(self) -> list[BankFile]:
        """All of them; a part's ``bank`` counts in this list."""
        return [*(file for _, file in self.seen), *self.repeating.values()]


def build(
    card: DatasetCard = CARD,
    folder: Path = Path("data/scores"),
    *,
    clips: Mapping[str, int] = CLIPS,
    seed: int = SEED,
    n_workers: int = 0,
    offline: bool = False,
    listener: Listener = ignore,
) -> ClipTable:
    """Fetch scores and sound banks, render what is not there yet below ``folder/audio``.

    More clips of a split leave those before as they are.

    Args:
        clips: how many clips each split gets; ``valid-other`` has as many as ``valid``,
            ``test-unseen`` as ``test``.
        n_workers: processes; 0 takes all cores.
        offline: use only what was fetched before.

    Raises:
        WeightsError: scores, or every bank heard in training, cannot be had.
        MissingExtraError: the synthesiser is not installed.
        SettingError: sizes that cannot be.
    """
    clips = sizes(clips, CLIPS)
    corpus = fetch(CORPUS, offline=offline, listener=listener)
    banks = _fetch_banks(offline=offline, listener=listener)
    scores = load_scores(corpus, CORPUS.sha256, folder / NOTES_FILE, n_workers=n_workers, listener=listener)
    heard = [bank for bank, _ in banks.seen]
    arrangements = plan(scores, clips=clips, seed=seed, banks=heard, repeated=tuple(banks.repeating), listener=listener)
    rendered = render_all(arrangements, folder, banks.files, task=card.name, n_workers=n_workers, listener=listener)
    about = {"seed": seed, "rate_hz": RATE_HZ, "banks": dict(banks.digests), "clips": clips}
    about["plan"] = plan_digest(arrangements, banks.files)
    table = clip_table(card, folder, arrangements, rendered, about=about, hidden=(UNLABELLED,))
    listener(Note(summarise(table)))
    return table


def plan(
    scores: Sequence[Score],
    *,
    clips: Mapping[str, int],
    seed: int,
    banks: Sequence[Bank],
    repeated: Sequence[str] = tuple(_REPEATED),
    listener: Listener = ignore,
) -> list[Arrangement]:
    """All arrangements in order of split, the same for a seed on every machine.

    Args:
        banks: those heard in training.
        repeated: splits that another bank repeats, in the order of these banks after ``banks``.
    """
    dealt = deal_works(scores, seed)
    arrangements = []
    listener(TaskStarted("arranging", sum(clips.values()), "clips"))
    for split, n_clips in clips.items():
        deck = Deck(dealt["train" if split == UNLABELLED else split])
        for index in range(n_clips):
            score = deck.draw(Random(f"{seed} {split} {index}"))
            path = f"{split}/{index:05d}-{score.name}.flac"
            arrangements.append(arrange_score(score, path, split, banks=banks, seed=seed))
            listener(TaskAdvanced("arranging", 1))
    listener(TaskFinished("arranging"))
    for bank, split in enumerate(repeated, start=len(banks)):
        name = _REPEATED[split]
        again = [clip for clip in arrangements if clip.split == split]
        arrangements += [in_other_bank(clip, clip.path.replace(split, name, 1), name, bank) for clip in again]
    return arrangements


def _fetch_banks(*, offline: bool, listener: Listener) -> Banks:
    """All banks that can be had; says which, and what follows where one is absent."""
    seen: list[tuple[Bank, BankFile]] = []
    digests: dict[str, str] = {}
    for card in SEEN_BANKS:
        file = _try_fetch(card, "training does without it", offline=offline, listener=listener)
        if file is not None:
            seen.append((Bank(card.name), file))
            digests[card.name] = card.sha256
    if not seen:
        raise WeightsError("None of the sound banks heard in training could be had; the warnings above say why.")
    folders = {card.filename: _try_fetch(card, "its notes are left out", offline=offline, listener=listener)
               for card in NOTES}  # fmt: skip
    programs = tuple((program, path) for program, name in NOTE_PROGRAMS.items() if (path := folders[name]) is not None)
    if programs:
        bank = Bank(_NOTES_BANK, programs=frozenset(program for program, _ in programs), has_drums=False)
        seen.append((bank, NoteFolders(_NOTES_BANK, programs)))
        digests |= {card.name: card.sha256 for card in NOTES if folders[card.filename] is not None}
    repeating: dict[str, BankFile] = {}
    for split, card in (("valid", OTHER_BANK), ("test", UNSEEN_BANK)):
        file = _try_fetch(card, f"there is no split {_REPEATED[split]}", offline=offline, listener=listener)
        if file is not None:
            repeating[split] = file
            digests[card.name] = card.sha256
    others = "; ".join(f"{_REPEATED[split]}: {file.name}" for split, file in repeating.items()) or "no others"
    listener(Note(f"Sound banks heard in training: {', '.join(bank.name for bank, _ in seen)}; {others}"))
    return Banks(tuple(seen), repeating, digests)


def _try_fetch(card: WeightsCard, without: str, *, offline: bool, listener: Listener) -> Path | None:
    try:
        return fetch(card, offline=offline, listener=listener)
    except WeightsError as error:
        reason = " ".join(str(error).splitlines()[:2])
        listener(Warned(f"The sound bank {card.name} could not be had, so that {without}. {reason}"))
        return None
