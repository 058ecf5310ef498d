"""Random clips per second of the store reader, over ``numpy.memmap`` of the same bytes.

The store has 10 frames of 512 float16 channels per clip; both sides read blocks of 32 clips in
random order, with warm caches and, for the reader, verified checksums.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.stores import example_meta, open_store, write_store
from pipeline.stores.schema import choose_sizes

FRAMES, CHANNELS, BATCH, ROUNDS = 10, 512, 32, 5
TARGETS = {"reader / memmap, zarr": 0.4}


def run(size: int = 8_192) -> dict[str, float]:
    """Ratios and rates for a store of ``size`` clips; the best of a few rounds taken in turn."""
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
    order = np.random.default_rng(1).permutation(size)
    batches = np.split(order, range(BATCH, size, BATCH))
    best = dict.fromkeys(("memmap", "zarr", "hdf5"), 0.0)
    with open_store(folder / "store.zarr") as mapped, open_store(folder / "store.h5") as packed:
        reads: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "memmap": lambda rows: plain[rows],
            "zarr": mapped.read,
            "hdf5": packed.read,
        }
        for _ in range(ROUNDS):
            for name, read in reads.items():
                began = time.perf_counter()
                for rows in batches:
                    read(rows)
                best[name] = max(best[name], size / (time.perf_counter() - began))
    return {
        "reader / memmap, zarr": best["zarr"] / best["memmap"],
        "reader / memmap, hdf5": best["hdf5"] / best["memmap"],
        "memmap clips/s": best["memmap"],
        "zarr clips/s": best["zarr"],
        "hdf5 clips/s": best["hdf5"],
    }


if __name__ == "__main__":
    for name, value in run(*map(int, sys.argv[1:2])).items():
        print(f"{name:<28} {value:,.2f}")
