"""Two stores against each other, clip by clip, in blocks of bounded size."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, ignore
from pipeline.stores.opening import open_store
from pipeline.stores.reader import StoreReader
from pipeline.stores.schema import fingerprint_fields

Verdict = Literal["equal", "close", "different"]
EXIT_CODES: dict[Verdict, int] = {"equal": 0, "close": 10, "different": 11}
_FIELDS = ("state", "n_frames", "failure", "file_digest", "samples_digest")
#: Fields that say where a clip's numbers come from: they may differ while the numbers are the same.
_ORIGIN = {"file_digest", "samples_digest"}
_SHOWN = 10


@dataclass(frozen=True)
class Difference:
    """What differs. Clip ids are in the order of the left store.

    Numbers are compared, not bits: 0.0 and -0.0 are equal, a NaN equals a NaN.  A NaN against a number, or
    an infinity against anything else, is beyond every tolerance; ``largest`` is then infinite (null in JSON).

    Attributes:
        settings: fields of the fingerprint that differ, ``NAME: LEFT | RIGHT``.
        fields: by small array, the clips in which it differs.
        features: clips whose valid frames differ at all; ``beyond`` those beyond the tolerance.
        largest: largest absolute difference of a feature, at the clip ``largest_clip``.
        untrue: clips whose features differ, though both stores state the same digest.
    """

    verdict: Verdict
    n_both: int
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]
    settings: tuple[str, ...]
    fields: dict[str, tuple[str, ...]]
    features: tuple[str, ...]
    beyond: tuple[str, ...]
    largest: float
    largest_clip: str
    untrue: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 equal, 10 close, 11 different: errors of the command itself are 1 and 2."""
        return EXIT_CODES[self.verdict]

    def text(self) -> str:
        """Lines for people."""
        lines = [f"{self.verdict}: {self.n_both:,} clips in both"]
        parts = [("only left", self.only_left), ("only right", self.only_right)]
        parts += [(f"{name} differs", clips) for name, clips in self.fields.items()]
        parts += [("features differ", self.features), ("beyond the tolerance", self.beyond)]
        lines += [f"{name}: {_named(clips)}" for name, clips in parts if clips]
        lines += [f"settings differ: {text}" for text in self.settings]
        if self.untrue:
            lines.append(f"the same digest is stated for other features: {_named(self.untrue)} (east store verify)")
        if self.features:
            lines.append(f"largest difference: {self.largest:.3g}, in {self.largest_clip!r}")
        return "\n".join(lines)

    def as_json(self) -> str:
        """Everything, with all clips."""
        value = dataclasses.asdict(self) | {"largest": self.largest if math.isfinite(self.largest) else None}
        return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def _named(clips: Sequence[str]) -> str:
    more = f", ... and {len(clips) - _SHOWN:,} more" if len(clips) > _SHOWN else ""
    return f"{len(clips):,} clips: " + ", ".join(map(repr, clips[:_SHOWN])) + more


def diff_stores(
    left_path: str,
    right_path: str,
    *,
    rtol: float = 0.0,
    atol: float = 0.0,
    read: bool = False,
    listener: Listener = ignore,
) -> Difference:
    """Compare two stores by clip id; features only where the clips' digests differ, or of all clips with ``read``.

    Raises:
        StoreError: one of them is not there, damaged, or of another format.
    """
    with open_store(left_path) as left, open_store(right_path) as right:
        at = {clip_id: row for row, clip_id in enumerate(right.clip_id.tolist())}
        ids = left.clip_id.tolist()
        rows = np.array([row for row, clip_id in enumerate(ids) if clip_id in at], np.int64)
        others = np.array([at[ids[row]] for row in rows], np.int64)
        fields = _compare_fields(left, right, rows, others)
        numbers = _Numbers(rtol, atol, read)
        if left.shape[1:] == right.shape[1:]:
            numbers.compare(left, right, rows, others, listener)
        mine, theirs = fingerprint_fields(left.meta), fingerprint_fields(right.meta)
        settings = tuple(f"{key}: {mine[key]!r} | {theirs[key]!r}" for key in mine if mine[key] != theirs[key])
        both = {ids[row] for row in rows.tolist()}
        only_left = tuple(clip_id for clip_id in ids if clip_id not in both)
        only_right = tuple(clip_id for clip_id in right.clip_id.tolist() if clip_id not in both)
        apart = bool(only_left or only_right or set(fields) - _ORIGIN or left.shape[1:] != right.shape[1:])
        verdict: Verdict = "different" if apart or numbers.beyond else "close" if numbers.differing else "equal"
        return Difference(
            verdict, len(rows), only_left, only_right, settings, fields, tuple(numbers.differing),
            tuple(numbers.beyond), numbers.largest, numbers.largest_clip, tuple(numbers.untrue),
        )  # fmt: skip


