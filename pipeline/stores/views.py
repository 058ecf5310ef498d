"""Rows gathered from chunks that lie mapped in memory: what both formats' readers share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class ChunkViews:
    """Views of verified chunks by number; a chunk is loaded, and verified, on first touch.

    Args:
        n_chunks: chunks along the clip axis of the whole store.
        chunk_clips: clips of each.
        load: gives a chunk as an array [chunk_clips, frames, channels] that needs no copy.
    """

    def __init__(self, n_chunks: int, chunk_clips: int, load: Callable[[int], np.ndarray]) -> None:
        self._views: list[np.ndarray | None] = [None] * n_chunks
        self._chunk_clips, self._load = chunk_clips, load

    def gather(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy rows of the store to ``out``, [len(rows), frames, channels]."""
        chunk, inside = np.divmod(rows, self._chunk_clips)
        views = self._views
        for place, (number, row) in enumerate(zip(chunk.tolist(), inside.tolist(), strict=True)):
            view = views[number]
            if view is None:
                view = views[number] = self._load(number)
            out[place] = view[row]

    def forget(self, first: int, stop: int) -> None:
        """Let go of some chunks' memory."""
        for number in range(first, min(stop, len(self._views))):
            self._views[number] = None


def zeros(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that take the memory of one number."""
    return np.broadcast_to(np.zeros((), dtype), shape)
