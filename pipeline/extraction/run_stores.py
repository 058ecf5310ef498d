"""The stores of one run: from a request on the command line to what is there and what is pending."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline import layout, registry, weights
from pipeline.audio.extractor import Extractor
from pipeline.audio.timing import n_samples
from pipeline.cards import ExtractorCard
from pipeline.errors import SettingError
from pipeline.events import Listener, Warned
from pipeline.extraction.canaries import compare_canaries
from pipeline.extraction.census import Census
from pipeline.extraction.jobs import ExtractorSpec, OutputJob, Place
from pipeline.extraction.plan import StorePlan
from pipeline.extraction.removed import renamed_rows
from pipeline.extraction.settings import ExtractSettings
from pipeline.extraction.task import load_extractor
from pipeline.manifest import TRAIN, ClipTable
from pipeline.stores import State, StoreMeta, StoreWriter, open_store
from pipeline.stores.dropping import drop_clips, settle
from pipeline.stores.pending import NOTHING, Update, kept_rows, look, pending_shards, preview
from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import Dtype, choose_sizes
from pipeline.stores.shrinking import Smaller, shrink
from pipeline.stores.target import target_of, working_path
from pipeline.weights.models import fetch_model


@dataclass
class RunStore:
    """One store of this run, from its preview to its writer.

    ``fresh`` says that it is not there yet, ``resumed`` that some of its clips are done.
    ``n_numbers`` is what a worker's network holds, in float32.  ``smaller`` is what the store is to
    become first, where clips are dropped.
    """

    card: ExtractorCard
    spec: ExtractorSpec
    path: Path
    meta: StoreMeta
    arrays: ClipArrays
    pending: list[int]
    resumed: bool
    n_numbers: int = 0
    fresh: bool = False
    update: Update = NOTHING
    places: dict[int, Place] = field(default_factory=dict)
    writer: StoreWriter | None = None
    smaller: Smaller | None = None

    @property
    def clip_ids(self) -> np.ndarray:
        """[clips] texts: the store's clips and those to be added, in the order of its rows."""
        return self.arrays.clip_id

    def plan(self) -> StorePlan:
        """What the plan needs to know."""
        job = OutputJob(self.spec, self.meta.output, target_of(self.path, self.meta))
        packed = working_path(self.path) != self.path
        numbers, copied = self.n_numbers, frozenset(self.places)
        dropped = None if self.smaller is None else self.smaller.n_dropped
        return StorePlan(job, self.clip_ids, tuple(self.pending), numbers, self.card.rate_hz, packed, copied, dropped)


def make_spec(request: str, settings: ExtractSettings, listener: Listener) -> ExtractorSpec:
    """What a request such as ``panns/clip`` names, with its weights fetched and verified.

    Raises:
        UnknownNameError: no such extractor.
        SettingError: no such output.
        WeightsError: the weights are not to be had.
    """
    name, outputs = registry.split_request(request)
    card = registry.find_extractor(name)
    chosen = outputs or card.default_outputs
    known = [output.name for output in card.outputs]
    if unknown := [output for output in chosen if output not in known]:
        raise SettingError(f"{name} has no output {unknown[0]!r}; it has {', '.join(known)}.")
    if card.subject:
        files = fetch_model(registry.subject_of(name), listener=listener)
    else:
        local = settings.weights if card.weights else None
        files = weights.fetch_all(card.weights, local=local, listener=listener)
    return ExtractorSpec(name, chosen, settings.mode, files, settings.batch_clips or card.batch_clips)


