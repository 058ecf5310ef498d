"""The same store in another format, type or chunking."""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import SettingError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, ignore
from pipeline.stores.making.deriving import Derivation, descent, require_finished, write_derived
from pipeline.stores.making.outputs import require_output
from pipeline.stores.opening import open_store
from pipeline.stores.reader import StoreReader
from pipeline.stores.schema import Dtype, StoreMeta, with_fingerprint


@dataclass(frozen=True)
class CastError:
    """What a smaller type costs: largest difference, the same relative to the largest magnitude."""

    absolute: float = 0.0
    relative: float = 0.0

    def text(self) -> str:
        """For people."""
        if not self.absolute:
            return "Values are equal to the bit."
        return f"Largest error {self.absolute:.3g}, {self.relative:.2e} of the largest magnitude; the store records it."


def convert_store(
    path: str,
    out: Path,
    *,
    dtype: Dtype | None = None,
    chunk_clips: int | None = None,
    shard_clips: int | None = None,
    listener: Listener = ignore,
) -> tuple[StoreMeta, CastError]:
    """Write a store anew; values are equal to the bit unless the type becomes smaller.

    Raises:
        SettingError: shards that hold no whole number of chunks.
        StoreError: an unfinished source, a value beyond float16 (the clip is named).
    """
    require_output(out, [path])
    with open_store(path) as reader:
        require_finished(reader)
        meta = reader.meta
        chunk, shard = chunk_clips or meta.chunk_clips, shard_clips or meta.shard_clips
        shard = shard if shard_clips else max(shard, chunk)
        if shard % chunk:
            raise SettingError(f"Shards of {shard} clips hold no whole number of chunks of {chunk}: choose a multiple.")
        kind = dtype or meta.dtype
        error = measure_cast(reader, kind, listener)
        settings = {"dtype": kind, "error": dataclasses.asdict(error)} if kind != meta.dtype else {}
        new = dataclasses.replace(
            meta, dtype=kind, chunk_clips=chunk, shard_clips=shard, uuid=str(uuid.uuid4()),
            derived=descent("convert", reader, **settings),
        )  # fmt: skip
        found = write_derived(
            out, Derivation(with_fingerprint(new), reader.arrays, reader.read, reader.canaries()), listener
        )
        return found, error


def measure_cast(reader: StoreReader, dtype: Dtype, listener: Listener) -> CastError:
    """Read everything once and compare it with what the type keeps of it; nothing to do for a larger one."""
    if np.dtype(dtype).itemsize >= reader.dtype.itemsize:
        return CastError()
    absolute = largest = 0.0
    listener(TaskStarted("measure the error", len(reader), "clips"))
    limit = float(np.finfo(dtype).max)
    for rows in reader.blocks():
        features = reader.read(rows).astype(np.float64)
        kept = np.clip(features, -limit, limit).astype(dtype).astype(np.float64)
        absolute = max(absolute, float(np.abs(kept - features).max(initial=0.0)))
        largest = max(largest, float(np.abs(features).max(initial=0.0)))
        listener(TaskAdvanced("measure the error", len(rows)))
    listener(TaskFinished("measure the error"))
    return CastError(absolute, absolute / largest if largest else 0.0)
