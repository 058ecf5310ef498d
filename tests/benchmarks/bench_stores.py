"""What stores cost: writing over raw writes, verifying over reading, an update over the whole extraction.

Writing and verifying: clips of 10 KiB, bytes flushed to the disk on both sides.  Update: a teacher
that takes 40 ms a clip, one process, clips of one second; then 1 % new files and the same command.
An update by one clip tells what one costs whatever its size: canaries, a batch that was not full.
"""

# ruff: noqa: E402

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import numpy as np
from bench_extraction import environment
from extracting import run as run_extraction
from extracting import table_of, write_clips

from pipeline.files import publishing
from pipeline.stores import example_meta, write_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.schema import choose_sizes
from pipeline.stores.shards import shard_key, write_shard

FRAMES, CHANNELS, ROUNDS = 10, 512, 3
TEACHER = "fake-slow/frames"
TARGETS = {"write_shard / raw writes": 0.5, "whole extraction / (1 % update - one clip)": 50.0}


def run(size: int = 8_192) -> dict[str, float]:
    """Ratios and rates: ``size`` clips are written and verified, an eighth as many extracted."""
    with tempfile.TemporaryDirectory() as folder:
        return _writing(Path(folder), size) | _verifying(Path(folder), size) | _updating(Path(folder), size // 8)


def _writing(folder: Path, size: int) -> dict[str, float]:
    features = np.random.default_rng(0).standard_normal((size, FRAMES, CHANNELS)).astype(np.float16)
    chunk, shard = choose_sizes(size, FRAMES * CHANNELS * 2)

    def raw() -> None:
        for first in range(0, size, shard):
            with publishing(folder / "raw") as draft:
                draft.write_bytes(features[first : first + shard].data)

    def ours() -> None:
        for first in range(0, size, shard):
            write_shard(folder / shard_key(0), features[first : first + shard], chunk_clips=chunk, shard_clips=shard)

    def hashed() -> None:
        for first in range(0, size, shard):
            hashlib.sha256(features[first : first + shard].data)

    best = _race({"raw": raw, "ours": ours, "hash": hashed})
    return {
        "write_shard / raw writes": best["raw"] / best["ours"],
        "write_shard / (raw writes + SHA-256)": (best["raw"] + best["hash"]) / best["ours"],
        "write_shard MB/s": features.nbytes / best["ours"] / 1e6,
    }


def _verifying(folder: Path, size: int) -> dict[str, float]:
    chunk, shard = choose_sizes(size, FRAMES * CHANNELS * 2)
    meta = example_meta(frames=FRAMES, channels=CHANNELS, dtype="float16", chunk_clips=chunk, shard_clips=shard)
    features = np.random.default_rng(0).standard_normal((size, FRAMES, CHANNELS)).astype(np.float32)
    ids = [f"clip {row}" for row in range(size)]
    found = {}
    for name in ("store.zarr", "store.h5"):
        path = folder / name
        write_store(path, meta=meta, clip_id=ids, features=features, n_frames=np.full(size, FRAMES))
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]

        def read(files: list[Path] = files) -> None:
            for file in files:
                file.read_bytes()

        def digest(files: list[Path] = files) -> None:
            for file in files:
                hashlib.sha256(file.read_bytes())

        def verify(path: Path = path) -> None:
            verify_store(path, VerifyOptions()).require()

        best = _race({"read": read, "digest": digest, "verify": verify})
        found |= {
            f"verify / reading, {path.suffix}": best["read"] / best["verify"],
            f"verify / SHA-256, {path.suffix}": best["digest"] / best["verify"],
            f"verify clips/s, {path.suffix}": size / best["verify"],
        }
    return found


def _updating(folder: Path, size: int) -> dict[str, float]:
    new = max(1, size // 100)
    with environment(folder, "plugins"):
        paths = write_clips(folder / "music", size + new + 1, suffix="wav")
        tables = [table_of(paths[:n], folder / "music") for n in (size, size + new, size + new + 1)]
        whole, update, one = (_timed(partial(run_extraction, table, TEACHER)) for table in tables)
        nothing = _timed(partial(run_extraction, tables[-1], TEACHER))
    return {
        "whole extraction / 1 % update": whole / update,
        "whole extraction / (1 % update - one clip)": whole / max(1e-9, update - one),
        "whole extraction s": whole,
        "1 % update s": update,
        "update by one clip s": one,
        "nothing to do s": nothing,
    }


def _race(works: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Seconds of each, the best of a few rounds taken in turn."""
    best = dict.fromkeys(works, np.inf)
    for _ in range(ROUNDS):
        for name, work in works.items():
            best[name] = min(best[name], _timed(work))
    return best


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    for name, value in run(*map(int, sys.argv[1:2])).items():
        print(f"{name:<50} {value:,.3f}")
