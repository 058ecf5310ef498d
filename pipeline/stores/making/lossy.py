"""What a smaller type or fewer bits cost: measured over every value before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.errors import SettingError, StoreError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted
from pipeline.stores.reader import StoreReader
from pipeline.stores.schema import Dtype

_BLOCK_BYTES = 1 << 25
_MANTISSA_BITS = {"float16": 10, "float32": 23}
Keep = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class CastError:
    """Largest difference, the same relative to the largest magnitude, and the smallest cosine similarity of a frame.

    Frames that are zero before and after count as equal.
    """

    absolute: float = 0.0
    relative: float = 0.0
    cosine: float = 1.0

    def text(self) -> str:
        """For people."""
        if not self.absolute:
            return "Values are equal to the bit."
        return (
            f"Largest error {self.absolute:.3g}, {self.relative:.2e} of the largest magnitude; smallest cosine "
            f"similarity of a frame 1 - {1 - self.cosine:.2g}; the store records it."
        )


def require_bits(bits: int, dtype: Dtype) -> None:
    """Refuse bits that the type does not have, or has anyway.

    Raises:
        SettingError: says which there are.
    """
    if not 0 < bits < _MANTISSA_BITS[dtype]:
        raise SettingError(
            f"--codec bitround:{bits}: {dtype} keeps 1 to {_MANTISSA_BITS[dtype] - 1} bits of its mantissa."
        )


def round_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Keep so many bits of the mantissa, rounded to the nearest, ties to even; the rest become zero.

    A value that would round to infinity is cut instead.

    Source: Klöwer et al. 2021, "Compressing atmospheric data into its real information content".

    >>> round_bits(np.array([1.0, 1.26, 3.1], np.float32), 1).tolist()
    [1.0, 1.5, 3.0]
    """
    whole = np.dtype(f"<u{values.dtype.itemsize}")
    drop = _MANTISSA_BITS[values.dtype.name] - bits
    raw = np.ascontiguousarray(values).view(whole)
    mask = whole.type((1 << 8 * whole.itemsize) - (1 << drop))
    half = whole.type((1 << (drop - 1)) - 1)
    rounded = ((raw + half + ((raw >> whole.type(drop)) & whole.type(1))) & mask).view(values.dtype)
    return np.asarray(np.where(np.isfinite(rounded), rounded, (raw & mask).view(values.dtype)))


def keeping(dtype: Dtype, bits: int) -> Keep:
    """What a store of that type, with so many bits (0: all), keeps of features; in that type."""
    limit = float(np.finfo(dtype).max)

    def keep(features: np.ndarray) -> np.ndarray:
        kept = np.clip(features, -limit, limit).astype(dtype)
        return round_bits(kept, bits) if bits else kept

    return keep


def measure(reader: StoreReader, keep: Keep, listener: Listener) -> CastError:
    """Read everything once and compare it with what is kept of it.

    Raises:
        StoreError: a value beyond the type that is kept; the clip is named, and nothing is written.
    """
    absolute, largest, cosine = 0.0, 0.0, 1.0
    step = max(1, _BLOCK_BYTES // (reader.meta.frames * reader.meta.channels * 8))
    listener(TaskStarted("measure the error", len(reader), "clips"))
    for first in range(0, len(reader), step):
        rows = np.arange(first, min(first + step, len(reader)))
        features = reader.read(rows)
        stored = keep(features)
        _require_held(reader, rows, features, stored.dtype)
        kept, exact = stored.astype(np.float64), features.astype(np.float64)
        absolute = max(absolute, float(np.abs(kept - exact).max(initial=0.0)))
        largest = max(largest, float(np.abs(exact).max(initial=0.0)))
        cosine = min(cosine, _smallest_cosine(exact, kept))
        listener(TaskAdvanced("measure the error", len(rows)))
    listener(TaskFinished("measure the error"))
    return CastError(absolute, absolute / largest if largest else 0.0, cosine)


def _require_held(reader: StoreReader, rows: np.ndarray, features: np.ndarray, kind: np.dtype) -> None:
    limit = float(np.finfo(kind).max)
    largest = np.abs(features).max(axis=(1, 2), initial=0.0)
    if not (largest <= limit).all():
        place = int(np.argmin(largest <= limit))
        raise StoreError(
            f"{reader.path}: clip {str(reader.clip_id[rows[place]])!r} has a feature of magnitude {largest[place]:g}, "
            f"which {kind.name} (up to {limit:g}) cannot hold. Keep --dtype float32; nothing was written."
        )


def _smallest_cosine(left: np.ndarray, right: np.ndarray) -> float:
    """Over frames that are not zero on either side; 0 where a frame was lost altogether."""
    lengths = np.linalg.norm(left, axis=2) * np.linalg.norm(right, axis=2)
    lost = left.any(axis=2) & (lengths == 0)
    cosines = np.divide((left * right).sum(axis=2), lengths, out=np.ones_like(lengths), where=lengths > 0)
    return float(np.where(lost, 0.0, np.minimum(cosines, 1.0)).min(initial=1.0))
