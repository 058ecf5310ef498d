"""What a check of a store found: frozen, for people and for scripts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipeline.errors import StoreError

Status = Literal["ok", "damaged", "not checked"]
_SHOWN = 20


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        check: which check found it.
        file: the file inside the store; in HDF5 the array, or ``""`` for the file as a whole.
        text: what is wrong, in words.
        clips: ids of the clips behind it: those that a reader cannot have, or must not trust.
        lost: those of them whose own digest no longer fits; the others of a damaged chunk are whole.
    """

    check: str
    file: str
    text: str
    clips: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True)
class Check:
    """One check: what was looked at, and what came of it."""

    name: str
    status: Status
    text: str


@dataclass(frozen=True)
class VerifyReport:
    """All checks of one store. Counts are clips; ``n_bytes`` were read in ``elapsed_s`` seconds.

    ``repairs`` says what a repair did, ``after`` how the store stands after it.
    """

    path: str
    format: str
    complete: bool
    n_done: int = 0
    n_failed: int = 0
    n_pending: int = 0
    checks: tuple[Check, ...] = ()
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    repairs: tuple[str, ...] = ()
    after: str = ""
    n_bytes: int = 0
    elapsed_s: float = 0.0

    @property
    def clips(self) -> tuple[str, ...]:
        """Ids of all clips behind some finding, in the order they were found."""
        return tuple(dict.fromkeys(clip for finding in self.findings for clip in finding.clips))

    def verdict(self) -> str:
        """One sentence: finished or not, and how many findings."""
        counts = f"{self.n_done:,} clips done, {self.n_failed:,} failed, {self.n_pending:,} pending"
        state = "finished" if self.complete else "unfinished"
        if not self.findings:
            return f"{self.path} is {state}: {counts}; everything else is fine." if not self.complete else (
                f"{self.path} is {state} and fine: {counts}."
            )  # fmt: skip
        n = len(self.findings)
        return f"{self.path} is DAMAGED ({state}: {counts}): {n:,} finding{'s' if n > 1 else ''}."

    def text(self) -> str:
        """Lines for people; long lists of clips are cut after 20."""
        width = max((len(check.name) for check in self.checks), default=0)
        lines = [f"{check.name:<{width}}  {check.status:<11}  {check.text}" for check in self.checks]
        for finding in self.findings:
            lines.append(f"! {finding.file or self.path}: {finding.text}")
            lines += [f"    {line}" for line in _clip_lines(finding)]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"repair: {repair}" for repair in self.repairs]
        if self.elapsed_s:
            rate = self.n_bytes / 1e6 / self.elapsed_s
            lines.append(f"{self.n_bytes / 1e6:,.1f} MB in {self.elapsed_s:,.2f} s: {rate:,.0f} MB/s.")
        lines.append(self.verdict())
        if self.after:
            lines.append(f"After the repair: {self.after}")
        return "\n".join(lines)

    def as_json(self) -> str:
        """Everything, with all clips."""
        value: dict[str, Any] = dataclasses.asdict(self) | {"clean": not self.findings, "clips": list(self.clips)}
        return json.dumps(value, indent=2, ensure_ascii=False)

    def require(self) -> None:
        """Raise when there are findings.

        Raises:
            StoreError: exit status 1; says what can be done.
        """
        if not self.findings:
            return
        if self.repairs:
            raise StoreError(f"{len(self.findings)} findings before the repair. {self.after}")
        n = f"{len(self.findings):,} finding{'s' if len(self.findings) > 1 else ''} in {self.path}."
        if not self.clips:
            raise StoreError(
                f"{n} east store info says what it is. Fetch it again from where it came, or extract it again."
            )
        raise StoreError(
            f"{n} east store verify --repair marks the damaged clips so that east extract makes them again; or fetch "
            "the store again from where it came."
        )


def _clip_lines(finding: Finding) -> list[str]:
    if not finding.clips:
        return []
    lost = set(finding.lost)
    lines = [f"{clip}{'' if clip in lost else ' (its own bytes are whole)'}" for clip in finding.clips[:_SHOWN]]
    more = len(finding.clips) - _SHOWN
    return [*lines, f"... and {more:,} more: --json lists all"] if more > 0 else lines


@dataclass(eq=False)
class Log:
    """Collects what the checks say."""

    checks: list[Check] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    n_bytes: int = 0

    def find(
        self, check: str, file: str, text: str, clips: Sequence[str] = (), lost: Sequence[str] | None = None
    ) -> None:
        """Add a finding; ``lost`` are all clips unless given."""
        self.findings.append(Finding(check, file, text, tuple(clips), tuple(clips if lost is None else lost)))

    def close(self, name: str, text: str) -> None:
        """End a check: damaged if it found something."""
        bad = any(finding.check == name for finding in self.findings)
        self.checks.append(Check(name, "damaged" if bad else "ok", text))

    def skip(self, name: str, why: str) -> None:
        """A check that was not done, and why."""
        self.checks.append(Check(name, "not checked", why))
