"""HDF5 behind limits: layout, filters and texts of a dataset checked before it is read.

HDF5 itself believes what a file says: a fill value is as good as data, a compressed chunk grows
until it ends, and a text may be referred to a million times.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from pipeline.errors import StoreError
from pipeline.stores import guard
from pipeline.stores.schema import DAMAGE, MAX_STRING
from pipeline.texts import shown

_DEFLATE, _SHUFFLE, _FLETCHER = 1, 2, 3
_CHECKSUM_BYTES = 4
#: Length (4 bytes), address (8) and number (4) of a text; each text lies in the file by itself.
_REFERENCE_BYTES = 16


def require_numbers(dataset: h5py.Dataset, where: str, name: str, kind: np.dtype | None = None) -> None:
    """Refuse a dataset of numbers that is of another type, or promises what its bytes cannot hold.

    Args:
        kind: its type; any plain numbers where it is None.

    Raises:
        StoreError: says what is odd.
    """
    found = dataset.dtype
    if dataset.shape is None or found.kind not in "iuf" or found.subdtype or (kind and found.newbyteorder("=") != kind):
        raise StoreError(f"{where}: {name} is of type {found}, expected {kind or 'plain numbers'}: damaged or forged.")
    filters = _filters(dataset, where, name)
    ratio = guard.MOST_DEFLATED if _DEFLATE in filters else 1
    stored = min(dataset.id.get_storage_size(), Path(dataset.file.filename).stat().st_size)
    guard.require_backed(where, name, int(dataset.size) * found.itemsize, stored, ratio)
    if dataset.chunks:
        guard.require_chunk(where, name, math.prod(dataset.chunks) * found.itemsize)
        pieces = [-(-n // size) for n, size in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)]
        if math.prod(pieces) > guard.MAX_CHUNKS:
            raise StoreError(f"{where}: chunks of {dataset.chunks} in {dataset.shape} are too many to be read: forged.")


def _filters(dataset: h5py.Dataset, where: str, name: str) -> list[int]:
    plist = dataset.id.get_create_plist()
    found = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    if odd := [number for number in found if number not in (_DEFLATE, _SHUFFLE, _FLETCHER)]:
        raise StoreError(f"{where}: {name} is stored with HDF5 filter {odd[0]}, which is not read.")
    if len(set(found)) != len(found):
        raise StoreError(f"{where}: {name} is stored with the same HDF5 filter twice: forged.")
    return found


def require_inflatable(dataset: h5py.Dataset, where: str, name: str, first: int, stop: int) -> None:
    """Refuse compressed chunks that inflate to more than a chunk, before HDF5 inflates them.

    Args:
        first, stop: rows whose chunks are looked at.

    Raises:
        StoreError: one does.
    """
    if dataset.compression is None:
        return
    about = h5py.check_string_dtype(dataset.dtype)
    item_bytes = _REFERENCE_BYTES if about and about.length is None else dataset.dtype.itemsize
    most = math.prod(dataset.chunks) * item_bytes + _CHECKSUM_BYTES
    for place in _places(dataset, first, stop):
        chunk = dataset.id.get_chunk_info_by_coord(place)
        if chunk.byte_offset is None:
            continue
        guard.require_chunk(where, name, chunk.size, 2 * most + guard.MAX_LEASE_BYTES)
        mask, raw = dataset.id.read_direct_chunk(place)
        try:
            n_bytes = 0 if mask else len(zlib.decompressobj().decompress(raw, most + 1))
        except zlib.error as error:
            raise StoreError(f"{where}: a chunk of {name} is damaged: {error}") from error
        if n_bytes > most:
            raise StoreError(f"{where}: a chunk of {name} inflates to more than the {most:,} bytes of a chunk: forged.")


def _places(dataset: h5py.Dataset, first: int, stop: int) -> Iterator[tuple[int, ...]]:
    inner = [range(0, n, size) for n, size in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)]
    for row in range(first - first % dataset.chunks[0], stop, dataset.chunks[0]):
        yield from ((row, *rest) for rest in itertools.product(*inner))


def require_texts(dataset: h5py.Dataset, where: str, name: str) -> None:
    """Refuse a dataset of texts by the lengths in the file, before HDF5 gathers the texts.

    Raises:
        StoreError: no plain list of texts, or more text than any store has.
    """
    about = h5py.check_string_dtype(dataset.dtype)
    if about is None or about.length is not None or dataset.chunks or dataset.ndim != 1:
        raise StoreError(f"{where}: {name} is no contiguous list of texts of any length, expected that: not read.")
    n = len(dataset)
    if not n:
        return
    n_bytes, offset = Path(dataset.file.filename).stat().st_size, dataset.id.get_offset()
    least = n * _REFERENCE_BYTES * (2 if name == "clip_id" else 1)
    if offset is None or offset + n * _REFERENCE_BYTES > n_bytes or least > n_bytes:
        raise StoreError(f"{where} claims {n:,} clips, but has no room for their {name}: damaged or forged.")
    with guard.open_regular(dataset.file.filename, follow=True) as handle:
        handle.seek(offset)
        raw = np.frombuffer(handle.read(n * _REFERENCE_BYTES), np.uint8).reshape(n, _REFERENCE_BYTES)
    lengths = np.ascontiguousarray(raw[:, :4]).view("<u4").astype(np.int64)
    if lengths.max() > 4 * MAX_STRING or lengths.sum() > guard.MAX_TEXT_BYTES + n * 1024:
        raise StoreError(f"{where}: the texts of {name} are longer than any store's: forged.")


def read_texts(dataset: h5py.Dataset, where: str, name: str) -> np.ndarray:
    """A dataset of texts, [n] objects; their lengths are looked at in the file before HDF5 gathers them.

    Raises:
        StoreError: no plain list of UTF-8 texts, or more text than any store has.
    """
    require_texts(dataset, where, name)
    if not len(dataset):
        return np.empty(0, object)
    try:
        return np.array([*(value.decode() for value in dataset[...].tolist()), None], object)[:-1]
    except UnicodeDecodeError:
        raise StoreError(f"{where}: a {name} is not valid UTF-8: damaged or forged.") from None
    except DAMAGE as error:
        raise StoreError(f"{where}: {name} is damaged: {shown(str(error))}") from error
