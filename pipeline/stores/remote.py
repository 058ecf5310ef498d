"""A remote store's features, kept in a local cache block by block as they are read.

The cached file of a shard has the size of the remote one, and holes where nothing was fetched yet.
What is there needs no book-keeping: every chunk is followed by its checksum, and a hole, zeros
throughout, never has the right one.  So a chunk whose checksum fails is fetched.  Chunks are also
held to their clips' digests, since a store may be replaced at its address while it is read; a file
that turns out wrong is removed and fetched once more.  Where a server gives whole files only, whole
shards are kept.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import platformdirs

from pipeline.errors import StoreError
from pipeline.stores.digests import digest_clips
from pipeline.stores.guard import MAX_DOCUMENT_BYTES
from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import State, StoreMeta
from pipeline.stores.shards import MappedShard, is_sound, shard_bytes, shard_key, tail_bytes
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

    def __init__(self, url: str, meta: StoreMeta, arrays: ClipArrays) -> None:
        self.url, self._meta, self._arrays = url.rstrip("/"), meta, arrays
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
        path, fault = self.folder / name, None
        try:
            for _ in range(2):
                self._obtain(name, path, inside)
                fault = self._fault(shard, path, inside)
                if fault is None:
                    return path
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            return None
        except OSError as error:
            where = f"{self.folder} ({CACHE_VARIABLE} names another place)"
            raise StoreError(f"{self.url}/{name} cannot be kept in {where}: {error}") from error
        raise fault or StoreError(f"{self.url}/{name} cannot be read.")

    def _obtain(self, name: str, path: Path, inside: list[int]) -> None:
        """The file with chunks in it, as far as the place gives them."""
        if not path.exists() and (2 * len(inside) >= self._chunks or not self._sketch(name, path)):
            self._fetch(name, path)
        try:
            mapped = self._mapped(path)
        except StoreError:  # damaged: the caller will notice
            return
        self._fill(name, path, mapped, inside)

    def _fault(self, shard: int, path: Path, inside: list[int]) -> StoreError | None:
        """What is wrong with chunks in the cache: a checksum, or features that are not those of their clips."""
        try:
            mapped = self._mapped(path)
            for number in inside:
                self._require_own(shard, number, mapped.chunk(number))
        except StoreError as error:
            return error
        return None

    def _require_own(self, shard: int, number: int, features: np.ndarray) -> None:
        first = shard * self._meta.shard_clips + number * self._meta.chunk_clips
        arrays, rows = self._arrays, slice(first, min(first + self._meta.chunk_clips, len(self._arrays.clip_id)))
        ids, failure, done = (
            arrays.clip_id[rows].tolist(),
            arrays.failure[rows].tolist(),
            arrays.state[rows] == State.DONE,
        )
        found = digest_clips(ids, arrays.state[rows], failure, arrays.n_frames[rows], features[: len(ids)])
        if not np.array_equal(found[done], arrays.clip_digest[rows][done]):
            raise StoreError(
                f"{self.url}: the features of clips {ids[0]!r} to {ids[-1]!r} are not those that their digests "
                "promise: the store was replaced at its address since it was opened, or is damaged. Open it again."
            )

    def _mapped(self, path: Path) -> MappedShard:
        meta = self._meta
        shape = (meta.chunk_clips, meta.frames, meta.channels)
        return MappedShard(path, chunk_shape=shape, shard_clips=meta.shard_clips, dtype=np.dtype(meta.dtype))

    def _fetch(self, name: str, path: Path) -> None:
        """A whole shard."""

        def work() -> None:
            with _keeping(path) as draft, draft.open("wb") as sink, self._place.stream(name) as (_, blocks):
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
        with _keeping(path) as draft, draft.open("wb") as sink:
            sink.truncate(size)
            sink.seek(size - len(tail))
            sink.write(tail)
        return True

    def _fill(self, name: str, path: Path, mapped: MappedShard, inside: list[int]) -> None:
        """Fetch the chunks that are not there yet; each is written once its checksum is right."""
        missing = [mapped.span(number) for number in inside if not mapped.has(number)]
        with path.open("r+b") as sink:
            for first, stop in _joined(missing):
                content = self._place.read_range(name, first, stop)
                if content is None:  # the server has forgotten how
                    path.unlink()
                    self._fetch(name, path)
                    return
                for start, end in missing:
                    chunk = content[start - first : end - first] if first <= start < stop else b""
                    if chunk and is_sound(np.frombuffer(chunk, np.uint8)):
                        sink.seek(start)
                        sink.write(chunk)

    def _require_size(self, name: str, n_bytes: int) -> None:
        if n_bytes > self._most_bytes:
            raise StoreError(
                f"{self.url}/{name} has {n_bytes:,} bytes or more, a shard of this store at most {self._most_bytes:,}: "
                "damaged or forged."
            )


@contextmanager
def _keeping(path: Path) -> Iterator[Path]:
    """Publish a file unless another process has: its map must not lose the file that is filled."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield draft
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        except OSError:  # no hard links here
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of bytes in order, near ones as one."""
    found: list[tuple[int, int]] = []
    for first, stop in sorted(spans):
        if found and first - found[-1][1] <= _GAP_BYTES:
            found[-1] = found[-1][0], stop
        else:
            found.append((first, stop))
    return found
