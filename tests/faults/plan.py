"""What a seed stands for: which faults hit one run, at which moments. Nothing is run here."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

Format = Literal["zarr", "hdf5"]
Kind = Literal["driver", "worker", "all workers", "group", "terminated", "interrupted", "full disk", "size limit"]
Phase = Literal["start", "create", "clips", "end"]

FULL: tuple[Kind, ...] = ("full disk", "size limit")
#: Faults that only the workers feel: the command goes on by itself.
SURVIVED: tuple[Kind, ...] = ("worker", "all workers")
_KINDS: tuple[Kind, ...] = ("driver", "worker", "all workers", "group", "terminated", "interrupted")
_KIND_WEIGHTS = (6, 5, 2, 3, 1, 1)
_PHASES: tuple[Phase, ...] = ("start", "create", "clips", "end")
_PHASE_WEIGHTS = (3, 2, 11, 5)
_EVERY_FULL = 5


@dataclass(frozen=True)
class Moment:
    """When a fault hits.

    Attributes:
        phase: from the start of the command, once something of a new store is on the disk (else
            with the first clip), while clips are computed, once the last shard is in the journal.
        share: of the clips that were still to be computed; for ``clips``.
        delay_s: after that.
    """

    phase: Phase
    share: float
    delay_s: float


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        pick: in [0, 1): whatever else is to be chosen, such as which worker, or how many bytes are left.
        waits: whether the next command is given only when all processes of this one are gone.
        again: whether the command is given again while the disk is still full.
    """

    kind: Kind
    moment: Moment
    pick: float
    waits: bool
    again: bool


@dataclass(frozen=True)
class RunPlan:
    """One run: extraction of the table into ``format``, and what hits it."""

    seed: int
    format: Format
    faults: tuple[Fault, ...]


def plan_run(seed: int) -> RunPlan:
    """The plan of a seed: one to four faults; every fifth run has a full disk among them."""
    rng = Random(f"run {seed}")
    kinds = rng.choices(_KINDS, _KIND_WEIGHTS, k=rng.choice((1, 1, 2, 2, 3, 4)))
    if seed % _EVERY_FULL == _EVERY_FULL - 2:
        kinds[rng.randrange(len(kinds))] = FULL[seed // _EVERY_FULL % 2]
    faults = sorted((_fault(kind, rng) for kind in kinds), key=lambda fault: fault.moment.phase == "end")
    return RunPlan(seed, "hdf5" if seed % 2 else "zarr", tuple(faults))


def _fault(kind: Kind, rng: Random) -> Fault:
    phase = rng.choices(_PHASES, _PHASE_WEIGHTS)[0]
    if kind in SURVIVED and phase in ("start", "create"):
        phase = "clips"
    longest_s = {"start": 3.0, "create": 0.05, "clips": 0.2, "end": 0.5}[phase]
    delay_s = longest_s * rng.random() ** (2 if phase == "end" else 1)
    moment = Moment(phase, rng.random(), delay_s)
    return Fault(kind, moment, rng.random(), waits=rng.random() < 0.3, again=rng.random() < 0.3)
