"""Clips that need no computing: what a store had before, and what other stores have.

A clip is copied when its samples and the extractor's fingerprint are the same, and when its
features, once read, still give the digest that its store promises.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.errors import StoreError
from pipeline.events import Listener, Warned
from pipeline.extraction.canaries import compare_canaries
from pipeline.extraction.census import Census
from pipeline.extraction.jobs import Copied, OutputJob, Place, ShardJob
from pipeline.extraction.removed import moved_clips
from pipeline.extraction.run_stores import RunStore
from pipeline.stores import State, StoreReader, open_store
from pipeline.stores.digests import digest_clips
from pipeline.stores.pending import kept_rows, state_before
from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import HDF5_SUFFIXES, require_same
from pipeline.stores.sharing.catalogue import SUFFIXES, entries_of, list_entries
from pipeline.stores.target import working_path


def open_sources(stack: ExitStack, names: Sequence[str], stores: Sequence[RunStore]) -> list[StoreReader]:
    """The stores to take features from; a place with a catalogue, or a folder, stands for the stores below it.

    Of those that a catalogue names, the ones with other settings than the run's stores are not opened.

    Raises:
        StoreError: there is no store at one of the places, or none that could be used.
    """
    wanted = {store.meta.fingerprint for store in stores}
    return [stack.enter_context(open_store(path)) for name in names for path in choose_paths(name, wanted)]


def choose_paths(name: str, wanted: Set[str]) -> list[str]:
    """Addresses of the stores that a name stands for, without those that a catalogue knows to be of other settings.

    Args:
        wanted: fingerprints of which any will do.

    Raises:
        StoreError: there is none.
    """
    if name.rstrip("/").endswith(SUFFIXES):
        return [name]
    entries = entries_of(name)
    folder = Path(name)
    below = [path for suffix in SUFFIXES for path in folder.rglob(f"*{suffix}")] if folder.is_dir() else []
    if entries is None:
        if folder.is_dir() and not below:
            raise StoreError(f"--reuse {name}: there is no store below that folder.")
        return sorted(map(str, below)) or [name]
    others = {Path(address) for address in entries}
    found = [address for address, entry in entries.items() if entry.fingerprint in wanted]
    found += sorted(str(path) for path in below if path not in others)
    if not found:
        there = list_entries(list(entries.values()))
        raise StoreError(f"--reuse {name}: no store there was made with the settings of this run. There are:{there}")
    here = [path for path in found if not ("://" in path and path.endswith(HDF5_SUFFIXES))]  # those are not read there
    return here or found


def require_useful(sources: Sequence[StoreReader], stores: Sequence[RunStore]) -> None:
    """Refuse sources none of which any store of the run can take from.

    Raises:
        StoreError: names what differs.
    """
    wanted = {store.meta.fingerprint for store in stores}
    if not sources or any(source.meta.fingerprint in wanted for source in sources):
        return
    source = sources[0]
    alike = [store for store in stores if store.meta.name == source.meta.name]
    require_same(source.meta, (alike or list(stores))[0].meta, f"--reuse {source.path}")


def match(store: RunStore, census: Census, sources: Sequence[StoreReader]) -> dict[int, Place]:
    """For every row that need not be computed, where its features are."""
    arrays = store.arrays
    ids = arrays.clip_id.tolist()
    found = {row: Place(-1, row) for row in np.flatnonzero(kept_rows(arrays)).tolist()}
    todo = [row for row in np.flatnonzero(arrays.state == State.PENDING).tolist() if row not in found]
    todo = [row for row in todo if ids[row] in census.path_of]
    usable = {number: s for number, s in enumerate(sources) if s.meta.fingerprint == store.meta.fingerprint}
    moved = moved_clips(arrays, census, [ids[row] for row in todo])
    if not todo or not (usable or moved):
        return found
    samples = census.samples([ids[row] for row in todo] if usable else sorted(moved))
    wanted = {samples[ids[row]]: row for row in reversed(todo) if ids[row] in samples}
    places: dict[bytes, Place] = {}
    for number, source in reversed(usable.items()):
        places |= _rows_with(source.arrays, source.state == State.DONE, wanted.keys(), number)
    if moved:
        gone = np.array([clip_id not in census.path_of for clip_id in ids], bool)
        done = (arrays.state == State.DONE) | (kept_rows(arrays) & (arrays.n_frames > 0))
        places |= _rows_with(arrays, gone & done, wanted.keys(), -1)
    for row in todo:
        if place := places.get(samples.get(ids[row], b"")):
            found[row] = place
    return found


def _rows_with(arrays: ClipArrays, usable: np.ndarray, wanted: Set[bytes], source: int) -> dict[bytes, Place]:
    """The last usable row of each digest that is wanted; the digests' first bytes leave few to be compared."""
    if not wanted:
        return {}
    rows = np.flatnonzero(usable)
    heads = np.frombuffer(b"".join(digest[:8] for digest in wanted), np.uint64)
    mine = np.ascontiguousarray(arrays.samples_digest[rows, :8]).view(np.uint64)[:, 0]
    digests = ((arrays.samples_digest[row].tobytes(), row) for row in rows[np.isin(mine, heads)].tolist())
    return {digest: Place(source, row) for digest, row in digests if digest in wanted and any(digest)}


