"""What became of an experiment: runs that were made, that were there, and that failed."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import TrainingError

TAIL_LINES = 15


@dataclass(frozen=True)
class Failure:
    """A cell that gave no run: its exit code and the end of what it printed."""

    label: str
    exit_code: int
    tail: str


@dataclass(frozen=True)
class Outcome:
    """What became of an experiment: labels of cells."""

    data: str
    made: tuple[str, ...]
    skipped: tuple[str, ...]
    failures: tuple[Failure, ...]
    seconds: float
    left: tuple[str, ...] = ()

    def text(self) -> str:
        """For people: commands that are left, or what was done, with the next step."""
        if self.left:
            return "\n".join(self.left)
        parts = f"{len(self.made)} runs made in {self.seconds:,.0f} s, {len(self.skipped)} were complete"
        more = f", {len(self.failures)} failed" if self.failures else ""
        return f"{parts}{more}. Look at them with: east report --data {self.data}"

    def require(self) -> None:
        """Refuse to end well where a cell failed.

        Raises:
            TrainingError: naming each, with the end of its output.
        """
        if self.failures:
            parts = [f"{f.label} (exit status {f.exit_code}):\n{_indented(f.tail)}" for f in self.failures]
            raise TrainingError(f"{len(self.failures)} runs failed.\n" + "\n".join(parts))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
