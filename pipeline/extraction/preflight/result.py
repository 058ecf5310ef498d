"""What a check found, and what all of them found together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import PlanError

Status = Literal["passed", "failed", "warned", "skipped"]


@dataclass(frozen=True)
class Check:
    """One check of an extractor.

    ``measured`` is held to be at most ``limit``; both are None where there is nothing to measure.
    ``sentence`` says what was found and, of a failure, what is likely and what to do.
    """

    name: str
    status: Status
    measured: float | None
    limit: float | None
    sentence: str

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against the extractor: warnings and checks that do not apply pass."""
        return self.status != "failed"

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values; an infinite number is None, and the sentence tells."""
        finite = self.measured is not None and math.isfinite(self.measured)
        return {
            "name": self.name,
            "status": self.status,
            "measured": self.measured if finite else None,
            "limit": self.limit,
            "sentence": self.sentence,
        }


def judged(name: str, measured: float, limit: float, good: str, bad: str) -> Check:
    """Passed where ``measured`` is a number of at most ``limit``; NaN fails."""
    ok = measured <= limit
    return Check(name, "passed" if ok else "failed", measured, limit, good if ok else bad)


def skipped(name: str, why: str) -> Check:
    """A check that does not apply, or that cannot be judged."""
    return Check(name, "skipped", None, None, why)


@dataclass(frozen=True)
class Report:
    """All checks of one extractor in one mode on one device; ``elapsed_s`` is what they took."""

    extractor: str
    mode: str
    device: str
    checks: tuple[Check, ...]
    elapsed_s: float

    @property
    def passed(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed, in order."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def warned(self) -> tuple[Check, ...]:
        """The checks that warn, in order."""
        return tuple(check for check in self.checks if check.status == "warned")

    def require(self) -> None:
        """Raise where a check failed.

        Raises:
            PlanError: names the checks that failed.
        """
        if names := [check.name for check in self.failed]:
            raise PlanError(
                f"{self.extractor} fails {len(names)} of {len(self.checks)} checks: {', '.join(names)}. "
                "A store made from it would hold numbers that depend on more than its audio, or none."
            )

    def check(self, name: str) -> Check:
        """The check of that name.

        Raises:
            KeyError: there is none.
        """
        return {check.name: check for check in self.checks}[name]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "extractor": self.extractor,
            "mode": self.mode,
            "device": self.device,
            "passed": self.passed,
            "elapsed_s": round(self.elapsed_s, 2),
            "checks": [check.as_dict() for check in self.checks],
        }
