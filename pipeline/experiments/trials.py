"""Trials of a sweep as plain values, and as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TrialResult:
    """One trial that ended: ``value`` is its validation mAP, None where it failed."""

    number: int
    params: Mapping[str, str | float | int]
    value: float | None


def trials_csv(trials: Sequence[TrialResult], names: Sequence[str]) -> str:
    """One line per trial; an empty validation mAP is a trial that failed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["trial", "valid_map", *names])
    for trial in trials:
        value = "" if trial.value is None else trial.value
        writer.writerow([trial.number, value, *(trial.params.get(name, "") for name in names)])
    return out.getvalue()
