"""One store out of several that hold different clips of the same extractor."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from pipeline.errors import SettingError, StoreError
from pipeline.events import Listener, Warned, ignore
from pipeline.stores.making.deriving import Derivation, descent, require_finished, write_derived
from pipeline.stores.making.outputs import named, require_output
from pipeline.stores.making.rows import gather_arrays, gather_features
from pipeline.stores.opening import open_store
from pipeline.stores.reader import StoreReader
from pipeline.stores.schema import StoreMeta, choose_sizes, require_same


def merge_stores(out: Path, paths: Sequence[str], *, same: bool = False, listener: Listener = ignore) -> StoreMeta:
    """Write the clips of all stores into one; the content digest is that of one extraction over all.

    Args:
        same: accept clips that are in several stores, where they are equal to the bit.

    Raises:
        StoreError: other settings, unfinished sources, clips in several stores, canaries that differ.
    """
    if len(paths) < 2:
        raise SettingError("merge takes two stores or more: east store merge OUT A B [C ...]")
    require_output(out, paths)
    with ExitStack() as stack:
        readers = [stack.enter_context(open_store(path)) for path in paths]
        for reader in readers:
            require_finished(reader)
            require_same(reader.meta, readers[0].meta, reader.path)
        canaries = _agreeing_canaries(readers, listener)
        source, row = _distinct(readers, same)
        first = readers[0].meta
        chunk_clips, shard_clips = choose_sizes(len(row), first.clip_bytes)
        meta = dataclasses.replace(
            first, chunk_clips=chunk_clips, shard_clips=shard_clips, manifest_digest="",
            derived=descent("merge", *readers, duplicates="same" if same else "refused"),
            uuid=str(uuid.uuid4()),
        )  # fmt: skip
        arrays = gather_arrays(readers, source, row)
        read = gather_features(readers, source, row)
        return write_derived(out, Derivation(meta, arrays, read, canaries), listener)


def _distinct(readers: Sequence[StoreReader], same: bool) -> tuple[np.ndarray, np.ndarray]:
    """Source and row of each clip, the first of those that are in several stores."""
    place: dict[str, tuple[int, int]] = {}
    twice: list[str] = []
    for number, reader in enumerate(readers):
        for row, clip_id in enumerate(reader.clip_id.tolist()):
            if clip_id not in place:
                place[clip_id] = (number, row)
                continue
            twice.append(clip_id)
            other, at = place[clip_id]
            if same and not np.array_equal(readers[other].arrays.clip_digest[at], reader.arrays.clip_digest[row]):
                raise StoreError(
                    f"{clip_id!r} is in {readers[other].path} and in {reader.path}, with other features. Leave it out "
                    "of one of them with east store subset."
                )
    if twice and not same:
        raise StoreError(
            f"{len(twice):,} clips are in several of the stores: {named(twice)}. Where they are equal to the bit, "
            "--duplicates same takes each once; else leave them out with east store subset."
        )
    found = np.array(list(place.values()), np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _agreeing_canaries(readers: Sequence[StoreReader], listener: Listener) -> Mapping[str, np.ndarray]:
    """The canaries of the first store that has some; those of the others agree with them, within the card's tolerance.

    Raises:
        StoreError: they differ; the difference and the limit are said.
    """
    found = [(reader, reader.canaries()) for reader in readers]
    first, canaries = next((pair for pair in found if "features" in pair[1]), found[0])
    for reader, others in found:
        if reader is first and canaries:
            continue
        if "features" not in others:
            listener(Warned(f"{reader.path} has no canaries: nothing shows that its numbers are those of the others."))
        elif others["features"].shape != canaries["features"].shape:
            listener(Warned(f"The canaries of {reader.path} and {first.path} are other signals: not compared."))
        else:
            _require_like(reader, first, others["features"], canaries["features"])
    return canaries


def _require_like(reader: StoreReader, first: StoreReader, right: np.ndarray, left: np.ndarray) -> None:
    tolerance = first.meta.card.get("tolerance", 0.0)
    limit = float(tolerance) if isinstance(tolerance, int | float) else 0.0
    scale = float(np.abs(left).max(initial=0.0)) or 1.0
    difference = float(np.abs(left - right).max(initial=0.0)) / scale
    if not difference <= limit:
        raise StoreError(
            f"{reader.path} and {first.path} were not made by the same numbers: their canaries differ by "
            f"{difference:.2e} of their range, the card allows {limit:.0e}. Extract one of them again, where the other "
            "one was made."
        )