def preview_stores(whole: ClipTable, spec: ExtractorSpec, settings: ExtractSettings, census: Census) -> list[RunStore]:
    """One store per output, as it is now; nothing is touched.

    Raises:
        StoreError: a store is there that was made with other settings.
        SettingError: there are no clips that this extractor is to hear.
    """
    card = registry.find_extractor(spec.name)
    table = choose_clips(whole, card, spec.view)
    extractor = load_extractor(spec, "cpu")
    n_numbers = 2 * card.n_parameters + sum(getattr(part, "n_derived", 0) for part in extractor.modules())
    digests = tuple(weights.digest_of(path) for path in spec.weights)
    found = []
    for output in spec.outputs:
        path = layout.store_path(table.name, card.name, output, settings.format)
        meta = _make_meta(table, card, extractor, output, digests=digests, dtype=settings.dtype)
        there = look(path)
        update = Update(retry_failed=settings.retry_failed, batch_clips=spec.batch_clips)
        if there:
            gone = frozenset(there[1].clip_id.tolist()) - frozenset(table.clip_id.tolist())
            update = replace(update, changed=census.changed(there[1]), gone=gone)
        smaller = None
        if there and settings.removed == "drop":
            renamed = renamed_rows(there[1], census)
            smaller = shrink(there, meta, table.clip_id, renamed=renamed, batch_clips=spec.batch_clips)
            there = (smaller.meta, smaller.arrays) if smaller else there
        known, arrays = preview(path, meta, table.clip_id, there, update)
        pending = pending_shards(arrays, known.shard_clips)
        resumed = bool((arrays.state != State.PENDING).any() or kept_rows(arrays).any())
        fresh = not path.exists() and not working_path(path).exists()
        found.append(RunStore(card, spec, path, known, arrays, pending, resumed, n_numbers, fresh, update))
        found[-1].smaller = smaller
    return found


def choose_clips(table: ClipTable, card: ExtractorCard, view: int) -> ClipTable:
    """The clips of an extractor's stores: all, but for a teacher's views those that a probe may be fitted on.

    Raises:
        SettingError: no training clip has a known label.
    """
    if not view or card.kind != "teacher":
        return table
    chosen = table.select((table.split == TRAIN) & table.labelled())
    if not len(chosen):
        raise SettingError(
            f"--teacher-views: {table.name!r} has no clips of the split {TRAIN!r} with known labels, and teachers hear "
            "views of those alone, for their probes. Leave the option out, or give the clips splits and labels."
        )
    return chosen


def drop_removed(
    store: RunStore, again: Callable[[RunStore, Mapping[str, np.ndarray]], dict[str, np.ndarray]], listener: Listener
) -> None:
    """Write a store anew without the clips that left the table; first, if some are to be computed, its canaries agree.

    Raises:
        StoreError: the extractor gives other numbers here; what is there is damaged or is being written.
    """
    if store.smaller is None:
        return
    settle(working_path(store.path))
    there = next(place for place in (working_path(store.path), store.path) if place.exists())
    if store.pending:
        with open_store(there) as reader:
            stored = reader.canaries()
        if stored and (text := compare_canaries(str(store.path), stored, again(store, stored), store.card.tolerance)):
            listener(Warned(text))
    drop_clips(store.path, store.smaller, listener)


def _make_meta(
    table: ClipTable, card: ExtractorCard, extractor: Extractor, output: str, *, digests: tuple[str, ...], dtype: Dtype
) -> StoreMeta:
    about = card.output(output)
    frames = extractor.count_frames(output, n_samples(table.clip_s, card.rate_hz))
    clip_bytes = frames * about.channels * np.dtype(dtype).itemsize
    chunk_clips, shard_clips = choose_sizes(len(table), clip_bytes)
    return StoreMeta(
        extractor=card.name,
        output=output,
        mode=extractor.mode,
        card=card.as_dict(),
        weights_sha256=digests,
        rate_hz=card.rate_hz,
        hop_s=about.hop_s,
        window_s=about.window_s,
        offset_s=about.offset_s,
        frames=frames,
        channels=about.channels,
        dtype=dtype,
        clip_s=table.clip_s,
        chunk_clips=chunk_clips,
        shard_clips=shard_clips,
        fingerprint="",
        manifest_digest=table.digest(),
        dataset={key: table.card.get(key, "") for key in ("name", "version", "licence", "citation")}
        | {"name": table.name},
    )
