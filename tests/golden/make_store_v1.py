"""Makes ``store_v1.zarr`` and ``store_v1.h5``: small stores that every later release must read.

They were written once, by the code at commit 018f384, before stores had cards or ``derived``; they
are never written again.  What they hold is :func:`content`, by arithmetic, so that tests know it.

Run, in a checkout of that commit: ``python make_store_v1.py FOLDER``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

CLIPS, FRAMES, CHANNELS = 7, 3, 2
CHUNK_CLIPS, SHARD_CLIPS = 2, 4
UUID = "00000000-0000-4000-8000-000000000001"


def content() -> dict[str, Any]:
    """Clip 2 failed; clip 5 has one valid frame; the value of (clip, frame, channel) is 100 c + 10 f + ch / 2."""
    clip, frame, channel = np.ogrid[:CLIPS, :FRAMES, :CHANNELS]
    features = (100.0 * clip + 10.0 * frame + channel / 2).astype(np.float32)
    n_frames, state = np.full(CLIPS, FRAMES), np.full(CLIPS, 1, np.uint8)
    n_frames[2], state[2], n_frames[5] = 0, 2, 1
    features[np.arange(FRAMES)[None, :] >= n_frames[:, None]] = 0
    failure = [""] * CLIPS
    failure[2] = "format: not audio – 音"
    byte = np.arange(32)
    return {
        "clip_id": [f"é/Lied {row}.wav@{row * 3000}" for row in range(CLIPS)],
        "features": features,
        "n_frames": n_frames,
        "state": state,
        "failure": failure,
        "samples_digest": (np.arange(CLIPS)[:, None] * 32 + byte).astype(np.uint8),
        "file_digest": (np.arange(CLIPS)[:, None] + byte).astype(np.uint8),
    }


def make(folder: Path) -> None:
    from pipeline.stores import example_meta, write_store

    meta = example_meta(
        frames=FRAMES, channels=CHANNELS, chunk_clips=CHUNK_CLIPS, shard_clips=SHARD_CLIPS, dtype="float16", uuid=UUID
    )
    for suffix in ("zarr", "h5"):
        write_store(folder / f"store_v1.{suffix}", meta=meta, **content())


if __name__ == "__main__":
    make(Path(sys.argv[1]))
