"""Decoding ahead of the networks: clips of a shard, in groups, at every rate that is wanted."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.audio.decode import AudioFile, Decoded, open_audio
from pipeline.audio.digest import file_digest, samples_digest
from pipeline.audio.samples import fit_clip, resample
from pipeline.audio.timing import n_samples
from pipeline.errors import (
    NOT_IN_TABLE_REASON,
    AudioError,
    AudioFormatError,
    AudioMissingError,
    AudioUnreadableError,
    DecoderDiedError,
)
from pipeline.extraction.jobs import ClipJob

View = tuple[int, int]
"""A rate in Hz and the number of a view."""

_AHEAD = 2


@dataclass
class ClipAudio:
    """One decoded clip.

    Shape:
        at_rate: by Hz, the samples [n_samples(clip_s)] float32 and how many of them are real.
        views: the same by Hz and number of the view.
    """

    at_rate: dict[int, tuple[np.ndarray, int]] = field(default_factory=dict)
    views: dict[View, tuple[np.ndarray, int]] = field(default_factory=dict)
    file_digest: bytes = bytes(32)
    samples_digest: bytes = bytes(32)
    short: str = ""
    error: AudioError | None = None
    skipped: bool = False

    def heard(self, rate_hz: int, view: int) -> tuple[np.ndarray, int]:
        """What an extractor hears of the clip: samples [n], and how many of them are real."""
        return self.views[rate_hz, view] if view else self.at_rate[rate_hz]


@dataclass(frozen=True)
class Wanted:
    """What is to be made of each clip: its length in seconds, the rates, and which views at which of them."""

    clip_s: float
    rates_hz: tuple[int, ...]
    views: tuple[View, ...] = ()


@dataclass
class Group:
    """Consecutive clips of a shard, decoded; ``decode_s`` is the time it took one thread."""

    first: int
    clips: list[ClipAudio]
    decode_s: float


def decode_groups(
    clips: Sequence[ClipJob],
    *,
    clip_s: float,
    rates_hz: Sequence[int],
    group_clips: int,
    dead: dict[int, str],
    n_threads: int = 1,
    skip: Set[int] = frozenset(),
    views: Sequence[View] = (),
) -> Iterator[Group]:
    """Groups in order, while threads decode the next ones.

    At most ``n_threads + 2`` groups are in memory, so memory does not grow with the shard.  Clips in
    ``skip`` are not touched.

    Args:
        views: which views are made besides, each at one of the rates.
    """
    wanted = Wanted(clip_s, tuple(rates_hz), tuple(views))
    with ThreadPoolExecutor(n_threads, thread_name_prefix="decode") as pool:
        waiting: deque[Future[Group]] = deque()
        firsts = iter(range(0, len(clips), group_clips))

        def submit() -> None:
            first = next(firsts, None)
            if first is not None:
                part = clips[first : first + group_clips]
                reasons = {row - first: reason for row, reason in dead.items()}
                left = frozenset(row - first for row in skip)
                waiting.append(pool.submit(_decode_group, first, part, wanted, dead=reasons, skip=left))

        try:
            for _ in range(n_threads + _AHEAD - 1):
                submit()
            while waiting:
                group = waiting.popleft().result()
                submit()
                yield group
        finally:
            for future in waiting:
                future.cancel()


def _decode_group(
    first: int, clips: Sequence[ClipJob], wanted: Wanted, *, dead: dict[int, str], skip: Set[int]
) -> Group:
    began = time.perf_counter()
    with _OneFile() as files:
        decoded = [
            _decode_or_not(files, clip, wanted, dead=dead.get(row), skip=row in skip) for row, clip in enumerate(clips)
        ]
    return Group(first, decoded, time.perf_counter() - began)


def _decode_or_not(files: _OneFile, clip: ClipJob, wanted: Wanted, *, dead: str | None, skip: bool) -> ClipAudio:
    if skip:
        return ClipAudio(skipped=True)
    if not clip.path:
        return ClipAudio(error=AudioMissingError(NOT_IN_TABLE_REASON))
    return decode_clip(files, clip, wanted) if dead is None else ClipAudio(error=DecoderDiedError(dead))


class _OneFile:
    """Keeps the last file open, since consecutive clips often come from the same one."""

    def __init__(self) -> None:
        self._path = ""
        self._file: AudioFile | None = None

    def __enter__(self) -> _OneFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, clip: ClipJob) -> Decoded:
        if clip.path != self._path or self._file is None:
            self.close()
            self._file, self._path = open_audio(clip.path), clip.path
        return self._file.read(clip.start_s, clip.duration_s)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def decode_clip(files: _OneFile, clip: ClipJob, wanted: Wanted) -> ClipAudio:
    """Decode, digest, resample and pad one clip, and make its views; its failure is kept, not raised."""
    try:
        decoded = files.read(clip)
        found = ClipAudio(short=decoded.short, file_digest=_digest_of(clip.path))
        found.samples_digest = samples_digest(decoded.samples, decoded.rate_hz)
        for rate_hz in wanted.rates_hz:
            at_rate = resample(decoded.samples, decoded.rate_hz, rate_hz)
            found.at_rate[rate_hz] = fit_clip(at_rate, n_samples(wanted.clip_s, rate_hz))
        if wanted.views:
            found.views = _views(found, wanted.views)
    except AudioError as error:
        return ClipAudio(error=error)
    except OSError as error:
        files.close()
        return ClipAudio(error=AudioUnreadableError(f"could not be read: {error.strerror or type(error).__name__}"))
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        files.close()  # one odd file must not end a run of a million
        return ClipAudio(error=AudioFormatError(f"its decoder failed with {type(error).__name__}: {_one_line(error)}"))
    return found


def _views(clip: ClipAudio, wanted: Sequence[View]) -> dict[View, tuple[np.ndarray, int]]:
    from pipeline.audio.views import make_view, view_seed  # SciPy's filters: only where they are needed

    seeds = {view: view_seed(clip.samples_digest, view) for _, view in wanted}
    return {(rate_hz, view): make_view(*clip.at_rate[rate_hz], rate_hz, seeds[view]) for rate_hz, view in wanted}


def _one_line(error: Exception) -> str:
    """What an unexpected error says, without folders: it is written into shared stores."""
    return " ".join(word.rpartition("/")[2] for word in str(error).split())[:200]


def _digest_of(path: str) -> bytes:
    """Digest of a file's bytes, read again only when its size or time changed."""
    if "://" in path:
        return file_digest(path)
    status = Path(path).stat()
    return _digest_once(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=512)
def _digest_once(path: str, size: int, mtime_ns: int) -> bytes:
    return file_digest(path)
