"""What long work reports: frozen events, and a listener that is passed, never global.

Logic emits; edges render.  Progress bars, log lines, CSV histories and benchmarks read the same
events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class TaskStarted:
    """A countable piece of work begins; ``total`` is None where it is not known."""

    task: str
    total: float | None
    unit: str


@dataclass(frozen=True)
class TaskAdvanced:
    """``amount`` more units are done; ``detail`` is a few words to show beside the bar.

    Those that were ``found`` done, by an earlier command, say nothing of the rate.
    An amount of 0 is worth a line at once: the first unit will be long in coming.
    """

    task: str
    amount: float
    detail: str = ""
    found: bool = False


@dataclass(frozen=True)
class TaskFinished:
    """The piece of work ended, well or not."""

    task: str


@dataclass(frozen=True)
class Note:
    """A sentence for the user."""

    text: str


@dataclass(frozen=True)
class Warned:
    """A sentence the user should not miss."""

    text: str


@dataclass(frozen=True)
class ShardDone:
    """One shard of a store was written and journalled."""

    store: str
    shard: int
    n_done: int
    n_failed: int
    audio_s: float


@dataclass(frozen=True)
class ClipFailed:
    """A clip gave no features; the reason is in words."""

    clip_id: str
    kind: str
    reason: str


@dataclass(frozen=True)
class ClipShort:
    """A clip whose file ended early: what was there is kept and counted."""

    clip_id: str
    reason: str


@dataclass(frozen=True)
class EpochDone:
    """One pass of training ended; ``values`` holds what the history file gets."""

    run: str
    epoch: int
    step: int
    values: dict[str, float]


Event = TaskStarted | TaskAdvanced | TaskFinished | Note | Warned | ShardDone | ClipFailed | ClipShort | EpochDone
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener of those who do not listen."""
