"""Rows gathered from chunks that lie mapped in memory: what both formats' readers share.

A Python step per row costs as much as copying a row, so the rows of one read are gathered by one
call of numpy.  It indexes by address: an array of row-sized items, one starting at every byte of
the part of the address space where chunks lie.  Only addresses of loaded chunks are ever looked up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np

#: The part of the address space that is indexed grows in steps of this many bytes.
_STEP = 1 << 36
_MOST_INDEXED = 1 << 63
_NOT_LOADED = np.iinfo(np.int64).min


class Loaded(NamedTuple):
    """A chunk in memory: where its rows begin, and what must live as long as it is read."""

    number: int
    address: int
    owner: object


class Loader(Protocol):
    """Brings chunks into memory, verified; called by one thread at a time."""

    def __call__(self, numbers: list[int], needed: np.ndarray, /) -> Iterable[Loaded]:
        """All these chunks; numbers ascend.

        Args:
            needed: numbers of chunks, these and others, that must not be let go of meanwhile.
        """


class Chunks:
    """Verified chunks by number; one is loaded, and verified, on first touch.

    Reads may run in several threads: what a read copies from stays mapped until it is done, also
    when another thread lets go of it.

    Args:
        n_chunks: chunks along the clip axis of the whole store.
        chunk_clips: clips of each.
        row_shape: frames, channels.
        dtype: of the rows as they lie in memory.
    """

    def __init__(
        self, n_chunks: int, chunk_clips: int, row_shape: tuple[int, int], dtype: np.dtype, *, load: Loader
    ) -> None:
        self._addresses = np.full(n_chunks, _NOT_LOADED)  # of the row 0 that a chunk would have, were it the only one
        self._owners: dict[int, object] = {}
        self._held_now: tuple[object, ...] | None = ()  # the owners, as reads hold them; None when they changed
        self._chunk_clips, self._row_shape, self._dtype, self._load = chunk_clips, row_shape, dtype, load
        self._row_bytes = int(np.prod(row_shape)) * dtype.itemsize
        self._lock, self._process = threading.Lock(), os.getpid()
        self._memory: _Memory | None = None

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """A copy of rows of the store, [len(rows), frames, channels].

        Raises:
            StoreError: a chunk could not be loaded, or its checksum is wrong.
        """
        if not len(rows):
            return np.zeros((0, *self._row_shape), self._dtype)
        number = rows // self._chunk_clips
        with self._held():
            starts = self._addresses[number]
            if starts.min() == _NOT_LOADED:
                self._touch(np.unique(number[starts == _NOT_LOADED]), number)
                starts = self._addresses[number]
            if self._held_now is None:
                self._held_now = tuple(self._owners.values())
            memory, owners = self._memory, self._held_now  # which hold what is mapped until the copy is made
        assert memory is not None
        found = memory.copy(starts + rows * self._row_bytes)
        del owners
        return found.view(self._dtype).reshape(len(rows), *self._row_shape)

    def evict(self, first: int, stop: int, owner: object) -> None:
        """Let go of an owner and its chunks; for a loader, which holds the lock."""
        self._addresses[first:stop] = _NOT_LOADED
        self._owners.pop(id(owner), None)
        self._held_now = None

    @contextmanager
    def letting_go(self) -> Iterator[None]:
        """Let go of all, and of what the body lets go of, before the next read; that loads anew."""
        with self._held():
            self._forget()
            yield

    @contextmanager
    def _held(self) -> Iterator[None]:
        """The lock; a child that was forked while a thread of its parent held it gets a new one."""
        if self._process != os.getpid():
            self._lock, self._process = threading.Lock(), os.getpid()
            self._forget()
        with self._lock:
            yield

    def _forget(self) -> None:
        self._addresses[:] = _NOT_LOADED
        self._owners.clear()
        self._held_now = None

    def _touch(self, numbers: np.ndarray, needed: np.ndarray) -> None:
        chunk_bytes = self._chunk_clips * self._row_bytes
        for chunk in self._load(numbers.tolist(), needed):
            if self._memory is None or not self._memory.covers(chunk.address, chunk_bytes):
                self._memory = _Memory.around(self._memory, chunk.address, chunk_bytes, item_bytes=self._row_bytes)
            if id(chunk.owner) not in self._owners:
                self._owners[id(chunk.owner)] = chunk.owner
                self._held_now = None
            self._addresses[chunk.number] = chunk.address - chunk.number * chunk_bytes


class _Memory:
    """A part of the address space as an array of raw items, one starting at every byte.

    Making it touches nothing; only the items that are asked for are read.
    """

    def __init__(self, first: int, stop: int, item_bytes: int) -> None:
        self.first, self.stop, self.item_bytes = first, stop, item_bytes
        whole = (stop - first) * item_bytes < _MOST_INDEXED  # numpy counts them so, though they overlap
        self._items = _items(first, stop - first, item_bytes) if whole else None

    @classmethod
    def around(cls, known: _Memory | None, address: int, n_bytes: int, *, item_bytes: int) -> _Memory:
        """The part that covers what a known one does, and some bytes more."""
        first, stop = address // _STEP * _STEP, -(-(address + n_bytes) // _STEP) * _STEP
        if known is not None:
            first, stop = min(first, known.first), max(stop, known.stop)
        return cls(max(first, 1), stop, item_bytes)

    def covers(self, address: int, n_bytes: int) -> bool:
        """Whether some bytes lie in this part."""
        return self.first <= address and address + n_bytes <= self.stop

    def copy(self, addresses: np.ndarray) -> np.ndarray:
        """Items at addresses, [n] raw bytes."""
        if self._items is not None:
            return np.asarray(self._items[addresses - self.first])
        found = np.empty(len(addresses), f"V{self.item_bytes}")
        for place, address in enumerate(addresses.tolist()):
            found[place] = _items(address, 1, self.item_bytes)[0]
        return found


class _Described:
    """What numpy asks for the description of memory."""

    def __init__(self, description: dict[str, object]) -> None:
        self.__array_interface__ = description


def _items(address: int, n_items: int, item_bytes: int) -> np.ndarray:
    """Items of raw bytes, one starting at each address."""
    shape, kind = {"shape": (n_items,), "strides": (1,)}, f"|V{item_bytes}"
    return np.asarray(_Described({"data": (address, True), "typestr": kind, "version": 3, **shape}))


def address_of(content: np.ndarray) -> int:
    """Where an array's first byte lies in memory."""
    return int(content.__array_interface__["data"][0])
