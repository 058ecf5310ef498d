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
from pipeline.errors import AudioError, AudioFormatError, AudioMissingError, AudioUnreadableError, DecoderDiedError
from pipeline.extraction.jobs import ClipJob

_AHEAD = 2
_NOT_IN_TABLE = "its clip is not in the clip table any more, and its features are not there to be kept"


@dataclass
class ClipAudio:
    """One decoded clip.

    Shape:
        at_rate: by Hz, the samples [n_samples(clip_s)] float32 and how many of them are real.
    """

    at_rate: dict[int, tuple[np.ndarray, int]] = field(default_factory=dict)
    file_digest: bytes = bytes(32)
    samples_digest: bytes = bytes(32)
    short: str = ""
    error: AudioError | None = None
    skipped: bool = False


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
) -> Iterator[Group]:
    """Groups in order, while threads decode the next ones.

    At most ``n_threads + 2`` groups are in memory, so memory does not grow with the shard.  Clips in
    ``skip`` are not touched.
    """
    with ThreadPoolExecutor(n_threads, thread_name_prefix="decode") as pool:
        waiting: deque[Future[Group]] = deque()
        firsts = iter(range(0, len(clips), group_clips))

        def submit() -> None:
            first = next(firsts, None)
            if first is not None:
                part = clips[first : first + group_clips]
                reasons = {row - first: reason for row, reason in dead.items()}
                left = frozenset(row - first for row in skip)
                rates = tuple(rates_hz)
                waiting.append(pool.submit(_decode_group, first, part, clip_s, rates, dead=reasons, skip=left))

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
    first: int,
    clips: Sequence[ClipJob],
    clip_s: float,
    rates_hz: tuple[int, ...],
    *,
    dead: dict[int, str],
    skip: Set[int],
) -> Group:
    began = time.perf_counter()
    with _OneFile() as files:
        decoded = [
            _decode_or_not(files, clip, clip_s, rates_hz, dead=dead.get(row), skip=row in skip)
            for row, clip in enumerate(clips)
        ]
    return Group(first, decoded, time.perf_counter() - began)


def _decode_or_not(
    files: _OneFile, clip: ClipJob, clip_s: float, rates_hz: tuple[int, ...], *, dead: str | None, skip: bool
) -> ClipAudio:
    if skip:
        return ClipAudio(skipped=True)
    if not clip.path:
        return ClipAudio(error=AudioMissingError(_NOT_IN_TABLE))
    return decode_clip(files, clip, clip_s, rates_hz) if dead is None else ClipAudio(error=DecoderDiedError(dead))


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


def decode_clip(files: _OneFile, clip: ClipJob, clip_s: float, rates_hz: tuple[int, ...]) -> ClipAudio:
    """Decode, digest, resample and pad one clip; its failure is kept, not raised."""
    try:
        decoded = files.read(clip)
        found = ClipAudio(short=decoded.short, file_digest=_digest_of(clip.path))
        found.samples_digest = samples_digest(decoded.samples, decoded.rate_hz)
        for rate_hz in rates_hz:
            at_rate = resample(decoded.samples, decoded.rate_hz, rate_hz)
            found.at_rate[rate_hz] = fit_clip(at_rate, n_samples(clip_s, rate_hz))
    except AudioError as error:
        return ClipAudio(error=error)
    except OSError as error:
        files.close()
        return ClipAudio(error=AudioUnreadableError(f"could not be read: {error.strerror or type(error).__name__}"))
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        files.close()  # one odd file must not end a run of a million
        return ClipAudio(error=AudioFormatError(f"its decoder failed with {type(error).__name__}: {_one_line(error)}"))
    return found


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
