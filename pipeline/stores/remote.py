"""A remote store's features, kept in a local cache block by block as they are read.

The cached file of a shard has the size of the remote one, and holes where nothing was fetched yet.
What is there needs no book-keeping: every chunk is followed by its checksum, and a hole, zeros
throughout, never has the right one.  So a chunk whose checksum fails is fetched, and one that came
damaged is noticed and fetched again next time.  Where a server gives whole files only, whole
shards are kept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import platformdirs

from pipeline.errors import StoreError
from pipeline.files import publishing
from pipeline.stores.guard import MAX_DOCUMENT_BYTES
from pipeline.stores.schema import StoreMeta
from pipeline.stores.shards import MappedShard, shard_bytes, shard_key, tail_bytes
from pipeline.stores.sharing.places import Place, find_place, trying

CACHE_VARIABLE = "EAST_STORE_CACHE"
_FEATURES = "features"
_AT_ONCE = 8
#: Chunks so near to each other are fetched by one request, with what lies between.
_GAP_BYTES = 1 << 16


class RemoteShards:
    """Shards of one finished remote store, by number.

    The cache folder is named by a digest of address, uuid and content, so that a store that
    changed at its address is fetched anew.
    """

    def __init__(self, url: str, meta: StoreMeta) -> None:
        self.url, self._meta = url.rstrip("/"), meta
        key = hashlib.sha256("\n".join((self.url, meta.uuid, meta.content_digest)).encode()).hexdigest()[:32]
        base = os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_path("east") / "stores"
        self.folder = Path(base) / key
        self._found: tuple[int, Place] = os.getpid(), find_place(self.url)
        self._chunks = meta.shard_clips // meta.chunk_clips
        self._most_bytes = shard_bytes(self._chunks, meta.chunk_clips * meta.clip_bytes)

    @property
    def _place(self) -> Place:
        """The store's place; a connection does not survive a fork, so a child has its own."""
        if self._found[0] != os.getpid():
            self._found = os.getpid(), find_place(self.url)
        return self._found[1]

    def document(self) -> bytes | None:
        """The array document of ``features``; None where there is none.

        Raises:
            StoreError: the connection failed.
        """
        return self._place.read(f"{_FEATURES}/zarr.json", MAX_DOCUMENT_BYTES)

    def bring(self, wanted: dict[int, list[int]]) -> dict[int, Path | None]:
        """See to it that chunks of shards are in the cache, several shards at once.

        Args:
            wanted: numbers of chunks inside each shard.

        Returns:
            the cached file of each shard; None where the store has no such shard.

        Raises:
            StoreError: the connection failed, the disk is full, or the shard is not what it should be.
        """
        if len(wanted) == 1:
            return {shard: self._bring_one(shard, inside) for shard, inside in wanted.items()}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(wanted, pool.map(self._bring_one, wanted, wanted.values()), strict=True))

    def _bring_one(self, shard: int, inside: list[int]) -> Path | None:
        name = f"{_FEATURES}/{shard_key(shard)}"
        path = self.folder / name
        try:
            if not path.exists():
                most = 2 * len(inside) >= self._chunks
                if most or not self._sketch(name, path):
                    self._fetch(name, path)
                    return path
            self._fill(name, path, inside)
        except FileNotFoundError:
            return None
        except OSError as error:
            where = f"{self.folder} ({CACHE_VARIABLE} names another place)"
            raise StoreError(f"{self.url}/{name} cannot be kept in {where}: {error}") from error
        return path

    def _fetch(self, name: str, path: Path) -> None:
        """A whole shard."""

        def work() -> None:
            with publishing(path) as draft, draft.open("wb") as sink, self._place.stream(name) as (_, blocks):
                for block in blocks:
                    sink.write(block)
                    self._require_size(name, sink.tell())

        trying(f"{self.url}/{name}", work)

    def _sketch(self, name: str, path: Path) -> bool:
        """A file of holes with the index at its end; False where only whole files can be had."""
        size = self._place.size(name)
        if size is None:
            return False
        self._require_size(name, size)
        tail = self._place.read_range(name, max(0, size - tail_bytes(self._chunks)), size)
        if tail is None:
            return False
        with publishing(path) as draft, draft.open("wb") as sink:
            sink.truncate(size)
            sink.seek(size - len(tail))
            sink.write(tail)
        return True

    def _fill(self, name: str, path: Path, inside: list[int]) -> None:
        """Fetch the chunks that are not there yet."""
        meta = self._meta
        mapped = MappedShard(
            path,
            chunk_shape=(meta.chunk_clips, meta.frames, meta.channels),
            shard_clips=meta.shard_clips,
            dtype=np.dtype(meta.dtype),
        )
        spans = _joined(mapped.span(number) for number in inside if not mapped.has(number))
        with path.open("r+b") as sink:
            for first, stop in spans:
                content = self._place.read_range(name, first, stop)
                if content is None:  # the server has forgotten how
                    self._fetch(name, path)
                    return
                sink.seek(first)
                sink.write(content)

    def _require_size(self, name: str, n_bytes: int) -> None:
        if n_bytes > self._most_bytes:
            raise StoreError(
                f"{self.url}/{name} has {n_bytes:,} bytes or more, a shard of this store at most {self._most_bytes:,}: "
                "damaged or forged."
            )


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of bytes in order, near ones as one."""
    found: list[tuple[int, int]] = []
    for first, stop in sorted(spans):
        if found and first - found[-1][1] <= _GAP_BYTES:
            found[-1] = found[-1][0], stop
        else:
            found.append((first, stop))
    return found
