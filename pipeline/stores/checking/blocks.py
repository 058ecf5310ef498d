"""Checks of clips' features against what the store says of them: digests, zero rows, finite values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pipeline.stores.digests import digest_clips
from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import State

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

    @cached_property
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
    arrays, here = facts.arrays, slice(first, first + n)
    todo = facts.finished[here] & facts.usable[here]
    if not todo.any():
        return flags
    if not _all_finite(features):
        odd = [not _all_finite(features[row]) for row in range(n)]
        flags[todo & np.array(odd, bool)] |= NOT_FINITE
    flags[todo & _spills(features[:n], arrays.n_frames[here])] |= SPILLS
    found = digest_clips(
        arrays.clip_id[here].tolist(), arrays.state[here], arrays.failure[here].tolist(), arrays.n_frames[here],
        features[:n],
    )  # fmt: skip
    flags[todo & (found != arrays.clip_digest[here]).any(axis=1)] |= OTHER
    return flags


def _spills(features: np.ndarray, n_frames: np.ndarray) -> np.ndarray:
    """[clips] bool: something is beyond the valid frames."""
    found = np.zeros(len(features), bool)
    for row in np.flatnonzero(n_frames < features.shape[1]).tolist():
        found[row] = features[row, n_frames[row] :].any()
    return found


def _all_finite(features: np.ndarray) -> bool:
    """No exponent of all ones; faster than ``isfinite`` for float16."""
    kind, exponent = _EXPONENT[features.dtype.itemsize]
    bits = np.ascontiguousarray(features).view(kind)
    return bool(bits.size == 0 or (bits & kind(exponent)).max() != exponent)
