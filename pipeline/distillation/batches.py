"""Batches for training, in an order that follows from the seed, and passes for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.audio.extractor import Frames
from pipeline.distillation.features import FeatureSet, Window
from pipeline.distillation.losses.compose import Goal
from pipeline.distillation.processes import ALONE, Part
from pipeline.distillation.sampling import BatchPlan, batch_positions

_STEPS_PER_WINDOW = 64
_VERSIONS = 3  # of the seed: 1 and 2 are the order of clips, see sampling


class Batch(NamedTuple):
    """What the student gets, and what it should become."""

    mel: Frames
    goal: Goal

    def to(self, device: torch.device) -> Batch:
        """The same on another device."""
        if self.mel.features.device == device:
            return self
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The same with every tensor changed."""
        teachers = tuple(Frames(*map(change, teacher)) for teacher in self.goal.teachers)
        changed = {name: change(value) for name, value in self.goal._asdict().items() if isinstance(value, Tensor)}
        return Batch(Frames(*map(change, self.mel)), self.goal._replace(**changed, teachers=teachers))


class Answers:
    """Labels and teacher scores of all clips of a feature set, in memory.

    Args:
        labels: [clips, classes], int8: 1, 0, -1 unknown; hidden labels are -1.
        scores: [clips, classes], logits of the teacher's probe, NaN where there are none; or None.
    """

    def __init__(self, labels: NDArray[np.int8], scores: NDArray[np.float32] | None = None) -> None:
        known = labels >= 0
        self.targets = torch.from_numpy(np.where(known, labels, 0).astype(np.float32))
        self.known = torch.from_numpy(known)
        self.labelled = self.known.any(dim=1)
        self.scores = None if scores is None else torch.from_numpy(np.nan_to_num(scores, nan=0.0))
        scored = np.zeros(len(labels), bool) if scores is None else np.isfinite(scores).all(axis=1)
        self.scored = torch.from_numpy(scored)

    def to(self, device: torch.device) -> Answers:
        """The same on another device."""
        moved = copy(self)
        moved.__dict__ = {
            name: value.to(device) if isinstance(value, Tensor) else value for name, value in vars(self).items()
        }
        return moved

    def goal(self, positions: Tensor, teachers: tuple[Frames, ...]) -> Goal:
        """The goal of a batch."""
        return Goal(
            targets=self.targets.index_select(0, positions),
            known=self.known.index_select(0, positions),
            labelled=self.labelled.index_select(0, positions),
            scores=None if self.scores is None else self.scores.index_select(0, positions),
            scored=self.scored.index_select(0, positions),
            teachers=teachers,
        )


class Feed:
    """The batches of a run from ``first_step`` to ``steps``; iterating starts over.

    The same seed gives the same batches whichever step it starts from.  Of several processes each takes every
    ``of``-th clip of the same batches, from ``rank`` on, labelled clips first.  Of a clip with views, each batch
    takes one version at random, the clip as it is or one of its views; what it should become is that
    of the clip as it is.  Where the features are not in memory, the next window is read while the present
    one is used.

    Args:
        shuffled_blocks: how many storage blocks are shuffled together, 0 for a free order; None: as suits the
            memory of this process.  Batches of several processes, or of a run that goes on, are of one order.

    Attributes:
        device: where features and answers are kept, and batches are gathered.
    """

    def __init__(
        self,
        features: FeatureSet,
        answers: Answers,
        plan: BatchPlan,
        *,
        steps: int,
        first_step: int = 0,
        part: Part = ALONE,
        shuffled_blocks: int | None = None,
    ) -> None:
        self.features, self.answers, self.plan = features, answers, plan
        self.steps, self.first_step, self.part = steps, first_step, part
        self.shuffled_blocks = features.shuffled_blocks if shuffled_blocks is None else shuffled_blocks
        self.device = torch.device("cpu")

    def __iter__(self) -> Iterator[Batch]:
        n, answers = max(1, len(self.features)), self.answers.to(self.device)
        held: Window | None = None
        for window, chunk in self._windows():
            if window is not held:
                held, placed = window, window.to(self.device)
            for keys in chunk:
                yield make_batch(placed, answers, torch.from_numpy(keys).to(self.device), n_clips=n)

    def positions(self) -> Iterator[NDArray[np.int64]]:
        """The positions of each batch, labelled clips first, for all processes together."""
        labelled = self.answers.labelled.numpy()
        order = batch_positions(
            self.plan,
            np.flatnonzero(labelled),
            np.flatnonzero(~labelled),
            self.features.blocks() if self.shuffled_blocks else None,
            self.shuffled_blocks,
        )
        return islice(order, self.first_step, self.steps)

    def keys(self) -> Iterator[NDArray[np.int64]]:
        """The version of each clip of this process's part of each batch, see :class:`Column`: [part].

        Which version follows from the seed, the step and the place in the batch alone.
        """
        n_clips, n_versions = len(self.features), self.features.columns[0].n_versions
        for step, positions in enumerate(self.positions(), start=self.first_step):
            if n_versions > 1:
                draw = np.random.default_rng([self.plan.seed, _VERSIONS, step])
                positions = positions + n_clips * draw.integers(n_versions, size=len(positions))  # noqa: PLW2901
            yield positions[self.part.rank :: self.part.of]

    def _windows(self) -> Iterator[tuple[Window, list[NDArray[np.int64]]]]:
        size = _STEPS_PER_WINDOW
        if not self.features.resident:
            size = max(1, self.features.window_clips // self.plan.size)
        chunks = _chunks(self.keys(), size)
        with ThreadPoolExecutor(1, thread_name_prefix="features") as pool:
            ahead: Future[Window] | None = None
            chunk = next(chunks, [])
            while chunk:
                window = ahead.result() if ahead else self.features.window(np.concatenate(chunk))
                following = next(chunks, [])
                ahead = pool.submit(self.features.window, np.concatenate(following)) if following else None
                yield window, chunk
                chunk = following


def evaluation_batches(features: FeatureSet, answers: Answers, size: int) -> Iterator[Batch]:
    """All clips in order, ``size`` at a time."""
    step = size if features.resident else max(size, features.window_clips // size * size)
    for first in range(0, len(features), step):
        positions = np.arange(first, min(first + step, len(features)))
        window = features.window(positions)
        for start in range(0, len(positions), size):
            part = torch.from_numpy(positions[start : start + size])
            yield make_batch(window, answers, part, n_clips=len(features))


def make_batch(window: Window, answers: Answers, keys: Tensor, *, n_clips: int) -> Batch:
    """Gather one batch: the first column is the student's mel, the others are teachers."""
    positions = keys % n_clips
    teachers = tuple(window.gather(column, positions) for column in range(1, window.n_columns))
    return Batch(window.gather(0, keys), answers.goal(positions, teachers))


def _chunks(items: Iterator[NDArray[np.int64]], size: int) -> Iterator[list[NDArray[np.int64]]]:
    while chunk := list(islice(items, size)):
        yield chunk
