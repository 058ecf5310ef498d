"""All checks of a Zarr store in a folder, finished or not."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from pipeline.errors import StoreError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted
from pipeline.files import sha256_of
from pipeline.stores.checking import listed as lists
from pipeline.stores.checking.bitflip import mend_by_digest
from pipeline.stores.checking.blocks import Facts
from pipeline.stores.checking.chunks import ShardLayout, ShardScan, scan_shard
from pipeline.stores.checking.diagnosis import Diagnosis, spread
from pipeline.stores.checking.findings import report_rows, report_shard
from pipeline.stores.checking.report import Log
from pipeline.stores.checking.small import check_content
from pipeline.stores.checking.zarr_small import ROOT, look_at, open_small
from pipeline.stores.guard import MAX_DOCUMENT_BYTES, read_file
from pipeline.stores.journal import JOURNAL, parse_line, read_journal
from pipeline.stores.schema import DAMAGE, StoreMeta
from pipeline.stores.shards import shard_key
from pipeline.stores.sums import SUMS
from pipeline.stores.zarr_reader import is_plain, open_group
from pipeline.stores.zarr_store import FEATURES, find_array

_SHARD = f"{FEATURES}/c."
_EMPTY = lists.DigestList({}, ())


def verify_zarr(path: Path, log: Log, listener: Listener) -> Diagnosis:
    """Check a folder; what is found goes to ``log``, what is known comes back."""
    return _Zarr(path, log, listener).run()


class _Zarr:
    """One run over one folder: files beside the shards, shards, and the list over both."""

    def __init__(self, path: Path, log: Log, listener: Listener) -> None:
        self.path, self.log, self.listener = path, log, listener
        self.tree, self.list = lists.look_at_files(path), lists.read_list(path)
        journalled = {_name(record.shard): record.sha256 for record in read_journal(path)}
        self.entries = {**(self.list or _EMPTY).entries, **journalled}
        self.found = Diagnosis(path, listed=self.entries)
        self.actual: dict[str, str] = {}
        self.sound: dict[str, bool] = {}
        self.loose: set[str] = set()
        self.task = f"verify {path.name}"

    def run(self) -> Diagnosis:
        """Small files first, since they say how to read the large ones; the list last."""
        n_bytes = sum(_size(self.path / name) for name in self.tree.files)
        self.listener(TaskStarted(self.task, n_bytes / 1e6, "MB"))
        for name in self.tree.strange:
            self.log.find(lists.CHECK, name, "a link, or no plain file: nothing is read through it")
        small_files = [name for name in self.tree.files if not name.startswith(_SHARD)]
        for file in spread(partial(look_at, self.path), small_files):
            self.actual[file.name] = file.sha256
            if file.sound is not None:
                self.sound[file.name] = file.sound
            self._advance(file.n_bytes)
        opened = open_small(self.path, self._is_off, self.log)
        self.found.meta, self.found.small = opened.meta, opened.small
        if not opened.finished:
            self.loose = {name for name in small_files if not self._is_flipped(name)}
        if opened.meta is not None and opened.small is not None:
            facts = opened.small.facts()
            self.found.flags = np.zeros(len(facts), np.uint8)
            self._check_features(opened.meta, facts, finished=opened.finished)
            self._check_journal(facts)
            check_content(opened.small, opened.meta, self.log)
        else:
            self.log.skip("features", "what describes them is damaged; their files are held to the digest list")
        self._digest_others()
        self._compare(opened.finished)
        self.listener(TaskFinished(self.task))
        return self.found

    def _is_off(self, name: str) -> bool:
        """A file that the list contradicts, where it is not the line in the list that is damaged."""
        here, there = self.actual.get(name), self.entries.get(name)
        return here is not None and there is not None and here != there and not lists.near(here, there)

    def _is_flipped(self, name: str) -> bool:
        """A document that the list contradicts by a single bit: damaged, not written since."""
        if not name.endswith(ROOT) or not self._is_off(name):
            return False
        return mend_by_digest((self.path / name).read_bytes(), self.entries[name]) is not None

    def _check_features(self, meta: StoreMeta, facts: Facts, *, finished: bool) -> None:
        name = f"{FEATURES}/{ROOT}"
        if (finished and self._is_off(name)) or self.sound.get(name) is False or name not in self.actual:
            self.log.skip("features", "their description is damaged; their files are held to the digest list")
            return
        if is_plain(read_file(self.path / name, MAX_DOCUMENT_BYTES), meta):
            self.found.features_ok = True
            self._scan(ShardLayout.of(meta), facts)
        else:
            self._read_through_zarr(meta, facts)

    def _scan(self, layout: ShardLayout, facts: Facts) -> None:
        n_shards = -(-len(facts) // layout.shard_clips)
        work = partial(scan_shard, self.path / FEATURES, layout=layout, facts=facts)
        for scan in spread(work, range(n_shards)):
            first = scan.shard * layout.shard_clips
            self.found.scans[scan.shard] = scan
            self.found.flags[first : first + len(scan.flags)] = scan.flags
            self._take(scan, layout, facts, bool(facts.finished[first : first + layout.shard_clips].all()))
        n = int(facts.finished.sum())
        self.log.close("features", f"checksums of all chunks; digest, zero rows, finite values of {n:,} clips")

    def _take(self, scan: ShardScan, layout: ShardLayout, facts: Facts, all_finished: bool) -> None:
        name = _name(scan.shard)
        if scan.sha256:
            self.actual[name] = scan.sha256
            self._advance(scan.n_bytes)
        report_shard(name, scan, layout, facts, self.log)
        self.sound[name] = scan.whole
        if not all_finished:  # it is about to be written anew, or just was
            self.loose.add(name)
            self.sound[name] = not scan.flags.any()

    def _read_through_zarr(self, meta: StoreMeta, facts: Facts) -> None:
        """Another layout than ours: read through Zarr, whose codecs check what they have checksums of."""
        try:
            features = find_array(open_group(str(self.path))[0], FEATURES, self.path.name)
            if features.shape[0] < len(facts) or features.shape[1:] != (meta.frames, meta.channels):
                raise StoreError(f"features have shape {features.shape}, the attributes promise other ones")
        except StoreError as error:
            self.log.find("features", f"{FEATURES}/{ROOT}", str(error))
            self.log.close("features", "cannot be read")
            return
        self.found.features_ok = True
        for first in range(0, len(facts), meta.shard_clips):
            stop = min(first + meta.shard_clips, len(facts))
            if facts.finished[first:stop].any():
                blocks = _blocks(features, first, stop, meta.chunk_clips)
                report_rows(blocks, FEATURES, facts, self.found.flags, self.log)
        n = int(facts.finished.sum())
        self.log.close("features", f"read through zarr; digest, zero rows, finite values of {n:,} clips")

    def _check_journal(self, facts: Facts) -> None:
        place = self.path / JOURNAL
        if not place.is_file():
            return
        n = 0
        with place.open("rb") as handle:
            for number, line in enumerate(handle, start=1):
                if not line.endswith(b"\n"):
                    self.log.notes.append("The journal's last line is torn, as after a power cut: it does not count.")
                    break
                try:
                    n += len(parse_line(line.decode()))
                except (StoreError, UnicodeDecodeError) as error:
                    self.log.find("journal", JOURNAL, f"line {number}: {error}; it and what follows do not count")
                    break
        self.log.n_bytes += _size(place)
        self.log.close("journal", f"records of {n:,} of {len(facts):,} clips")

    def _digest_others(self) -> None:
        """Files that no check has read: shards that cannot be understood, or that no clip belongs to."""
        others = [name for name in self.tree.files if name not in self.actual]
        for name, digest in spread(lambda name: (name, sha256_of(self.path / name)), others):
            self.actual[name] = digest
            self._advance(_size(self.path / name))

    def _compare(self, finished: bool) -> None:
        if self.list is None and finished:
            self.log.find(lists.CHECK, SUMS, "there is no digest list, though the store is finished")
            self.found.damaged.add(SUMS)
        listed = lists.DigestList(self.entries, (self.list or _EMPTY).faults)
        loose = self.loose if self.list is not None else {*self.actual, *self.entries}
        self.found.damaged |= lists.compare(listed, self.actual, self.sound, self.log, loose=frozenset(loose))
        if self.list is None and not finished:
            self.log.skip(lists.CHECK, "there is none before the first run over a store has ended")
        else:
            self.log.close(lists.CHECK, f"{len(self.actual):,} files against {len(self.entries):,} lines")
        if self.tree.drafts:
            n = len(self.tree.drafts)
            self.log.notes.append(f"{n} drafts of a killed writer lie in it; the next run removes them.")

    def _advance(self, n_bytes: int) -> None:
        self.log.n_bytes += n_bytes
        self.listener(TaskAdvanced(self.task, n_bytes / 1e6))


def _blocks(
    features: zarr.Array[Any], first: int, stop: int, step: int
) -> Iterator[tuple[np.ndarray, np.ndarray | None, str]]:
    """A shard's rows at once; where that fails, chunk by chunk."""
    try:
        yield np.arange(first, stop), np.asarray(features[first:stop]), ""
        return
    except DAMAGE:
        pass
    for start in range(first, stop, step):
        rows = np.arange(start, min(start + step, stop))
        try:
            yield rows, np.asarray(features[start : rows[-1] + 1]), ""
        except DAMAGE as error:
            yield rows, None, str(error)


def _name(shard: int) -> str:
    return f"{FEATURES}/{shard_key(shard)}"


def _size(path: Path) -> int:
    return path.stat().st_size
