"""Checks of clips' features against what the store says of them: digests, zero rows, finite values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import State, digest_clip

#: Flags of a clip.
OTHER, SPILLS, NOT_FINITE = 1, 2, 4
_EXPONENT = {2: (np.uint16, 0x7C00), 4: (np.uint32, 0x7F800000)}


@dataclass(frozen=True, eq=False)
class Facts:
    """What the store says of its clips, and of which of them that is readable.

    Shape:
        usable: [clips] bool; false where an id, a state, a reason, a count or a digest is damaged.
    """

    arrays: ClipArrays
    usable: np.ndarray

    def __len__(self) -> int:
        return len(self.arrays.clip_id)

    @property
    def finished(self) -> np.ndarray:
        """[clips] bool: done or failed; what is pending is not looked at."""
        found: np.ndarray = self.arrays.state != State.PENDING
        return found

    def ids(self, rows: np.ndarray) -> list[str]:
        """Ids of rows."""
        return [str(clip) for clip in self.arrays.clip_id[rows].tolist()]


def check_block(features: np.ndarray, first: int, facts: Facts) -> np.ndarray:
    """Flags of the clips whose features these are: 0 where all is right, or not finished.

    Shape:
        features: [clips, frames, channels] in the stored type; returns [clips] uint8

    Args:
        first: row of the first of them; rows beyond the end of the store are ignored.
    """
    n = max(0, min(len(features), len(facts) - first))
    flags = np.zeros(n, np.uint8)
    arrays, todo = facts.arrays, (facts.finished & facts.usable)[first : first + n]
    if not _all_finite(features):
        odd = [not _all_finite(features[row]) for row in range(n)]
        flags[todo & np.array(odd, bool)] |= NOT_FINITE
    for row in np.flatnonzero(todo).tolist():
        place = first + row
        frames = int(arrays.n_frames[place])
        if frames < features.shape[1] and features[row, frames:].any():
            flags[row] |= SPILLS
        found = digest_clip(
            arrays.clip_id[place], int(arrays.state[place]), arrays.failure[place], frames, features[row]
        )
        if found != arrays.clip_digest[place].tobytes():
            flags[row] |= OTHER
    return flags


def _all_finite(features: np.ndarray) -> bool:
    """No exponent of all ones; faster than ``isfinite`` for float16."""
    kind, exponent = _EXPONENT[features.dtype.itemsize]
    bits = np.ascontiguousarray(features).view(kind)
    return bool(bits.size == 0 or (bits & kind(exponent)).max() != exponent)
