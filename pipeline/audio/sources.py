"""Decoders: open files that seek and give blocks of frames.

``DECODERS`` maps a suffix to what opens such files.  A module named in ``EAST_PLUGINS`` may bring
a ``DECODERS`` of its own; its suffixes go first.  Everything else is soundfile's, by content.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile as sf
from numpy.typing import NDArray

from pipeline.audio.streams import file_name, is_url, open_descriptor, open_stream
from pipeline.errors import AudioError, AudioFormatError, AudioTruncatedError, AudioUnsupportedError, MissingExtraError
from pipeline.registry import PLUGINS_VARIABLE

__all__ = ["DECODERS", "Source", "SourceOpener", "open_source"]

_MP3_PREROLL = 32 * 1_152
_UNKNOWN_FRAMES = 1 << 62
_AV_MODULE = "pipeline.audio.av_source"


class Source(Protocol):
    """An open file of audio.

    Attributes:
        rate_hz: its own rate.
        n_channels: its own channel count.
        n_frames: samples per channel as the decoder believes, or -1 where it does not know.
        format: what it is, in a word or two.
    """

    rate_hz: int
    n_channels: int
    n_frames: int
    format: str

    def seek(self, frame: int) -> None:
        """Go to a sample.

        Raises:
            AudioFormatError, AudioTruncatedError: the decoder cannot get there.
        """

    def read(self, n: int) -> NDArray[np.float32]:
        """The next frames, [at most n, channels]; none at the end.

        Raises:
            AudioFormatError, AudioTruncatedError: what follows does not decode.
        """

    def close(self) -> None:
        """Close the file."""


SourceOpener = Callable[[Path | str], Source]


def _open_av(path: Path | str) -> Source:
    """MP4, AAC and their kin, through the optional PyAV."""
    try:
        module = importlib.import_module(_AV_MODULE)
        return module.AvSource(path)  # type: ignore[no-any-return]
    except MissingExtraError as error:
        raise AudioUnsupportedError(
            "this format needs the optional decoder, pip install 'east-music[av]', "
            "or a conversion: ffmpeg -i INPUT -c:a flac OUTPUT.flac",
            name=file_name(path),
        ) from error


DECODERS: Mapping[str, SourceOpener] = MappingProxyType(
    dict.fromkeys((".m4a", ".m4b", ".mp4", ".aac", ".ac3", ".wma", ".webm", ".mka"), _open_av)
)


def open_source(path: Path | str) -> Source:
    """Open with the decoder of the suffix, of the content, or soundfile.

    Raises:
        AudioError: one of its kinds, see :mod:`pipeline.audio.decode`.
    """
    opener = _decoders().get(Path(file_name(path)).suffix.lower())
    if opener is None and _looks_like_mp4(path):
        opener = _open_av
    if opener is not None:
        return opener(path)
    return SoundFileSource(path)


def _decoders() -> dict[str, SourceOpener]:
    found = dict(DECODERS)
    for name in os.environ.get(PLUGINS_VARIABLE, "").split(","):
        if name.strip():
            found |= getattr(importlib.import_module(name.strip()), "DECODERS", {})
    return found


def _looks_like_mp4(path: Path | str) -> bool:
    """An MP4 brand, or an ADTS header of AAC, whatever the suffix says."""
    with open_stream(path) as stream:
        head = stream.read(12)
    return head[4:8] == b"ftyp" or head[:2] in (b"\xff\xf1", b"\xff\xf9")


class _Forward(sf.SoundFile):  # type: ignore[misc]
    """A sound file whose reads do not seek.

    soundfile seeks to where it already is after every read of a seekable file.  In an MP3 that
    throws away bits kept from earlier frames, and what follows comes out wrong without an error.
    """

    def seekable(self) -> bool:
        return False


class SoundFileSource:
    """WAV, FLAC, OGG, Opus, MP3, AIFF and the rest of what libsndfile reads."""

    def __init__(self, path: Path | str, stream: BinaryIO | None = None) -> None:
        self._name = file_name(path)
        self._descriptor, self._stream = -1, stream
        if stream is None and is_url(path):
            self._stream = open_stream(path)
        self._file = self._open_local(path) if self._stream is None else self._open_stream(self._stream)
        self.rate_hz = int(self._file.samplerate)
        self.n_channels = int(self._file.channels)
        self.n_frames = int(self._file.frames) if self._file.frames < _UNKNOWN_FRAMES else -1
        self.format = f"{self._file.format} {self._file.subtype}"

    def seek(self, frame: int) -> None:
        """Go to a sample; in an MP3 through some frames before it, whose left-over bits it needs."""
        early = max(0, frame - _MP3_PREROLL) if self.format.startswith("MP3") else frame
        try:
            self._file.seek(early)
            self._file.read(frame - early, dtype="float32")
        except sf.LibsndfileError as error:
            raise self._lost() from error

    def read(self, n: int) -> NDArray[np.float32]:
        """The next frames, [at most n, channels]."""
        try:
            block: NDArray[np.float32] = self._file.read(n, dtype="float32", always_2d=True)
        except sf.LibsndfileError as error:
            raise self._lost() from error
        return block

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._close_descriptor()
        if self._stream is not None:
            self._stream.close()

    def _close_descriptor(self) -> None:
        """Once and here alone.

        Left to libsndfile, it is closed on some failures and not on others; closing it again then
        closes what another thread has just opened under the same number.
        """
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _open_local(self, path: Path | str) -> Any:
        """By descriptor, so that no name is too odd; by path where only the suffix tells the format."""
        self._descriptor = open_descriptor(path)
        try:
            return _Forward(self._descriptor, closefd=False)
        except sf.LibsndfileError as error:
            self._close_descriptor()
            return self._open_by_suffix(path, error)

    def _open_by_suffix(self, path: Path | str, first: sf.LibsndfileError) -> Any:
        if Path(path).suffix.lower() in (".mp3", ".mp2"):
            try:
                return _Forward(os.fspath(path))
            except sf.LibsndfileError:
                pass
        raise _not_audio(self._name) from first

    def _open_stream(self, stream: BinaryIO) -> Any:
        try:
            return _Forward(stream)
        except sf.LibsndfileError as error:
            stream.close()
            raise _not_audio(self._name) from error

    def _lost(self) -> AudioError:
        """A decoder that gave up at the end of the file ran out of bytes; elsewhere, they are damaged."""
        if self._descriptor >= 0:
            at, size = os.lseek(self._descriptor, 0, os.SEEK_CUR), os.fstat(self._descriptor).st_size
            if at >= size:
                return AudioTruncatedError("the file ends in the middle of its audio", name=self._name)
        return AudioFormatError("damaged inside: its data do not decode", name=self._name)


def _not_audio(name: str) -> AudioFormatError:
    return AudioFormatError("not audio, or its header is damaged: no decoder knows it", name=name)