def _compare_fields(
    left: StoreReader, right: StoreReader, rows: np.ndarray, others: np.ndarray
) -> dict[str, tuple[str, ...]]:
    found = {}
    for name in _FIELDS:
        differs = getattr(left.arrays, name)[rows] != getattr(right.arrays, name)[others]
        differs = differs.any(axis=1) if differs.ndim > 1 else differs
        if differs.any():
            found[name] = tuple(str(clip_id) for clip_id in left.clip_id[rows[np.flatnonzero(differs)]].tolist())
    return found


class _Numbers:
    """Collects where features differ."""

    def __init__(self, rtol: float, atol: float, read: bool) -> None:
        self.rtol, self.atol, self.read = rtol, atol, read
        self.differing: list[str] = []
        self.untrue: list[str] = []
        self.beyond: list[str] = []
        self.largest, self.largest_clip = 0.0, ""

    def compare(
        self, left: StoreReader, right: StoreReader, rows: np.ndarray, others: np.ndarray, listener: Listener
    ) -> None:
        """Read the clips whose digests differ; all, where that is asked for or the types differ."""
        same = (left.arrays.clip_digest[rows] == right.arrays.clip_digest[others]).all(axis=1)
        todo = np.flatnonzero(~same | (left.dtype != right.dtype) | self.read)
        listener(TaskStarted("compare", len(todo), "clips"))
        for first in range(0, len(todo), left.block_clips):
            part = todo[first : first + left.block_clips]
            mine = _valid(left, rows[part])
            theirs = _valid(right, others[part])
            ids, before = left.clip_id[rows[part]].tolist(), len(self.differing)
            self._take(ids, mine, theirs)
            told = set(self.differing[before:])
            self.untrue += [ids[k] for k in np.flatnonzero(same[part]).tolist() if ids[k] in told]
            listener(TaskAdvanced("compare", len(part)))
        listener(TaskFinished("compare"))

    def _take(self, ids: Sequence[str], mine: np.ndarray, theirs: np.ndarray) -> None:
        same = (mine == theirs) | (np.isnan(mine) & np.isnan(theirs))
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.abs(mine - theirs))
            difference[np.isnan(difference)] = np.inf
            over = ~same & (~np.isfinite(difference) | ~(difference <= self.atol + self.rtol * np.abs(theirs)))
        worst = difference.max(axis=(1, 2), initial=0.0)
        self.differing += [ids[row] for row in np.flatnonzero(worst > 0).tolist()]
        self.beyond += [ids[row] for row in np.flatnonzero(over.any(axis=(1, 2))).tolist()]
        if len(worst) and worst.max() > self.largest:
            self.largest, self.largest_clip = float(worst.max()), ids[int(worst.argmax())]


def _valid(reader: StoreReader, rows: np.ndarray) -> np.ndarray:
    """Features in float64, zero at and beyond the valid frames, whatever the store has there."""
    features = reader.read(rows).astype(np.float64)
    features[np.arange(features.shape[1]) >= reader.n_frames[rows][:, None]] = 0.0
    return features
