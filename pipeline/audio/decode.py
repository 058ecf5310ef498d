"""The one decoder: segments of audio files as mono float32, in bounded memory.

What is *failed* and what is *short, kept, counted*, per clip (a segment of a file):

==========================================================  =========================================
the file                                                    the clip
==========================================================  =========================================
ends inside the segment, as its header promises             done; zero padding beyond the valid part
was cut off or does not decode inside the segment, and
- at least half of the promised segment came before         short: kept, counted, said in words
- less than half came before                                failed: truncated, or format (damaged)
was cut off beyond the segment                              done
was cut off where the segment ends, an unknown loss (OGG)   short: kept, counted, said in words
ends before the segment starts, as its header promises      failed: range
holds a NaN or an infinity inside the segment               failed: values
is missing, a folder, a link to nothing                     failed: missing
may not be read                                             failed: unreadable
has 0 bytes, or a header and no samples                     failed: empty
is not audio, or nobody can read its header                 failed: format
needs PyAV (M4A, AAC) and it is not installed               failed: unsupported
==========================================================  =========================================

Promises are read once per file, see :mod:`pipeline.audio.promise`.  MP3 promises are believed
within 3,000 samples, and MP3 samples after a seek equal those of reading on but for the last bit.
Damage inside an MP3 or OGG that the decoder steps over without a word moves what follows; it shows
only where the end of the file then comes early.  Formats other than WAV, AIFF, FLAC, OGG, Opus and
MP3 promise what their decoder says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from pipeline.audio.digest import file_digest, samples_digest
from pipeline.audio.mpeg import with_frame_count
from pipeline.audio.promise import read_promise
from pipeline.audio.quiet import decoders_quiet, quiet_decoders
from pipeline.audio.samples import Samples, fit_clip, mix_down, resample
from pipeline.audio.sources import DECODERS, SoundFileSource, Source, open_source
from pipeline.audio.streams import file_name, open_stream
from pipeline.audio.timing import n_samples, seconds
from pipeline.errors import (
    AudioEmptyError,
    AudioError,
    AudioFormatError,
    AudioRangeError,
    AudioTruncatedError,
    AudioValueError,
)

__all__ = [
    "DECODERS",
    "AudioFile",
    "AudioInfo",
    "Decoded",
    "decoders_quiet",
    "file_digest",
    "fit_clip",
    "open_audio",
    "probe",
    "quiet_decoders",
    "resample",
    "samples_digest",
]

_BLOCK, _FINE_BLOCK = 16_384, 1_024
_SKIP_S = 2.0
_KEEP_SHARE = 0.5


@dataclass(frozen=True)
class AudioInfo:
    """What a file is; ``duration_s`` is what its header promises."""

    rate_hz: int
    n_channels: int
    duration_s: float
    format: str


@dataclass(frozen=True)
class Decoded:
    """One segment.

    Shape:
        samples: [n], float32, mono, at the file's own ``rate_hz``.

    Attributes:
        short: empty, or in words why less than promised came.
    """

    samples: Samples
    rate_hz: int
    short: str = ""


class AudioFile:
    """An open file, kept open over consecutive segments. Not to be shared by threads.

    Raises:
        AudioError: see the table of this module.
    """

    def __init__(self, path: Path | str) -> None:
        self._path, self._name = path, file_name(path)
        with open_stream(path) as stream:
            self._promise = read_promise(stream, Path(self._name).suffix.lower())
        self._source: Source | None = self._open()
        self._position = 0
        try:
            self.info = self._describe(self._source)
        except AudioError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        if self._source is not None:
            self._source.close()
        self._source = None

    def read(self, start_s: float, duration_s: float) -> Decoded:
        """Decode one segment, mixed down to mono by the mean of its channels.

        Raises:
            AudioRangeError: it starts beyond the end, or is no segment at all.
            AudioTruncatedError, AudioFormatError: less than half of it is there.
            AudioValueError: a sample is not a finite number.
        """
        rate_hz = self.info.rate_hz
        start, wanted = n_samples(start_s, rate_hz), n_samples(duration_s, rate_hz)
        promised = self._promised(start, wanted)
        samples, cause = self._decode(start, wanted)
        short = self._judge(start, promised, len(samples), cause)
        _check_finite(samples, start, rate_hz, self._name)
        return Decoded(samples, rate_hz, short)

    def _open(self) -> Source:
        """The source; where an MP3 does not state its length, a stream that does."""
        source, promise = open_source(self._path), self._promise
        if not promise.tolerance or promise.n_frames is None:
            return source
        if not 0 <= source.n_frames < promise.n_frames - promise.tolerance:
            return source
        source.close()
        return SoundFileSource(self._path, with_frame_count(open_stream(self._path), promise.n_frames))

    def _describe(self, source: Source) -> AudioInfo:
        known = self._promise.n_frames if self._promise.n_frames is not None else source.n_frames
        n_frames = known if known >= 0 else self._count()
        if n_frames == 0 and self._promise.cut:
            raise AudioTruncatedError("the file was cut off before its first sample", name=self._name)
        if n_frames == 0:
            raise AudioEmptyError("a header and no samples behind it", name=self._name)
        self._n_frames = n_frames
        return AudioInfo(source.rate_hz, source.n_channels, seconds(n_frames, source.rate_hz), source.format)

    def _count(self) -> int:
        """Length of a stream whose header does not say: decode it once, keep nothing."""
        n_frames, source = 0, self._open()
        try:
            while n_block := len(source.read(_BLOCK)):
                n_frames += n_block
        except (AudioFormatError, AudioTruncatedError):
            return n_frames
        finally:
            source.close()
        return n_frames

    def _promised(self, start: int, wanted: int) -> int:
        """Samples of the segment that the header promises."""
        if start < 0 or wanted < 1:
            raise AudioRangeError(f"a segment of {wanted} samples from sample {start} is none", name=self._name)
        if self._promise.cut:
            return wanted
        left = self._n_frames - start
        if left <= 0:
            rate_hz = self.info.rate_hz
            raise AudioRangeError(
                f"the segment starts at {seconds(start, rate_hz):.3f} s, the file ends at "
                f"{seconds(self._n_frames, rate_hz):.3f} s; the table was made for another file",
                name=self._name,
            )
        return min(wanted, left)

    def _decode(self, start: int, wanted: int) -> tuple[Samples, AudioError | None]:
        """Up to ``wanted`` mono samples, and what ended them early if the decoder complained.

        The block it complained about is read again in small steps.
        """
        samples, error = self._read_on(start, wanted, _BLOCK)
        if error is None:
            return samples, None
        more, again = self._read_on(start + len(samples), min(wanted - len(samples), _BLOCK), _FINE_BLOCK)
        return (samples if again is None else np.concatenate([samples, more])), error

    def _read_on(self, start: int, wanted: int, n_block: int) -> tuple[Samples, AudioError | None]:
        blocks: list[Samples] = []
        n_left = wanted
        try:
            source = self._go_to(start)
            while n_left and source is not None:
                block = source.read(min(n_left, n_block))
                if not len(block):
                    break
                blocks.append(mix_down(block))
                self._position += len(block)
                n_left -= len(block)
        except (AudioFormatError, AudioTruncatedError) as error:
            self.close()
            return _join(blocks), error
        return _join(blocks), None

    def _go_to(self, start: int) -> Source | None:
        """The source at ``start``; None where the decoder has nothing there.

        A short way ahead is decoded and dropped, since seeking in an MP3 costs more.
        """
        if self._source is None:
            self._source, self._position = self._open(), 0
        source, ahead = self._source, start - self._position
        if 0 <= source.n_frames <= start:
            return None
        skip = _SKIP_S * source.rate_hz if source.format.startswith("MP3") else 0
        if not 0 <= ahead <= skip:
            source.seek(start)
            self._position = start
        while self._position < start:
            n_block = len(source.read(min(start - self._position, _BLOCK)))
            if not n_block:
                return None
            self._position += n_block
        return source

    def _judge(self, start: int, promised: int, n_there: int, cause: AudioError | None) -> str:
        """Empty for a whole segment, words for a short one, an error for one that is lost."""
        sure = promised
        if cause is None and not self._promise.cut:
            sure = min(promised, self._n_frames - self._promise.tolerance - start)
        if n_there > 0 and n_there >= sure:
            lost = self._promise.cut and start + n_there >= self._n_frames
            return "the file was cut off at the end of this clip; how much is lost is not known" if lost else ""
        if sure <= 0 and cause is None:
            raise AudioRangeError("the segment starts at the very end of the file", name=self._name)
        rate_hz = self.info.rate_hz
        there, whole = seconds(n_there, rate_hz), seconds(promised, rate_hz)
        why = cause.reason if cause is not None else "the file was cut off, or lost data inside"
        reason = f"{n_there:,} of {promised:,} promised samples ({there:.2f} of {whole:.2f} s): {why}"
        if n_there > 0 and n_there >= _KEEP_SHARE * promised:
            return reason
        kind = type(cause) if cause is not None else AudioTruncatedError
        raise kind(f"{reason}; copy or download it again", name=self._name) from cause


def open_audio(path: Path | str) -> AudioFile:
    """Open a local file or an address (``https://``, ``s3://``)."""
    return AudioFile(path)


def probe(path: Path | str) -> AudioInfo:
    """What a file is, from its headers.

    Raises:
        AudioError: it is not usable audio; the subclass says why.
    """
    with decoders_quiet(), AudioFile(path) as file:
        return file.info


def _join(blocks: list[Samples]) -> Samples:
    return np.concatenate(blocks) if blocks else np.zeros(0, dtype=np.float32)


def _check_finite(samples: Samples, start: int, rate_hz: int, name: str) -> None:
    finite = np.isfinite(samples)
    if finite.all():
        return
    first = int(np.argmin(finite))
    raise AudioValueError(
        f"samples that are not finite numbers: {len(samples) - int(finite.sum()):,}, the first at "
        f"{seconds(start + first, rate_hz):.3f} s; the program that wrote it divided by zero",
        name=name,
    )
