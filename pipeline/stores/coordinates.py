"""Named coordinates: what gives clips and frames names in xarray, with no code of ours.

Both are optional in the format: stores of earlier releases have neither, and no reader needs them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from pipeline.stores.schema import DAMAGE, StoreMeta

TIME = "time"
#: Attributes of ``features`` after the CF conventions; xarray makes coordinates of what they name.
FEATURES_ATTRIBUTES: dict[str, Any] = {"coordinates": f"clip_id {TIME}"}
TIME_ATTRIBUTES: dict[str, Any] = {"long_name": "start of the frame within its clip", "units": "s"}
TIME_CHUNK = 1 << 16


def frame_times(meta: StoreMeta, first: int = 0, stop: int | None = None) -> np.ndarray:
    """Where frames begin within their clip, in seconds: [frames] float64."""
    return meta.offset_s + meta.hop_s * np.arange(first, meta.frames if stop is None else stop, dtype=np.float64)


def check_times(shape: tuple[int, ...], read: Callable[[slice], np.ndarray], meta: StoreMeta) -> Iterator[str]:
    """What is wrong with the stored times of frames, in words; nothing where they are right.

    Args:
        read: gives rows of the array; raises one of ``DAMAGE`` where they cannot be read.
    """
    if shape != (meta.frames,):
        yield f"it has shape {shape}, the store has {meta.frames} frames"
        return
    for first in range(0, meta.frames, TIME_CHUNK):
        stop = min(first + TIME_CHUNK, meta.frames)
        try:
            found = read(slice(first, stop))
        except DAMAGE as error:
            yield f"frames {first} to {stop - 1} cannot be read: {' '.join(str(error).split())[:200]}"
            continue
        if not np.array_equal(found, frame_times(meta, first, stop)):
            yield f"frames {first} to {stop - 1} do not begin where offset_s and hop_s say"
