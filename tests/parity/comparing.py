"""Both sides of a case on the same signals, and how far apart they are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from parity.case import Arrays, Case
from parity.environments import Environment
from parity.signals import make_signals

LARGEST = 1e-4
"""Allowed in exact mode, of front ends and embeddings: absolute, or relative to the largest magnitude."""
LEAST_COSINE = 0.999
SCRIPTS = Path(__file__).parent / "originals"


@dataclass(frozen=True)
class Row:
    """How far ours is from the original in one output; ``cosine`` is the least over frames, in fast mode."""

    case: str
    output: str
    random: bool
    absolute: float
    relative: float
    fast_relative: float
    cosine: float
    signals: tuple[str, ...]
    note: str

    @property
    def passed(self) -> bool:
        """Exact within the limit, fast in the same direction."""
        return min(self.absolute, self.relative) <= LARGEST and self.cosine >= LEAST_COSINE


def compare(case: Case, environment: Environment) -> list[Row]:
    """Run the original, run ours in exact and in fast mode.

    Raises:
        RuntimeError: the original failed.
        ValueError: an output of the original is missing in ours, or has another shape.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        signals = make_signals(case.rate_hz)
        np.savez(place / "signals.npz", **signals)
        weights = case.weights(place)
        paths = (str(weights), str(place / "signals.npz"), str(place / "out.npz"))
        environment.run(SCRIPTS / case.original, *paths, *case.arguments)
        with np.load(place / "out.npz", allow_pickle=False) as stored:
            theirs = dict(stored)
        return list(_rows(case, theirs, case.ours(weights, "exact", signals), case.ours(weights, "fast", signals)))


def _rows(case: Case, theirs: Arrays, exact: Arrays, fast: Arrays) -> Iterator[Row]:
    for output in dict.fromkeys(key.partition("/")[2] for key in theirs):
        keys = [key for key in theirs if key.partition("/")[2] == output]
        for key in keys:
            if key not in exact or exact[key].shape != theirs[key].shape:
                shape = exact[key].shape if key in exact else "nothing"
                raise ValueError(f"{case.name}: the original gives {key} {theirs[key].shape}, ours {shape}")
        scale = max(float(np.abs(theirs[key]).max()) for key in keys) or 1.0
        absolute = max(float(np.abs(theirs[key] - exact[key]).max()) for key in keys)
        fast_absolute = max(float(np.abs(theirs[key] - fast[key]).max()) for key in keys)
        yield Row(
            case.name,
            output,
            case.random,
            absolute,
            absolute / scale,
            fast_absolute / scale,
            min(_least_cosine(theirs[key], fast[key]) for key in keys),
            tuple(key.partition("/")[0] for key in keys),
            case.note,
        )


def _least_cosine(left: np.ndarray, right: np.ndarray) -> float:
    """Over the last axis; rows that are zero on both sides agree."""
    a, b = (array.astype(np.float64).reshape(-1, array.shape[-1]) for array in (left, right))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.where(norms > 0, (a * b).sum(1) / np.maximum(norms, 1e-30), np.where((a == b).all(1), 1.0, 0.0))
    return float(cosine.min())
