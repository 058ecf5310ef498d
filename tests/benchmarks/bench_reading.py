"""Clips per second of ways to read a store, over ``numpy.memmap`` of the same bytes.

The store has 10 frames of 512 float16 channels per clip.  ``random`` reads batches of 32 clips in
random order, ``epoch`` all clips in order, ``blocks`` whole shards in random order with the clips
of each shuffled.  Caches are warm and, for our reader, checksums verified, unless ``first touch``
says otherwise.  Libraries that are not installed are left out.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import zarr

from pipeline.stores import example_meta, open_store, write_store
from pipeline.stores.schema import choose_sizes

FRAMES, CHANNELS, BATCH, ROUNDS = 10, 512, 32, 5
#: Slow ways are measured over the first so many batches only.
SLOW_BATCHES = {"random": 8, "epoch": 64, "blocks": 8}
TARGETS = {
    "in memory / memmap, random": 0.9,
    "reader / memmap, random": 0.5,
    "reader / memmap, blocks": 0.5,
    "reader, HDF5 / memmap, random": 0.25,
}
Read = Callable[[np.ndarray], np.ndarray]


def run(size: int = 8_192) -> dict[str, float]:
    """Ratios, and memmap's rates, for a store of ``size`` clips; the best of a few rounds taken in turn."""
    with tempfile.TemporaryDirectory() as folder:
        return _measure(Path(folder), size)


def _measure(folder: Path, size: int) -> dict[str, float]:
    features = np.random.default_rng(0).standard_normal((size, FRAMES, CHANNELS)).astype(np.float16)
    chunk, shard = choose_sizes(size, FRAMES * CHANNELS * 2)
    meta = example_meta(frames=FRAMES, channels=CHANNELS, dtype="float16", chunk_clips=chunk, shard_clips=shard)
    ids, n_frames = [f"clip {row}" for row in range(size)], np.full(size, FRAMES)
    for name in ("store.zarr", "store.h5"):
        write_store(folder / name, meta=meta, clip_id=ids, features=features.astype(np.float32), n_frames=n_frames)
    features.tofile(folder / "plain")
    plain = np.memmap(folder / "plain", np.float16, "r", shape=features.shape)
    batches = _batches(size, shard)
    found: dict[str, float] = {}
    with open_store(folder / "store.zarr") as mapped, open_store(folder / "store.h5") as packed:
        reads: dict[str, Read] = {
            "memmap": plain.__getitem__,
            "in memory": features.__getitem__,
            "reader": mapped.read,
            "reader, HDF5": packed.read,
        } | dict(_others(folder / "store.zarr" / "features"))
        for name, read in reads.items():
            assert np.array_equal(read(batches["random"][0]), features[batches["random"][0]]), name
        for access, rows in batches.items():
            best = _race(reads, rows, SLOW_BATCHES[access])
            found |= {f"{name} / memmap, {access}": best[name] / best["memmap"] for name in reads if name != "memmap"}
            found[f"memmap clips/s, {access}"] = best["memmap"]
    return found | _first_touch(folder, plain, batches)


def _batches(size: int, shard: int) -> dict[str, list[np.ndarray]]:
    rng = np.random.default_rng(1)
    starts = rng.permutation(np.arange(0, size, shard))
    return {
        "random": np.split(rng.permutation(size), range(BATCH, size, BATCH)),
        "epoch": np.split(np.arange(size), range(BATCH, size, BATCH)),
        "blocks": [start + rng.permutation(min(shard, size - start)) for start in starts],
    }


def _race(reads: dict[str, Read], batches: list[np.ndarray], most_slow: int) -> dict[str, float]:
    best = dict.fromkeys(reads, 0.0)
    for turn in range(ROUNDS):
        for name, read in reads.items():
            slow = name.startswith(("zarr", "tensorstore"))
            if slow and turn >= 2:
                continue
            taken = batches[:most_slow] if slow else batches
            best[name] = max(best[name], _rate(read, taken))
    return best


def _rate(read: Read, batches: list[np.ndarray]) -> float:
    began = time.perf_counter()
    for rows in batches:
        read(rows)
    return sum(map(len, batches)) / (time.perf_counter() - began)


def _others(features: Path) -> Iterator[tuple[str, Read]]:
    """Other implementations of Zarr on the same files."""
    yield "zarr-python", _sorted(zarr.open_array(features, mode="r"))
    if importlib.util.find_spec("zarrs"):
        with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
            yield "zarrs", _sorted(zarr.open_array(features, mode="r"))
    if importlib.util.find_spec("tensorstore"):
        import tensorstore

        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(features)}}
        array = tensorstore.open(spec, read=True).result()
        yield "tensorstore", lambda rows: array[rows].read().result()


def _sorted(array: zarr.Array) -> Read:
    """Rows of zarr-python: a slice where they are one, else in order, as it wants them, and back."""

    def read(rows: np.ndarray) -> np.ndarray:
        order = np.argsort(rows)
        ranked = rows[order]
        whole = ranked[-1] - ranked[0] == len(rows) - 1
        found = array[int(ranked[0]) : int(ranked[-1]) + 1] if whole else array.oindex[ranked, :, :]
        return np.asarray(found)[np.argsort(order)]

    return read


def _first_touch(folder: Path, plain: np.memmap, batches: dict[str, list[np.ndarray]]) -> dict[str, float]:
    """One pass with a reader just opened: every checksum is verified on the way."""
    found = {}
    for access, rows in batches.items():
        rates = []
        for _ in range(3):
            with open_store(folder / "store.zarr") as fresh:
                rates.append(_rate(fresh.read, rows) / _rate(plain.__getitem__, rows))
        found[f"reader / memmap, {access}, first touch"] = max(rates)
    return found


if __name__ == "__main__":
    for name, value in run(*map(int, sys.argv[1:2])).items():
        print(f"{name:<42} {value:,.3f}")
