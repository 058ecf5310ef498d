"""What the audio of a clip table is now, against what stores say it was.

Files whose size and time are those of the index are not read; the others are digested, in threads.
Audio at addresses is not looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from pipeline.audio.digest import file_digest
from pipeline.audio.quiet import quiet_decoders
from pipeline.errors import AudioError, AudioMissingError, PlanError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, Warned
from pipeline.extraction.decoding import decode_groups
from pipeline.extraction.jobs import ClipJob
from pipeline.manifest import ClipTable
from pipeline.manifest.index import AudioIndex, Segment, Stamp
from pipeline.manifest.table import is_url
from pipeline.stores.pending import failed_rows, kept_rows
from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import State

_PART_CLIPS = 32


class Census:
    """The audio behind one clip table.

    Attributes:
        digests: SHA-256 by path below the root, of the files that are known to lie there so.
    """

    def __init__(self, table: ClipTable, index: AudioIndex, clips: dict[str, ClipJob], listener: Listener) -> None:
        self.table, self.index, self.clips, self.listener = table, index, clips, listener
        self.path_of = dict(zip(table.clip_id.tolist(), table.path.tolist(), strict=True))
        local, self._root = not is_url(table.root), str(Path(table.root).absolute())
        self.stamps = {path: stamp for path in set(self.path_of.values()) if local and (stamp := self._stamp(path))}
        self.digests = index.file_digests(self.stamps)

    def _stamp(self, path: str) -> Stamp | None:
        try:
            status = os.stat(f"{self._root}/{path}")  # noqa: PTH116 - a Path for each of a million files takes seconds
        except OSError:
            return None
        return Stamp(status.st_size, status.st_mtime_ns)

    def require_audio(self, stores: Sequence[ClipArrays]) -> None:
        """Refuse a table none of whose files is there, if clips of it are to be computed.

        Args:
            stores: what the run starts from.

        Raises:
            PlanError: it names the folder that was looked into, and one file.
        """
        if is_url(self.table.root) or self.stamps or not self.path_of:
            return
        todo = (arrays.clip_id[(arrays.state == State.PENDING) & ~kept_rows(arrays)].tolist() for arrays in stores)
        if not any(clip_id in self.path_of for ids in todo for clip_id in ids):
            return
        paths = list(dict.fromkeys(self.path_of.values()))
        raise PlanError(
            f"None of the {len(paths):,} audio files of {self.table.name!r} is there: its clip table says they lie "
            f"in {self.table.root}, for example {paths[0]}. Put the folder back, or, if it was moved, move "
            "the clip table with it, or make the table again with: east data from FOLDER."
        )

    def read_files(self, clip_ids: Iterable[str]) -> None:
        """Digest the files of these clips that are not known yet."""
        wanted = {self.path_of[clip_id] for clip_id in clip_ids if clip_id in self.path_of}
        unknown = sorted(path for path in wanted if path in self.stamps and path not in self.digests)
        if not unknown:
            return
        self.listener(TaskStarted("check audio", len(unknown), "files"))
        with ThreadPoolExecutor(max(2, min(8, os.cpu_count() or 2))) as pool:
            for path, digest in zip(unknown, pool.map(self._digest, unknown), strict=True):
                if digest is not None:
                    self.digests[path] = digest
                self.listener(TaskAdvanced("check audio", 1))
        self.index.remember([(path, self.stamps[path], self.digests[path]) for path in unknown if path in self.digests])
        self.listener(TaskFinished("check audio"))

    def _digest(self, path: str) -> bytes | None:
        try:
            return file_digest(Path(self.table.root) / path)
        except (AudioError, OSError):
            return None

    def changed(self, arrays: ClipArrays) -> frozenset[str]:
        """Clips of a store whose file holds other bytes than when they were computed, or was missing and is there."""
        computed = np.flatnonzero(arrays.file_digest.any(axis=1)).tolist()
        ids = arrays.clip_id.tolist()
        rows = [row for row in computed if self.path_of.get(ids[row]) in self.stamps]
        self.read_files(ids[row] for row in rows)
        then = arrays.file_digest[rows].tobytes()
        now = (self.digest_of(ids[row]) for row in rows)
        others = frozenset(
            ids[row]
            for k, (row, digest) in enumerate(zip(rows, now, strict=True))
            if digest is not None and digest != then[32 * k : 32 * k + 32]
        )
        return others | self._come(arrays)

    def _come(self, arrays: ClipArrays) -> frozenset[str]:
        """Clips that failed because their file was missing, and which is there now."""
        ids, failures = arrays.clip_id, arrays.failure
        return frozenset(
            str(ids[row])
            for row in np.flatnonzero(failed_rows(arrays)).tolist()
            if str(failures[row]).startswith(f"{AudioMissingError.kind}:") and self._is_file(str(ids[row]))
        )

    def _is_file(self, clip_id: str) -> bool:
        path = self.path_of.get(clip_id, "")
        return path in self.stamps and Path(self._root, path).is_file()

    def digest_of(self, clip_id: str) -> bytes | None:
        """SHA-256 of a clip's file, where it is known."""
        return self.digests.get(self.path_of.get(clip_id, ""))

    def segment(self, clip_id: str) -> Segment | None:
        """Bytes, start and duration of a clip; None while its file is not known."""
        digest, clip = self.digest_of(clip_id), self.clips[clip_id]
        return None if digest is None else (digest, clip.start_s, clip.duration_s)

    def samples(self, clip_ids: Sequence[str]) -> dict[str, bytes]:
        """SHA-256 of the decoded samples of clips; those that cannot be decoded are left out."""
        self.read_files(clip_ids)
        segments = {clip_id: self.segment(clip_id) for clip_id in clip_ids}
        known = self.index.samples_digests(segment for segment in segments.values() if segment)
        found = {clip_id: known[segment] for clip_id, segment in segments.items() if segment in known}
        unknown = [clip_id for clip_id in clip_ids if clip_id not in found]
        return found | self._decode(unknown) if unknown else found

    def _decode(self, clip_ids: Sequence[str]) -> dict[str, bytes]:
        """In processes of their own: a clip that kills its decoder is not looked for here."""
        parts = [clip_ids[first : first + _PART_CLIPS] for first in range(0, len(clip_ids), _PART_CLIPS)]
        jobs = [[self.clips[clip_id] for clip_id in part] for part in parts]
        found: dict[str, bytes] = {}
        self.listener(TaskStarted("digest samples", len(clip_ids), "clips"))
        n_processes = min(len(parts), os.cpu_count() or 1)
        try:
            with ProcessPoolExecutor(n_processes, get_context("spawn"), quiet_decoders) as pool:
                for part, digests in zip(parts, pool.map(decode_samples, jobs), strict=True):
                    found |= {clip_id: digest for clip_id, digest in zip(part, digests, strict=True) if any(digest)}
                    self.listener(TaskAdvanced("digest samples", len(part)))
        except BrokenProcessPool:
            self.listener(Warned("A decoder died while audio was compared with other stores; the rest is computed."))
        facts = [(segment, samples) for clip_id, samples in found.items() if (segment := self.segment(clip_id))]
        self.index.remember([], facts)
        self.listener(TaskFinished("digest samples"))
        return found

    def learn(self, clip_ids: Sequence[str], file_digests: Sequence[bytes], samples: Sequence[bytes]) -> None:
        """Take down what workers read."""
        files, facts = [], []
        for clip_id, digest, sample in zip(clip_ids, file_digests, samples, strict=True):
            path, clip = self.path_of[clip_id], self.clips[clip_id]
            if path in self.stamps and any(digest):
                files.append((path, self.stamps[path], digest))
                facts.append(((digest, clip.start_s, clip.duration_s), sample))
        self.index.remember(list(dict.fromkeys(files)), facts)


def decode_samples(clips: Sequence[ClipJob]) -> list[bytes]:
    """SHA-256 of each clip's samples; zeros for one that cannot be decoded."""
    groups = decode_groups(clips, clip_s=0.0, rates_hz=(), group_clips=len(clips), dead={})
    return [clip.samples_digest for group in groups for clip in group.clips]
