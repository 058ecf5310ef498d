"""Whether the audio is still what the store was made from: digests of files against the store's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted
from pipeline.files import sha256_of
from pipeline.stores.checking.diagnosis import spread
from pipeline.stores.checking.report import Log
from pipeline.stores.checking.small import Small
from pipeline.stores.schema import State

CHECK = "audio"


@dataclass(frozen=True)
class AudioPlaces:
    """Where clips' audio is.

    Attributes:
        root: folder that paths are relative to.
        paths: by clip id, from a clip table; a clip without an entry lies at its id up to the last
            ``@``, which is how ids are made for tables without keys of their own.
    """

    root: Path
    paths: Mapping[str, str]

    def find(self, clip_id: str) -> Path:
        """The file a clip is cut from."""
        return self.root / self.paths.get(clip_id, clip_id.rpartition("@")[0] or clip_id)


def check_audio(small: Small, places: AudioPlaces, log: Log, listener: Listener) -> None:
    """Digest every file once, several at a time, and compare; changed and missing ones are named with their clips."""
    arrays = small.arrays
    by_file: dict[Path, list[int]] = {}
    n_unknown = 0
    for row, clip_id in enumerate(arrays.clip_id.tolist()):
        if arrays.state[row] == State.DONE and arrays.file_digest[row].any():
            by_file.setdefault(places.find(clip_id), []).append(row)
        else:
            n_unknown += 1
    listener(TaskStarted(CHECK, len(by_file), "files"))
    for path, digest in spread(_digest, by_file):
        rows = by_file[path]
        changed = [row for row in rows if arrays.file_digest[row].tobytes().hex() != digest]
        if changed:
            name = path.relative_to(places.root).as_posix() if path.is_relative_to(places.root) else str(path)
            text = f"audio {name!r} has changed since" if digest else f"audio {name!r} is missing or cannot be read"
            log.find(CHECK, "", text, [str(clip) for clip in arrays.clip_id[changed].tolist()], ())
        listener(TaskAdvanced(CHECK, 1))
    listener(TaskFinished(CHECK))
    rest = f"; {n_unknown:,} clips have no digest of a file" if n_unknown else ""
    log.close(CHECK, f"{len(by_file):,} files of {len(arrays.clip_id) - n_unknown:,} clips{rest}")


def _digest(path: Path) -> tuple[Path, str]:
    try:
        return path, sha256_of(path)
    except OSError:
        return path, ""
