"""One row of the parity table: an original implementation, and ours with the same weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.audio.extractor import Mode

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """How both sides are run.

    ``original`` is a script in ``originals/``, run in its environment as
    ``python SCRIPT WEIGHTS SIGNALS.npz OUT.npz [ARGUMENTS]``; it imports nothing of this project.
    Both sides give arrays by ``SIGNAL/front_end`` and ``SIGNAL/OUTPUT``.

    Attributes:
        name: the row's title.
        weights: makes random weights in a folder, or fetches real ones: the path that both sides read.
        ours: weights, mode and signals to arrays.
        random: random weights with randomised batch-norm statistics, or real ones.
    """

    name: str
    original: str
    environment: Literal["torch", "tensorflow"]
    rate_hz: int
    weights: Callable[[Path], Path]
    ours: Callable[[Path, Mode, Mapping[str, np.ndarray]], Arrays]
    random: bool
    arguments: tuple[str, ...] = ()
    note: str = ""
