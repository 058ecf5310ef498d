"""What the use case of stage one takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.audio.extractor import Mode
from pipeline.errors import ClipsFailedError
from pipeline.layout import Format
from pipeline.stores.schema import Dtype

_SHOWN = 20
Removed = Literal["keep", "drop"]


@dataclass(frozen=True)
class ExtractSettings:
    """What to extract and how.

    ``requests`` are ``NAME`` or ``NAME/OUTPUT+OUTPUT`` (``musicnn``, ``panns/clip``, ``mel-small``); one whose
    name ends in ``:view=K`` is of view K of each clip (``mel-small:view=1``, ``musicnn:view=1/pools``).
    Teachers hear views of training clips with known labels alone.  ``weights`` is a local file (or folder)
    for the one teacher asked for.  Without ``preflight``, teachers of new stores are not checked first, and
    the stores say so.  ``reuse`` are stores (paths, URLs, or folders of them) whose features are copied
    where samples and fingerprint are the same.  ``removed`` says what becomes of clips of a store that are
    not in the clip table.
    """

    requests: tuple[str, ...]
    format: Format = "zarr"
    dtype: Dtype = "float16"
    mode: Mode = "fast"
    n_workers: int | None = None
    device: str = "auto"
    scheduler: str | None = None
    weights: Path | None = None
    batch_clips: int | None = None
    retry_failed: bool = False
    dry_run: bool = False
    preflight: bool = True
    reuse: tuple[str, ...] = ()
    removed: Removed = "keep"


@dataclass(frozen=True)
class ExtractReport:
    """What came of it; counts are of clips in the finished stores, times are seconds.

    A clip counts as done where it is done in all stores, as failed where it failed in any; ``failed_in`` is
    the first store with failures.  ``n_absent`` are clips of the stores that left the clip table before they were made.
    """

    stores: tuple[Path, ...]
    plan: str
    n_clips: int
    n_done: int
    n_failed: int
    n_short: int
    failures: tuple[tuple[str, str], ...] = ()
    audio_s: float = 0.0
    elapsed_s: float = 0.0
    peak_bytes: int = 0
    dry_run: bool = False
    n_copied: int = 0
    n_dropped: int = 0
    n_absent: int = 0
    failed_in: Path | None = None

    def text(self) -> str:
        """A few lines for people."""
        if self.dry_run:
            return f"Plan: {self.plan}."
        lines = [f"{self.n_done:,} clips done, {self.n_failed:,} failed, {self.n_short:,} short but kept."]
        if self.n_copied:
            lines.append(f"{self.n_copied:,} clips were copied, not computed (counted once per store).")
        if self.n_absent:
            lines.append(
                f"{self.n_absent:,} clips left the table before they were made. They are made once they are back; "
                "--removed drop forgets them."
            )
        if self.n_dropped:
            lines.append(f"{self.n_dropped:,} clips that left the table were dropped (counted once per store).")
        if self.audio_s:
            speed = self.audio_s / max(self.elapsed_s, 1e-9)
            lines.append(
                f"{self.audio_s / 3600:.2f} h of audio in {self.elapsed_s:.0f} s: {speed:,.0f} x real time; "
                f"a worker took at most {self.peak_bytes / 1e9:.2f} GB."
            )
        lines += [f"failed: {clip_id!r}: {reason}" for clip_id, reason in self.failures[:_SHOWN]]
        if len(self.failures) > _SHOWN:
            place = self.failed_in or self.stores[0]
            lines.append(f"... and {len(self.failures) - _SHOWN} more: east store info {place} --failures")
        lines += [f"store: {path}" for path in self.stores]
        return "\n".join(lines)

    def require(self, allow_failures: int) -> None:
        """Raise when more clips failed than are allowed.

        Raises:
            ClipsFailedError: exit status 1; the stores are complete all the same.
        """
        if self.n_failed > allow_failures:
            raise ClipsFailedError(
                f"{self.n_failed} of {self.n_clips} clips failed; the others are done and the stores are usable. "
                f"Mend the files and add --retry-failed, or accept them with --allow-failures {self.n_failed}."
            )
