"""Rows gathered out of several stores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.stores.making.deriving import Read
from pipeline.stores.reader import ClipArrays, StoreReader
from pipeline.stores.schema import CLIP_ARRAYS


def gather_arrays(readers: Sequence[StoreReader], source: np.ndarray, row: np.ndarray) -> ClipArrays:
    """The small arrays of a store whose clip ``k`` is row ``row[k]`` of ``readers[source[k]]``.

    Shape:
        source, row: [clips] int64
    """
    starts = np.cumsum([0, *(len(reader) for reader in readers)])[:-1]
    at = starts[source] + row
    made = {name: np.concatenate([getattr(reader.arrays, name) for reader in readers])[at] for name in CLIP_ARRAYS}
    return ClipArrays(**made)


def gather_features(readers: Sequence[StoreReader], source: np.ndarray, row: np.ndarray) -> Read:
    """A function from rows of the new store to their features, each source read at once."""

    def read(rows: np.ndarray) -> np.ndarray:
        _, frames, channels = readers[0].shape
        out = np.empty((len(rows), frames, channels), readers[0].dtype)
        for number in np.unique(source[rows]).tolist():
            here = np.flatnonzero(source[rows] == number)
            out[here] = readers[number].read(row[rows][here])
        return out

    return read
