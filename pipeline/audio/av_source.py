"""M4A, AAC and whatever else FFmpeg decodes, through the optional package PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.streams import file_name, open_stream
from pipeline.errors import AudioFormatError, require

__all__ = ["AvSource"]


class AvSource:
    """The first audio stream of a container.

    Raises:
        MissingExtraError: PyAV is not installed.
        AudioFormatError: FFmpeg knows no audio in it.
    """

    _container: Any
    _audio: Any

    def __init__(self, path: Path | str) -> None:
        self._av = require("av", extra="av")
        self._name = file_name(path)
        self._stream = open_stream(path)
        try:
            self._container: Any = self._av.open(self._stream)
            self._audio = self._container.streams.audio[0]
        except (self._av.FFmpegError, IndexError) as error:
            self._stream.close()
            raise AudioFormatError(
                "not audio, or its header is damaged: FFmpeg finds no sound", name=self._name
            ) from error
        self.rate_hz = int(self._audio.rate)
        self.n_channels = int(self._audio.channels)
        self.n_frames = self._stated_frames()
        self.format = f"{self._container.format.name} {self._audio.codec_context.name}"
        self._blocks = self._decode(0)
        self._rest = self._no_frames()

    def seek(self, frame: int) -> None:
        """Go to a sample: to a packet before it, then decode and drop."""
        self._blocks = self._decode(frame)
        self._rest = self._no_frames()

    def read(self, n: int) -> NDArray[np.float32]:
        """The next frames, [at most n, channels]."""
        while not len(self._rest):
            block = next(self._blocks, None)
            if block is None:
                return self._rest
            self._rest = block
        block, self._rest = self._rest[:n], self._rest[n:]
        return block

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._stream.close()

    def _open(self) -> None:
        """A fresh container: decoders start from nothing only there."""
        if self._container is not None:
            self._container.close()
        try:
            self._stream.seek(0)
            self._container = self._av.open(self._stream)
            self._audio = self._container.streams.audio[0]
        except (self._av.FFmpegError, IndexError) as error:
            self._stream.close()
            raise AudioFormatError(
                "not audio, or its header is damaged: FFmpeg finds no sound", name=self._name
            ) from error

    def _stated_frames(self) -> int:
        if self._audio.duration is not None:
            return round(float(self._audio.duration * self._audio.time_base * self.rate_hz))
        return -1

    def _decode(self, start: int) -> Iterator[NDArray[np.float32]]:
        """Blocks [frames, channels] from sample ``start`` on, half a second decoded before it to warm up."""
        base, origin = self._audio.time_base, self._audio.start_time or 0
        early = start - self.rate_hz // 2
        try:
            if early > 0:
                self._container.seek(origin + int(early / self.rate_hz / base), stream=self._audio)
            else:
                self._open()
            for frame in self._container.decode(self._audio):
                at = round((frame.pts - origin) * base * self.rate_hz)
                block = _floats(frame, self.n_channels)[max(0, start - at) :]
                if len(block):
                    yield block
        except self._av.FFmpegError as error:
            raise AudioFormatError("damaged inside: FFmpeg cannot decode it", name=self._name) from error

    def _no_frames(self) -> NDArray[np.float32]:
        return np.zeros((0, self.n_channels), dtype=np.float32)


def _floats(frame: Any, n_channels: int) -> NDArray[np.float32]:
    """Samples of any FFmpeg layout as [frames, channels] within [-1, 1]."""
    values: NDArray[Any] = frame.to_ndarray()
    block = values.T if frame.format.is_planar else values.reshape(-1, n_channels)
    if block.dtype.kind == "f":
        return np.asarray(block, dtype=np.float32)
    if block.dtype.kind == "u":
        return np.asarray((block.astype(np.float32) - 128) / 128, dtype=np.float32)
    return np.asarray(block / -float(np.iinfo(block.dtype).min), dtype=np.float32)
