"""NumPy's files from anyone: headers checked before anything of their size is read, nothing unpickled."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from pipeline.errors import StoreError
from pipeline.stores.guard import MAX_TEXT_BYTES, open_regular
from pipeline.stores.schema import MAX_CLIP_BYTES, MAX_CLIPS
from pipeline.texts import shown

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
#: What reading a damaged file or archive raises.
_DAMAGE = (OSError, zipfile.BadZipFile, RuntimeError, ValueError, EOFError, zlib.error)
_PICKLED = (
    "holds Python objects, which NumPy keeps as a pickle; a pickle can run any program and is never loaded. If you "
    "trust the file, write it once without: python -c \"import numpy as np; d = np.load('OLD.npz', allow_pickle=True); "
    "np.savez('NEW.npz', **{k: d[k].astype(str) if d[k].dtype == object else d[k] for k in d.files})\""
)


@dataclass(frozen=True)
class Header:
    """What the first bytes of an array say, and where its numbers begin."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    offset: int

    @property
    def n_bytes(self) -> int:
        """Of all its numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(handle: IO[bytes], where: str) -> Header:
    """The header at the handle's place.

    Raises:
        StoreError: it is no array of NumPy, holds Python objects, or its shape is absurd.
    """
    start = handle.tell()
    try:
        version = np.lib.format.read_magic(handle)
        shape, fortran, dtype = _HEADERS[version](handle)
    except (*_DAMAGE, KeyError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise StoreError(f"{where} is no array of NumPy ({shown(str(error))}): damaged, or another format.") from error
    if dtype.hasobject:
        raise StoreError(f"{where} {_PICKLED}")
    if len(shape) > 4 or any(type(n) is not int or not 0 <= n < 1 << 40 for n in shape):
        raise StoreError(f"{where} has shape {shape}: damaged or forged.")
    return Header(shape, fortran, dtype, handle.tell() - start)


def require_features(header: Header, where: str, axes: tuple[int, ...]) -> None:
    """Refuse what cannot be features: other numbers than plain ones, another count of axes, clips beyond 4 GiB.

    Raises:
        StoreError: says what was found and expected.
    """
    if header.dtype.kind not in "fiu":
        raise StoreError(f"{where} is of type {header.dtype}; features are whole or real numbers.")
    if len(header.shape) not in axes:
        raise StoreError(f"{where} has shape {header.shape}, expected {' or '.join(map(_AXES.__getitem__, axes))}.")
    whole = max(axes) == 3
    if whole and header.shape[0] > MAX_CLIPS:
        raise StoreError(f"{where} has {header.shape[0]:,} clips, at most {MAX_CLIPS:,} are read.")
    if math.prod(header.shape[1:] if whole else header.shape) * 8 > MAX_CLIP_BYTES:
        raise StoreError(f"{where} has shape {header.shape}: one clip would be beyond 4 GiB.")


_AXES = {1: "[channels]", 2: "[frames, channels]", 3: "[clips, frames, channels]"}


def read_all(handle: IO[bytes], header: Header, where: str, most: int = MAX_CLIP_BYTES) -> np.ndarray:
    """A whole small array.

    Raises:
        StoreError: it is larger than allowed, or the file ends early.
    """
    if header.n_bytes > most:
        raise StoreError(f"{where} has {header.n_bytes:,} bytes, at most {most:,} are read.")
    content = read_exactly(handle, header.n_bytes, where)
    return np.frombuffer(content, header.dtype).reshape(header.shape, order="F" if header.fortran else "C")


def read_exactly(handle: IO[bytes], n: int, where: str) -> bytes:
    """So many bytes.

    Raises:
        StoreError: the file ends early, or a compressed one is damaged.
    """
    try:
        content = handle.read(n)
    except _DAMAGE as error:
        raise StoreError(f"{where} is damaged: {error}") from error
    if len(content) < n:
        raise StoreError(f"{where} ends {n - len(content):,} bytes early: cut short.")
    return content


@contextmanager
def opened_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive of arrays.

    Raises:
        StoreError: it is none, or damaged.
    """
    with open_regular(path, follow=True) as handle:
        try:
            archive = zipfile.ZipFile(handle)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise StoreError(f"{path} is no archive of NumPy (.npz): {error}") from error
        with archive:
            yield archive


@contextmanager
def opened_member(archive: zipfile.ZipFile, name: str, where: str) -> Iterator[tuple[IO[bytes], Header]]:
    """One array of an archive, with its header read.

    Raises:
        StoreError: there is none of that name; the names are listed.
    """
    entry = f"{name}.npy"
    if entry not in archive.namelist():
        raise StoreError(f"{where} has no array {name!r}; it has {listed(array_names(archive))}.")
    try:
        handle = archive.open(entry)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
        raise StoreError(f"{where}: {name} cannot be read: {error}") from error
    with handle:
        yield handle, read_header(handle, f"{where}: {name}")


def array_names(archive: zipfile.ZipFile) -> list[str]:
    """Names of the arrays of an archive, in order."""
    return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def listed(names: list[str]) -> str:
    """At most ten names, for a message."""
    return ", ".join(shown(name, 40) for name in names[:10]) + (", ..." if len(names) > 10 else "") or "none"


def as_texts(values: np.ndarray, where: str) -> list[str]:
    """Ids of an array: texts, bytes in UTF-8, or whole numbers.

    Raises:
        StoreError: something else.
    """
    if values.ndim != 1 or values.dtype.kind not in "USiu":
        raise StoreError(f"{where} is {values.dtype} of shape {values.shape}, not a list of ids.")
    try:
        return [item.decode() if isinstance(item, bytes) else str(item) for item in values.tolist()]
    except UnicodeDecodeError:
        raise StoreError(f"{where} holds bytes that are no UTF-8.") from None


def read_ids(handle: IO[bytes], header: Header, where: str) -> list[str]:
    """Ids kept as an array."""
    return as_texts(read_all(handle, header, where, MAX_TEXT_BYTES * 4), where)