def require_canaries(
    stores: Sequence[RunStore],
    sources: Sequence[StoreReader],
    compute: Callable[[RunStore, Mapping[str, np.ndarray]], dict[str, np.ndarray]],
    listener: Listener,
) -> None:
    """Recompute the canaries of every source that features are taken from.

    Raises:
        StoreError: the extractor gives other numbers here, or a source has no canaries.
    """
    for store in stores:
        for number in sorted({place.source for place in store.places.values()} - {-1}):
            source = sources[number]
            stored = source.canaries()
            if not stored:
                raise StoreError(
                    f"{source.path} has no canaries, so nothing shows that its numbers are those made here."
                )
            if text := compare_canaries(source.path, stored, compute(store, stored), store.card.tolerance):
                listener(Warned(text))


@dataclass(frozen=True)
class Reuse:
    """What features may be taken from: the audio as it is now, and the other stores."""

    census: Census
    sources: Sequence[StoreReader]


class Copier:
    """Fills jobs with the features that are there, read and verified in the driver."""

    def __init__(self, stores: Sequence[RunStore], reuse: Reuse, listener: Listener) -> None:
        self._stores = {store.meta.name: store for store in stores}
        self._sources, self._census, self._listener = reuse.sources, reuse.census, listener
        self._own: dict[str, StoreReader] = {}
        self.n_copied: Counter[str] = Counter()

    def __enter__(self) -> Copier:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._own.values():
            reader.close()

    def fill(self, job: ShardJob) -> ShardJob:
        """The job with all that could be copied; the rest of what was planned is computed."""
        return replace(job, outputs=tuple(self._fill(job, output) for output in job.outputs))

    def _fill(self, job: ShardJob, output: OutputJob) -> OutputJob:
        if not output.planned:
            return output
        store = self._stores[output.target.name]
        first = job.shard * output.target.shard_clips
        rows = np.array(sorted(output.planned))
        places = [store.places[first + row] for row in rows.tolist()]
        source, at = (np.array(column) for column in zip(*((p.source, p.row) for p in places), strict=True))
        parts = [self._take(store, first, rows[source == k], _Part(k, at[source == k])) for k in np.unique(source)]
        copied = _join(parts, output)
        if lost := len(rows) - len(copied.rows):
            self._listener(Warned(f"{store.meta.name}: {lost} clips of shard {job.shard} are damaged; computed anew."))
        self.n_copied[store.meta.name] += len(copied.rows)
        return replace(output, planned=frozenset(copied.rows.tolist()), copied=copied if len(copied.rows) else None)

    def _take(self, store: RunStore, first: int, rows: np.ndarray, part: _Part) -> Copied:
        """What one source has for some rows of a shard, as far as it gives its digest."""
        reader = self._sources[part.source] if part.source >= 0 else self._reader(store)
        arrays, at = store.arrays if part.source < 0 else reader.arrays, part.rows
        features, there = _read(reader, at)
        rows, at = rows[there], at[there]
        failure = arrays.failure[at].tolist()
        state = arrays.state[at]
        pending = np.flatnonzero(state == State.PENDING).tolist()
        state[pending] = [state_before(failure[k]) for k in pending]
        found = digest_clips(arrays.clip_id[at].tolist(), state, failure, arrays.n_frames[at], features)
        good = np.flatnonzero((found == arrays.clip_digest[at]).all(axis=1))
        rows, at = rows[good], at[good]
        files = arrays.file_digest[at]
        for k in np.flatnonzero((at != first + rows) | (part.source >= 0)).tolist():  # the audio may be another file
            if digest := self._census.digest_of(str(store.arrays.clip_id[first + rows[k]])):
                files[k] = np.frombuffer(digest, np.uint8)
        return Copied(
            rows=rows, features=features[good], n_frames=arrays.n_frames[at], state=state[good],
            failure=tuple(failure[k] for k in good.tolist()), file_digest=files,
            samples_digest=arrays.samples_digest[at],
        )  # fmt: skip

    def _reader(self, store: RunStore) -> StoreReader:
        if store.meta.name not in self._own:
            self._own[store.meta.name] = open_store(working_path(store.path))
        return self._own[store.meta.name]


@dataclass(frozen=True, eq=False)
class _Part:
    """Rows of one source."""

    source: int
    rows: np.ndarray


def _read(reader: StoreReader, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features of the rows that can be read, and the places of those among all."""
    try:
        return reader.read(rows), np.arange(len(rows))
    except (StoreError, IndexError):
        pass
    found: dict[int, np.ndarray] = {}
    for place, row in enumerate(rows.tolist()):
        with suppress(StoreError, IndexError):
            found[place] = reader.read(np.array([row]))[0]
    features = np.stack(list(found.values())) if found else np.empty((0, *reader.shape[1:]), reader.dtype)
    return features, np.array(list(found), np.int64)


def _join(parts: Sequence[Copied], output: OutputJob) -> Copied:
    """All parts of a shard, in the order of its rows."""
    order = np.argsort(np.concatenate([part.rows for part in parts]))
    failure = [text for part in parts for text in part.failure]
    names = ("rows", "features", "n_frames", "state", "file_digest", "samples_digest")
    made = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}
    made["features"] = made["features"].astype(np.dtype(output.target.dtype), copy=False)
    return Copied(**made, failure=tuple(failure[k] for k in order.tolist()))
