"""Which clips keep their labels, and in which order clips enter the batches.  NumPy only.

Everything follows from seeds, so that a run that goes on from its checkpoint sees the batches it
would have seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingError

Positions = NDArray[np.int64]

_POSITIVES = 2  # per class in the labelled subset, where the data has them


def choose_labelled(labels: NDArray[np.int8], n: int, seed: int) -> NDArray[np.bool_]:
    """Clips that keep their labels: drawn at random once each class has two positives.

    Classes are served from the rarest to the most frequent, so that the draw is the same for the
    same labels and seed.

    Shape:
        labels: [clips, classes], 1 / 0 / -1.

    Returns:
        [clips], bool, ``n`` of them true.

    Raises:
        SettingError: more clips asked for than have labels, or too few to show every class.
    """
    usable = np.flatnonzero((labels >= 0).any(axis=1))
    if n > len(usable):
        raise SettingError(f"--labelled {n} asks for more clips than the {len(usable)} training clips with labels.")
    order = np.random.default_rng([seed, 11]).permutation(usable)
    chosen: list[int] = []
    positive = labels == 1
    for column in np.argsort(positive[usable].sum(axis=0), kind="stable"):
        wanted = max(0, _POSITIVES - int(positive[chosen, column].sum()))
        chosen += [row for row in order[positive[order, column]].tolist() if row not in chosen][:wanted]
    if len(chosen) > n:
        raise SettingError(
            f"--labelled {n} is too few: {len(chosen)} clips are needed for {_POSITIVES} positives of each of the "
            f"{labels.shape[1]} classes. Ask for at least {len(chosen)}."
        )
    kept = set(chosen)
    chosen += [row for row in order.tolist() if row not in kept][: n - len(chosen)]
    mask = np.zeros(len(labels), bool)
    mask[chosen] = True
    return mask


@dataclass(frozen=True)
class BatchPlan:
    """What a batch is made of: ``n_labelled`` clips of one pool, then ``n_unlabelled`` of another."""

    n_labelled: int
    n_unlabelled: int
    seed: int

    @property
    def size(self) -> int:
        """Clips per batch."""
        return self.n_labelled + self.n_unlabelled


def plan_batches(batch: int, share: float, *, labelled: int, unlabelled: int, seed: int) -> BatchPlan:
    """Split a batch between the pools; an empty pool leaves the batch to the other.

    Args:
        share: of labelled clips.
        labelled, unlabelled: sizes of the pools.
    """
    if not unlabelled:
        return BatchPlan(batch, 0, seed)
    if not labelled:
        return BatchPlan(0, batch, seed)
    n = min(batch - 1, max(1, round(batch * share)))
    return BatchPlan(n, batch - n, seed)


def batch_positions(
    plan: BatchPlan, labelled: Positions, unlabelled: Positions, blocks: NDArray[np.int64] | None, group: int
) -> Iterator[Positions]:
    """Endless batches of positions, labelled clips first.

    Shape:
        labelled, unlabelled: positions of each pool.
        blocks: [clips], the storage block of each position, or None to shuffle freely.

    Args:
        group: how many blocks are shuffled together.
    """
    pools = ((labelled, plan.n_labelled, 1), (unlabelled, plan.n_unlabelled, 2))
    takers = [_taker(pool, n, [plan.seed, key], blocks, group) for pool, n, key in pools if n]
    while True:
        yield np.concatenate([next(taker) for taker in takers])


def _taker(
    pool: Positions, n: int, seed: list[int], blocks: NDArray[np.int64] | None, group: int
) -> Iterator[Positions]:
    """``n`` positions at a time from one shuffled pass after the other."""
    rng = np.random.default_rng(seed)
    held = np.empty(0, np.int64)
    parts: Iterator[Positions] = iter(())
    while True:
        while len(held) < n:
            part = next(parts, None)
            if part is None:
                parts = iter([rng.permutation(pool)]) if blocks is None else shuffle_blocks(pool, blocks, group, rng)
            else:
                held = np.concatenate([held, part])
        yield held[:n]
        held = held[n:]


def shuffle_blocks(
    pool: Positions, blocks: NDArray[np.int64], group: int, rng: np.random.Generator
) -> Iterator[Positions]:
    """One pass over a pool: blocks in random order, and clips shuffled among ``group`` blocks.

    Reading then touches ``group`` blocks at a time, and each clip still comes once per pass.
    """
    mine = blocks[pool]
    names = rng.permutation(np.unique(mine))
    by_block = np.argsort(mine, kind="stable")
    starts = np.searchsorted(mine[by_block], names)
    ends = np.searchsorted(mine[by_block], names, side="right")
    for first in range(0, len(names), group):
        pieces = [
            by_block[a:b] for a, b in zip(starts[first : first + group], ends[first : first + group], strict=True)
        ]
        yield pool[rng.permutation(np.concatenate(pieces))]
