"""What is to be tagged: files, folders, and standard input as names or as audio."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipeline.datasets.scan import AUDIO_SUFFIXES, audio_files
from pipeline.errors import SettingError

__all__ = ["STANDARD_INPUT", "Input", "find_inputs"]

STANDARD_INPUT = "-"
_HEAD_BYTES = 4096
_MP3_STARTS = (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa")


@dataclass(frozen=True)
class Input:
    """A file by the name that people know it by, and where it lies."""

    name: str
    path: str


@contextmanager
def find_inputs(given: Sequence[str], stdin: BinaryIO | None = None) -> Iterator[list[Input]]:
    """Files as they are, folders as the audio files below them in order, ``-`` as what standard input holds.

    Standard input is a list of names, one per line, where its first bytes are text, and else one
    audio file, which is copied to a temporary file, since decoders seek.

    Raises:
        SettingError: a folder without audio, standard input that is empty or named twice.
    """
    if given.count(STANDARD_INPUT) > 1:
        raise SettingError("- is given twice; standard input can be read once.")
    with tempfile.TemporaryDirectory(prefix="east-") as folder:
        found: list[Input] = []
        for name in given:
            if name == STANDARD_INPUT:
                found += _from_stream(stdin, Path(folder))
            elif Path(name).is_dir():
                found += [Input(path, path) for path in _below(name)]
            else:
                found.append(Input(name, name))
        yield found


def _below(folder: str) -> list[str]:
    """Audio files below a folder, in order."""
    found = [str(Path(folder) / path) for path in audio_files(Path(folder))]
    if not found:
        raise SettingError(f"{folder} holds no audio files ({' '.join(name[1:] for name in AUDIO_SUFFIXES)}).")
    return found


def _from_stream(stream: BinaryIO | None, folder: Path) -> list[Input]:
    head = b"" if stream is None else _read_head(stream)
    if stream is None or not head.strip():
        raise SettingError("- was given, but standard input is empty; pipe names, one per line, or one audio file.")
    if _is_text(head):
        lines = (head + stream.read()).decode("utf-8", errors="surrogateescape").splitlines()
        return [Input(line, line) for line in lines if line.strip()]
    path = folder / ("audio.mp3" if head.startswith(_MP3_STARTS) else "audio")
    with path.open("wb") as copy:
        copy.write(head)
        shutil.copyfileobj(stream, copy)
    return [Input(STANDARD_INPUT, str(path))]


def _read_head(stream: BinaryIO) -> bytes:
    """A pipe may give less than is asked for at once."""
    head = b""
    while len(head) < _HEAD_BYTES and (part := stream.read(_HEAD_BYTES - len(head))):
        head += part
    return head


def _is_text(head: bytes) -> bool:
    """No byte that lines of names never hold; every audio format has one in its first kilobytes."""
    return not any(byte < 32 and byte not in b"\t\r\n" for byte in head)
