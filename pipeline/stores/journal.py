"""The journal of a store being written: one synced line per finished shard.

The features of a shard are on disk before its line is; a line that is there therefore counts, and
a shard without one is simply made again.  The last line may be torn by a power cut: what follows
the last complete line is dropped.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.stores.guard import MAX_JOURNAL_LINE_BYTES, open_regular
from pipeline.stores.schema import DIGEST_BYTES, MAX_AXIS, State

#: Beside the shards: zarr warns of foreign files in groups, never in the folder of an array.
JOURNAL = "features/journal.jsonl"
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, eq=False)
class ShardRecord:
    """What a task reports of one shard: all the store says of its clips except the features.

    Shape:
        n_frames: [clips] int32; state: [clips] uint8; failure: [clips] texts;
        file_digest, samples_digest, clip_digest: [clips, 32] uint8
    """

    shard: int
    first_row: int
    sha256: str
    n_frames: np.ndarray
    state: np.ndarray
    failure: tuple[str, ...]
    file_digest: np.ndarray
    samples_digest: np.ndarray
    clip_digest: np.ndarray

    def __len__(self) -> int:
        return len(self.n_frames)

    @property
    def rows(self) -> slice:
        """The store's rows this shard holds."""
        return slice(self.first_row, self.first_row + len(self))

    def line(self) -> str:
        """As one line of JSON, without the newline."""
        value: dict[str, Any] = {
            "shard": self.shard,
            "first_row": self.first_row,
            "sha256": self.sha256,
            "n_frames": self.n_frames.tolist(),
            "state": self.state.tolist(),
            "failure": {str(row): text for row, text in enumerate(self.failure) if text},
        }
        for name in ("file_digest", "samples_digest", "clip_digest"):
            value[name] = base64.b64encode(getattr(self, name).tobytes()).decode()
        return json.dumps(value, separators=(",", ":"))


def parse_line(line: str) -> ShardRecord:
    """Read one line.

    Raises:
        StoreError: the line is not a record.
    """
    try:
        value = json.loads(line)
        state = np.array(value["state"], np.uint8)
        texts = value["failure"]
        digests = {
            name: np.frombuffer(base64.b64decode(value[name], validate=True), np.uint8).reshape(-1, DIGEST_BYTES)
            for name in ("file_digest", "samples_digest", "clip_digest")
        }
        record = ShardRecord(
            shard=int(value["shard"]),
            first_row=int(value["first_row"]),
            sha256=str(value["sha256"]),
            n_frames=np.array(value["n_frames"], np.int32),
            state=state,
            failure=tuple(str(texts.get(str(row), "")) for row in range(len(state))),
            **digests,
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise StoreError(f"a line of the journal is damaged ({error})") from error
    lengths = {len(record.n_frames), len(state), *(len(digest) for digest in digests.values())}
    whole = (
        len(lengths) == 1
        and record.first_row >= 0
        and 0 <= record.shard < MAX_AXIS
        and _SHA256.fullmatch(record.sha256)
    )
    if not whole or not np.isin(state, [State.DONE, State.FAILED]).all():
        raise StoreError("a line of the journal contradicts itself")
    return record


class Journal:
    """Append-only; a line is on the disk when :meth:`append` returns, unless it was told not to sync."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        self._trim()
        self._handle = self.path.open("ab", buffering=0)  # what a full disk refused is not tried again at the end

    def _trim(self) -> None:
        """Cut a torn last line off, so that the next line does not continue it."""
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        keep = content.rfind(b"\n") + 1
        if keep != len(content):
            os.truncate(self.path, keep)

    def append(self, record: ShardRecord, *, sync: bool = True) -> None:
        """Add a record; without ``sync`` a killed process keeps it, a power cut may not."""
        line = memoryview(record.line().encode() + b"\n")
        while line:
            line = line[self._handle.write(line) :]
        if sync:
            os.fsync(self._handle.fileno())

    def clear(self) -> None:
        """Forget all lines: they have been folded into the arrays."""
        self._handle.truncate(0)
        os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Close the file; an empty journal is removed."""
        self._handle.close()
        if self.path.exists() and self.path.stat().st_size == 0:
            self.path.unlink()


def read_journal(folder: Path) -> Iterator[ShardRecord]:
    """The complete lines in order; the torn rest, and anything after a damaged line, is left out.

    Raises:
        StoreError: the journal is no plain file.
    """
    path = folder / JOURNAL
    try:
        opened = open_regular(path)
    except FileNotFoundError:
        return
    with opened as handle:
        while line := handle.readline(MAX_JOURNAL_LINE_BYTES):
            if not line.endswith(b"\n"):
                return
            try:
                yield parse_line(line.decode())
            except (StoreError, UnicodeDecodeError):
                return
