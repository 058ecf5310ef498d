"""What travels between driver and tasks: small, frozen, picklable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import registry

if TYPE_CHECKING:  # kept light: processes that only decode import this module, too
    import numpy as np

    from pipeline.audio.extractor import Mode
    from pipeline.stores import ShardTarget
    from pipeline.stores.journal import ShardRecord


@dataclass(frozen=True)
class ExtractorSpec:
    """How a worker builds an extractor: by name, since cards and builders are code.

    ``weights`` are verified local files, in the order of the card.  A ``name`` that ends in ``:view=K``
    is of the same network, which then hears view K of each clip.
    """

    name: str
    outputs: tuple[str, ...]
    mode: Mode
    weights: tuple[Path, ...] = ()
    batch_clips: int = 8

    @property
    def view(self) -> int:
        """The view of each clip that the network hears; 0 for the clip as it is."""
        return registry.split_view(self.name)[1]

    def clean(self) -> ExtractorSpec:
        """The same network, hearing the clips as they are."""
        return replace(self, name=registry.split_view(self.name)[0])


@dataclass(frozen=True, slots=True)
class ClipJob:
    """One clip: where it is and which part of it. Times in seconds."""

    clip_id: str
    path: str
    start_s: float
    duration_s: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where a clip's features lie: the number of a source (-1: the store itself), and the row there."""

    source: int
    row: int


@dataclass(frozen=True, eq=False)
class Copied:
    """Clips of a shard whose features are there already, and what the store is to say of them.

    Shape:
        rows: [clips] positions in the shard; features: [clips, frames, channels]; n_frames, state:
        [clips]; failure: [clips] texts; file_digest, samples_digest: [clips, 32] uint8
    """

    rows: np.ndarray
    features: np.ndarray
    n_frames: np.ndarray
    state: np.ndarray
    failure: tuple[str, ...]
    file_digest: np.ndarray
    samples_digest: np.ndarray


@dataclass(frozen=True)
class OutputJob:
    """One store to fill in a shard: which extractor, which of its outputs, where to.

    ``planned`` are the positions of the clips that are to be copied, ``copied`` what was found of
    them: what is planned and could not be copied is computed like the others.
    """

    spec: ExtractorSpec
    output: str
    target: ShardTarget
    planned: frozenset[int] = frozenset()
    copied: Copied | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ShardJob:
    """The unit of work: one decode pass over a shard's clips that fills several stores.

    ``dead`` maps positions in ``clips`` to why they are not to be touched: they killed a worker.
    """

    shard: int
    clips: tuple[ClipJob, ...]
    outputs: tuple[OutputJob, ...]
    clip_s: float
    device: str = "cpu"
    threads: int = 1
    dead: Mapping[int, str] = field(default_factory=dict)

    def computed_rows(self) -> list[int]:
        """Positions of the clips that some output has to be computed for."""
        everywhere = frozenset.intersection(*(output.planned for output in self.outputs))
        return [row for row in range(len(self.clips)) if row not in everywhere]

    @property
    def key(self) -> str:
        """Name for logs and for the scheduler."""
        return f"shard-{self.shard}-{len(self.dead)}"


@dataclass(frozen=True)
class ClipTrouble:
    """A clip that failed, or that is kept but short (``kind`` is then ``short``)."""

    clip_id: str
    kind: str
    reason: str


@dataclass(frozen=True, eq=False)
class ShardResult:
    """What a task reports: by store, its record; seconds of audio, decoding, networks; peak bytes.

    ``n_clips`` and ``audio_s`` are of clips that were decoded.  ``computed`` are the positions of those
    that could be, with the digests [clips, 32] of their files and samples.
    """

    shard: int
    records: tuple[tuple[str, ShardRecord], ...]
    troubles: tuple[ClipTrouble, ...]
    n_clips: int
    audio_s: float
    decode_s: float
    network_s: float
    peak_bytes: int
    computed: tuple[int, ...] = ()
    file_digest: np.ndarray | None = None
    samples_digest: np.ndarray | None = None
