"""The small arrays: read as far as they can be, and held to what they must keep to."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.stores.checking.blocks import Facts
from pipeline.stores.checking.report import Log
from pipeline.stores.digests import digest_content
from pipeline.stores.reader import ClipArrays, all_differ
from pipeline.stores.schema import CLIP_ARRAYS, DAMAGE, MAX_STRING, State, StoreMeta, make_fingerprint
from pipeline.stores.schema import fingerprint_fields as fields_of

CHECK = "small arrays"
#: Without these nothing can be said of a clip's features.
NEEDED = ("clip_id", "n_frames", "state", "failure", "clip_digest")
_NAMED = 20

#: Gives rows of a small array; raises one of ``DAMAGE`` where they cannot be read.
ReadRows = Callable[[slice], np.ndarray]


@dataclass(frozen=True, eq=False)
class Small:
    """The small arrays as far as they can be read.

    ``unknown`` has by name a mask of the rows that could not be read; they hold zeros or ``""``.
    """

    arrays: ClipArrays
    unknown: Mapping[str, np.ndarray]

    def facts(self) -> Facts:
        """What features are checked against."""
        usable = np.ones(len(self.arrays.clip_id), bool)
        for name in NEEDED:
            if name in self.unknown:
                usable &= ~self.unknown[name]
        return Facts(self.arrays, usable)


def read_small(readers: Mapping[str, tuple[ReadRows, int]], n: int, log: Log) -> Small:
    """Read all arrays in steps; a step that is damaged is left out and named.

    Args:
        readers: by name, how rows are read, and how many at once.
        n: clips of the store.
    """
    arrays = ClipArrays.pending(np.full(n, "", object))
    unknown: dict[str, np.ndarray] = {}
    for name, (_, kind) in CLIP_ARRAYS.items():
        target = getattr(arrays, name)
        read, step = readers.get(name, (_nothing, n))
        for first in range(0, n, max(1, step)):
            rows = slice(first, min(first + step, n))
            try:
                value = read(rows)
                target[rows] = value if kind is str else np.asarray(value, kind)
            except DAMAGE as error:
                unknown.setdefault(name, np.zeros(n, bool))[rows] = True
                log.find(CHECK, name, f"rows {rows.start} to {rows.stop - 1} cannot be read: {_brief(error)}")
    return Small(arrays, unknown)


def _nothing(rows: slice) -> np.ndarray:
    raise ValueError("there is no usable array of this name")


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:200] + " ..."


def check_small(small: Small, frames: int, log: Log) -> None:
    """States, ids, counts and texts that contradict the schema, with the clips they are of."""
    arrays = small.arrays
    for rows, name, text in _contradictions(arrays, frames):
        mask = np.asarray(rows, bool)
        for array in NEEDED:
            if array in small.unknown:
                mask &= ~small.unknown[array]
        if mask.any():
            log.find(CHECK, name, text, [str(clip) for clip in arrays.clip_id[mask].tolist()])
    log.close(CHECK, f"schema, states, unique ids, frames within 0..{frames}, of {len(arrays.clip_id):,} clips")


def _contradictions(arrays: ClipArrays, frames: int) -> Iterator[tuple[np.ndarray, str, str]]:
    texts, ids = arrays.failure.tolist(), arrays.clip_id.tolist()
    failed, done = arrays.state == State.FAILED, arrays.state == State.DONE
    reason = _where(texts, bool)
    short = reason & _where(texts, lambda text: text.startswith("short: "), reason)
    yield _repeated(ids), "clip_id", "ids that stand more than once"
    yield _where(ids, lambda clip: not clip or len(clip) > MAX_STRING), "clip_id", "ids that are no short text"
    long = _where(texts, lambda text: len(text) > MAX_STRING, reason)
    yield long, "failure", f"texts beyond {MAX_STRING} characters"
    yield ~np.isin(arrays.state, list(State)), "state", "states other than 0, 1 and 2"
    outside = (arrays.n_frames < 0) | (arrays.n_frames > frames)
    yield outside, "n_frames", f"counts of valid frames outside 0..{frames}"
    yield failed & (arrays.n_frames != 0), "n_frames", "failed clips that claim valid frames"
    yield failed & (~reason | short), "failure", "failed clips without a reason"
    yield done & reason & ~short, "failure", "clips that are done, and have a reason why they failed"


def _where(texts: Sequence[str], holds: Callable[[str], bool], among: np.ndarray | None = None) -> np.ndarray:
    """[texts] bool: of which something holds, looked for in all or ``among`` some."""
    if among is None:
        return np.fromiter(map(holds, texts), bool, len(texts))
    found = np.zeros(len(texts), bool)
    rows = np.flatnonzero(among)
    found[rows] = [holds(texts[row]) for row in rows.tolist()]
    return found


def _repeated(ids: Sequence[str]) -> np.ndarray:
    if all_differ(ids):
        return np.zeros(len(ids), bool)
    counts = Counter(ids)
    return _where(ids, lambda clip: counts[clip] > 1)


def check_content(small: Small, meta: StoreMeta, log: Log) -> None:
    """Content digest and fingerprint, computed again."""
    pending = int((small.arrays.state == State.PENDING).sum())
    if meta.complete and pending:
        log.find("content digest", "zarr.json", f"the store says it is complete, and {pending:,} clips are pending")
    if not meta.complete:
        log.skip("content digest", "the store is not finished: it has none yet")
    elif any(name in small.unknown for name in ("clip_id", "clip_digest")):
        log.skip("content digest", "the clips' ids or digests are damaged")
    else:
        found = digest_content(small.arrays.clip_id.tolist(), small.arrays.clip_digest)
        if found != meta.content_digest:
            log.find(
                "content digest", "", f"the clips' digests give {found[:16]}..., the root attributes say "
                f"{meta.content_digest[:16] or 'nothing'}: clips were changed, added or lost, or the attribute was"
            )  # fmt: skip
        log.close("content digest", f"{found[:16]}... over {len(small.arrays.clip_id):,} clips' digests")
    try:
        found = make_fingerprint(fields_of(meta))
    except (ValueError, TypeError) as error:
        found = f"no fingerprint ({error})"
    if found != meta.fingerprint:
        log.find(
            "fingerprint", "", f"the root attributes give {found[:16]}..., and say {meta.fingerprint[:16]}...: some "
            "setting was changed, or the store was made by a program with other rules"
        )  # fmt: skip
    log.close("fingerprint", f"{meta.fingerprint[:16]}... from the root attributes")


def first_ids(ids: list[str]) -> str:
    """The first few ids, for a sentence."""
    shown = ", ".join(repr(clip) for clip in itertools.islice(ids, _NAMED))
    return shown + (f" and {len(ids) - _NAMED:,} more" if len(ids) > _NAMED else "")
