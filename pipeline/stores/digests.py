"""Digests of clips and of a whole store's content, many clips at a time.

``docs/store-format.md`` says what they cover, for programs in other languages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from pipeline.stores.schema import DIGEST_BYTES

_COUNT_MASK = (1 << 64) - 1  # a damaged count may be below zero: it still gives a digest, a wrong one


def digest_clips(
    clip_ids: Sequence[str], state: np.ndarray, failure: Sequence[str], n_frames: np.ndarray, features: np.ndarray
) -> np.ndarray:
    """SHA-256 over what the store says of each clip.

    Covers the id, the reason, the state, the number of valid frames, and the valid frames' bytes
    (little-endian, in the stored type).

    Shape:
        state, n_frames: [clips]; features: [clips, frames, channels]; returns [clips, 32] uint8
    """
    little = np.ascontiguousarray(features, features.dtype.newbyteorder("<"))
    frames, frame_bytes = little.shape[1], little.shape[2] * little.dtype.itemsize
    content = little.reshape(-1).view(np.uint8).data
    tails: dict[tuple[str, int, int], bytes] = {}  # most clips are alike in all but id and features
    found, start = [], 0
    for clip_id, *about in zip(
        clip_ids, failure, state.astype(np.uint8).tolist(), n_frames.astype(np.int64).tolist(), strict=True
    ):
        key = about[0], about[1], about[2]
        tail = tails.get(key)
        if tail is None:
            tail = tails[key] = _tail(*key)
        n_bytes = min(max(key[2], 0), frames) * frame_bytes
        digest = hashlib.sha256(_counted(clip_id) + tail)
        digest.update(content[start : start + n_bytes])
        found.append(digest.digest())
        start += frames * frame_bytes
    return np.frombuffer(b"".join(found), np.uint8).reshape(-1, DIGEST_BYTES)


def _tail(failure: str, state: int, n_frames: int) -> bytes:
    return _counted(failure) + state.to_bytes(1, "little") + (n_frames & _COUNT_MASK).to_bytes(8, "little")


def digest_content(clip_ids: Sequence[str], clip_digests: np.ndarray) -> str:
    """The content digest: SHA-256 over the clips' digests in the order of their ids' UTF-8 bytes.

    Formats, shard sizes and the order of rows do not change it; run records, uuid and times stand
    outside it.

    Shape:
        clip_digests: [clips, 32], uint8
    """
    keys: Sequence[str] | Sequence[bytes] = clip_ids
    try:
        "".join(clip_ids).encode()
    except UnicodeEncodeError:  # only valid texts are ordered as their bytes are
        keys = [text.encode("utf-8", "surrogateescape") for text in clip_ids]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return hashlib.sha256(np.ascontiguousarray(clip_digests[order]).data).hexdigest()


def _counted(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogateescape")
    return len(encoded).to_bytes(8, "little") + encoded
