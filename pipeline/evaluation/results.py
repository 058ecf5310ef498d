"""What a comparison of runs says, as plain frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from pipeline.evaluation.bootstrap import Interval, SeedDifference
from pipeline.evaluation.runs import DatasetFacts, Run
from pipeline.evaluation.significance import Difference, Over


@dataclass(frozen=True)
class Spread:
    """A number over seeds; ``sd`` is None with one seed."""

    by_seed: Mapping[int, float]
    mean: float
    sd: float | None


@dataclass(frozen=True)
class Measured:
    """One metric of a row: over seeds, its 95 % interval and what that is over, and against the baseline."""

    spread: Spread | None
    ci: Interval
    over: Over
    against: Difference | None


@dataclass(frozen=True)
class SetResult:
    """One row on one set of clips or files.

    Attributes:
        map_ci: interval over clips of the mean over seeds.
        difference, difference_ci: mAP minus that of the row's baseline, paired by seed.
        per_class_ap: class to mean over seeds, None where it cannot be judged.
        measured: ``map`` and ``roc_auc`` with intervals and tests over seeds where there are several.
    """

    n_items: int
    map: Spread | None
    map_ci: Interval
    roc_auc: Spread | None
    f1: Spread | None
    accuracy: Spread | None
    difference: SeedDifference | None
    difference_ci: Interval
    per_class_ap: Mapping[str, float | None]
    left_out: tuple[str, ...]
    measured: Mapping[str, Measured] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One line of the table: the runs that differ in their seed alone."""

    group: str
    kind: str
    runs: tuple[Run, ...]
    baseline: str | None
    sets: Mapping[str, SetResult]
    macs: int | None = None

    @property
    def is_baseline(self) -> bool:
        """Whether other rows are measured against this one."""
        return self.baseline == self.group

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds, ascending."""
        return tuple(run.seed for run in self.runs)

    @property
    def train_s(self) -> float:
        """Mean training time in seconds."""
        return float(np.mean([run.train_s for run in self.runs]))


@dataclass(frozen=True)
class Comparison:
    """All rows over the same sets, the baseline first, then by mAP on the first set."""

    dataset: DatasetFacts
    sets: tuple[str, ...]
    rows: tuple[Row, ...]
    n_resamples: int
    unit: str
    card: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        rows = [_row_dict(row) for row in self.rows]
        facts = asdict(self.dataset)
        bootstrap = {"n_resamples": self.n_resamples, "unit": self.unit}
        return {"format": 1, "dataset": facts, "sets": list(self.sets), "bootstrap": bootstrap, "rows": rows}


def _row_dict(row: Row) -> dict[str, Any]:
    return {
        "group": row.group,
        "kind": row.kind,
        "baseline": row.baseline,
        "runs": [run.name for run in row.runs],
        "seeds": list(row.seeds),
        "n_labelled": row.runs[0].n_labelled,
        "n_unlabelled": row.runs[0].n_unlabelled,
        "n_parameters": row.runs[0].n_parameters,
        "macs_per_clip": row.macs,
        "train_s": row.train_s,
        "sets": {name: asdict(result) for name, result in row.sets.items()},
    }
