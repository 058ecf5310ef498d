"""Frames of a store pooled over time: one frame per clip, or a coarser hop."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.errors import SettingError, StoreError
from pipeline.events import Listener, ignore
from pipeline.stores.making.deriving import Derivation, Read, descent, require_finished, write_derived
from pipeline.stores.making.outputs import require_output
from pipeline.stores.making.pooling import Pooling, pool_canaries, pool_frames
from pipeline.stores.opening import open_store
from pipeline.stores.reader import StoreReader
from pipeline.stores.schema import MAX_CLIP_BYTES, Dtype, StoreMeta, choose_sizes, with_fingerprint

_READ_BYTES = 1 << 25
_HOP_TOLERANCE = 1e-6


def pool_store(
    path: str, out: Path, *, how: str, hop_s: float = 0.0, dtype: Dtype | None = None, listener: Listener = ignore
) -> StoreMeta:
    """Write a store of pooled frames, as output ``OUTPUT-HOW`` (``OUTPUT-HOW-HOPs`` with a hop).

    Args:
        how: statistics over the valid frames, joined by ``-``.
        hop_s: seconds, a multiple of the store's hop; 0 makes one frame of a clip.
        dtype: stored type, the source's where it is None; sums are taken in float64.

    Raises:
        SettingError: an unknown statistic, a hop that is no multiple of the store's.
        StoreError: an unfinished source, one that has one frame per clip already, a value beyond the type.
    """
    require_output(out, [path])
    with open_store(path) as reader:
        require_finished(reader)
        pooling = Pooling(how, group_of(reader.meta, hop_s))
        meta = with_fingerprint(_meta(reader, pooling, dtype or reader.meta.dtype))
        arrays = dataclasses.replace(reader.arrays, n_frames=pooling.n_frames(reader.n_frames).astype(np.int32))
        canaries = pool_canaries(reader.canaries(), pooling)
        return write_derived(out, Derivation(meta, arrays, _reading(reader, pooling), canaries), listener)


def group_of(meta: StoreMeta, hop_s: float) -> int:
    """Frames that make one of the wanted hop; 0 for all.

    Raises:
        SettingError: the hop is no multiple, two or more, of the store's.
        StoreError: the store has one frame per clip.
    """
    if meta.frames == 1 or not meta.hop_s:
        raise StoreError(f"{meta.name} has one frame per clip already: there is nothing to pool.")
    group = round(hop_s / meta.hop_s)
    if hop_s and (group < 2 or abs(group * meta.hop_s - hop_s) > _HOP_TOLERANCE * hop_s):
        near = max(2, group)
        raise SettingError(
            f"--hop {hop_s:g} is not two or more times the hop of {meta.name}, {meta.hop_s:g} s: the nearest is "
            f"{near * meta.hop_s:g} s. Without --hop, a clip becomes one frame."
        )
    return group


def _meta(reader: StoreReader, pooling: Pooling, dtype: Dtype) -> StoreMeta:
    old, group = reader.meta, pooling.group or reader.meta.frames
    frames, channels = pooling.frames(old.frames), old.channels * len(pooling.statistics)
    if frames * channels * 4 > MAX_CLIP_BYTES:
        raise SettingError(f"One pooled clip of {frames} x {channels} would be beyond 4 GiB: take a larger --hop.")
    hop_s = pooling.group * old.hop_s
    output = f"{old.output}-{pooling.how}" + (f"-{hop_s:g}s" if hop_s else "")
    chunk, shard = choose_sizes(len(reader), frames * channels * np.dtype(dtype).itemsize)
    settings = {"how": pooling.how, "frames_per_group": pooling.group}
    return dataclasses.replace(
        old, output=output, card=_card(old, pooling), hop_s=hop_s, window_s=old.window_s + (group - 1) * old.hop_s,
        frames=frames, channels=channels, dtype=dtype, chunk_clips=chunk, shard_clips=shard, uuid=str(uuid.uuid4()),
        derived=descent("pool", reader, **settings),
    )  # fmt: skip


def _card(meta: StoreMeta, pooling: Pooling) -> dict[str, object]:
    """The extractor's card; its parameters tell how it was pooled, and from what, and so does the fingerprint."""
    parameters = dict(meta.card.get("parameters", {})) | {
        "pool": pooling.how, "pool_frames": pooling.group, "pool_output": meta.output, "pool_source": meta.fingerprint,
    }  # fmt: skip
    return dict(meta.card) | {"parameters": parameters}


def pooling_of(meta: StoreMeta) -> tuple[Pooling, str] | None:
    """How the features of a store were pooled and from which output; None where they were not.

    Raises:
        StoreError: the card says nonsense.
    """
    found = meta.card.get("parameters", {})
    if not isinstance(found, Mapping) or "pool" not in found:
        return None
    how, group, output = (found.get(name) for name in ("pool", "pool_frames", "pool_output"))
    if not isinstance(how, str) or not isinstance(output, str) or type(group) is not int or group < 0:
        raise StoreError(f"{meta.name}: its card says that it was pooled, but not how: damaged or forged.")
    return Pooling(how, group), output


def _reading(reader: StoreReader, pooling: Pooling) -> Read:
    """Pooled features of rows; the source is read in pieces, since a shard of it may be large."""
    step = max(1, _READ_BYTES // (reader.meta.frames * reader.meta.channels * 8))

    def read(rows: np.ndarray) -> np.ndarray:
        parts = []
        for first in range(0, len(rows), step):
            piece = rows[first : first + step]
            parts.append(pool_frames(reader.read(piece), reader.n_frames[piece], pooling).astype(np.float32))
        return np.concatenate(parts)

    return read
