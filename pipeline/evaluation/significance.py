"""How far a difference to the baseline can be trusted: over seeds where there are several, else over clips.

With two seeds or more in common: a two-sided paired t-test of the differences, and Student's interval
of their mean.  With one seed: the paired bootstrap, which knows of other clips but of no other
initialisation.  Several rows against one baseline are several questions: Holm's step-down procedure
(Scandinavian Journal of Statistics 6, 1979) holds the chance of any false alarm among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtr, stdtrit

from pipeline.evaluation.bootstrap import (
    LEVEL,
    Interval,
    SeedDifference,
    centred,
    metric_interval,
    paired,
    paired_interval,
)
from pipeline.evaluation.metrics import Reals

Over = Literal["seeds", "clips"]
FEW_SEEDS = 3


@dataclass(frozen=True)
class Difference:
    """A row's metric minus that of its baseline.

    Attributes:
        by_seed: differences at the seeds that both have.
        ci: 95 % interval of the mean difference, over ``over``.
        p: two-sided; None where nothing can be tested (differences that are all equal).
        over: what the interval and p are about: other ``seeds``, or other ``clips`` with this seed.
    """

    by_seed: SeedDifference
    ci: Interval
    p: float | None
    over: Over

    @property
    def note(self) -> str:
        """What a reader must know of ``n``; empty where it is large enough to say something."""
        n = len(self.by_seed.seeds)
        if self.over == "clips":
            return "one seed: says nothing of other seeds"
        return f"{n} seeds: too few to tell" if n < FEW_SEEDS else ""


def spread_interval(values: Mapping[int, float], resampled: Mapping[int, Reals]) -> tuple[Interval, Over]:
    """95 % interval of a row's mean: Student's over seeds, or the bootstrap's over clips with one seed.

    Shape:
        resampled: per seed [resamples].
    """
    if len(values) > 1:
        found = student_interval(list(values.values()))
        return Interval(max(0.0, found.low or 0.0), min(1.0, found.high or 1.0)), "seeds"  # a metric lies between
    drawn, value = list(resampled.values()), next(iter(values.values()), None)
    return (metric_interval(drawn[0], value) if drawn else Interval(None, None)), "clips"


def compare_metric(
    own: Mapping[int, float], other: Mapping[int, float], resampled: tuple[Mapping[int, Reals], Mapping[int, Reals]]
) -> Difference | None:
    """The difference of two rows, paired by seed; None where they share none.

    Args:
        own, other: the metric by seed.
        resampled: the same under each resample, both rows under the same resamples.
    """
    by_seed = paired(own, other)
    if by_seed is None:
        return None
    if len(by_seed.seeds) > 1:
        return Difference(by_seed, student_interval(by_seed.differences), t_test(by_seed.differences), "seeds")
    first, second = resampled
    seed = by_seed.seeds[0]
    p = bootstrap_test(first[seed] - second[seed], by_seed.mean)
    return Difference(by_seed, paired_interval(first, second, by_seed.mean), p, "clips")


def student_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Student's interval of a mean.

    >>> found = student_interval([1.0, 2.0, 3.0])
    >>> round(found.low, 3), round(found.high, 3)
    (-0.484, 4.484)
    """
    n = len(values)
    if n < 2:
        return Interval(None, None)
    half = float(stdtrit(n - 1, (1 + level) / 2) * np.std(values, ddof=1) / n**0.5)
    mean = float(np.mean(values))
    return Interval(mean - half, mean + half)


def t_test(differences: Sequence[float]) -> float | None:
    """Two-sided p of the paired t-test; None with fewer than two differences, or where all are equal.

    >>> round(t_test([1.0, 2.0, 3.0]), 4)
    0.0742
    """
    n = len(differences)
    scale = float(np.std(differences, ddof=1)) if n > 1 else 0.0
    if not scale > 1e-12:
        return None
    return float(2 * stdtr(n - 1, -abs(float(np.mean(differences)) / scale * n**0.5)))


def bootstrap_test(differences: Reals, about: float) -> float | None:
    """Two-sided p from resampled differences: twice the smaller share on one side of zero.

    Never below what so many resamples can show.

    Args:
        about: the difference on the clips themselves, to which the resamples are shifted.

    Shape:
        differences: [resamples], NaN where one could not be judged.
    """
    finite = centred(differences, about)
    if not len(finite) or not finite.any():
        return None
    smaller = min(int((finite <= 0).sum()), int((finite >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (len(finite) + 1))


def holm(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Adjusted p of several tests; those that are None are no tests.

    >>> holm({"a": 0.01, "b": 0.04, "c": None})
    {'a': 0.02, 'b': 0.04, 'c': None}
    """
    tests = sorted((p, key) for key, p in values.items() if p is not None)
    found: dict[str, float | None] = dict.fromkeys(values)
    highest = 0.0
    for rank, (p, key) in enumerate(tests):
        highest = max(highest, min(1.0, p * (len(tests) - rank)))
        found[key] = highest
    return found
