"""Shared places that fsspec reaches: object storage, web servers and others."""

from __future__ import annotations

import hashlib
import html
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import fsspec

from pipeline.errors import StoreError, require
from pipeline.files import sha256_of
from pipeline.stores.sharing.places import BLOCK, Advance, Place, Stream, digest_of, trying

#: One request of object storage: what a cut costs at most.
_REQUEST = 1 << 23
_PART = 1 << 24
_MOST_PARTS = 9000
_PARTS_AT_ONCE = 2
_ROUNDS, _ROUND_S = 20, 0.05
_CLIENT_TRIES = 2
_LISTING_BYTES = 1 << 20
_CONNECT_S, _SILENCE_S = 30, 60
_LINK = re.compile(r"""<a\s[^>]*?href\s*=\s*["']?([^"'\s>]+)""", re.IGNORECASE)
_PLAIN = {"Accept-Encoding": "identity"}


class RemotePlace(Place):
    """A folder at a URL.

    Raises:
        StoreError: no file system for such an address.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        scheme = address.partition("://")[0]
        self._web, self._s3 = scheme in ("http", "https"), scheme in ("s3", "s3a")
        try:
            self._files, self._root = fsspec.core.url_to_fs(address, **self._options())
        except (ValueError, ImportError) as error:
            raise StoreError(f"{address} cannot be used: {error}.") from error
        if self._s3:
            self._files.retries = 1

    def _options(self) -> dict[str, Any]:
        """Listings are never remembered; a web server may send as long as it sends."""
        if self._web:
            timeout = require("aiohttp", extra="http").ClientTimeout
            limits = timeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S)
            return {"use_listings_cache": False, "client_kwargs": {"timeout": limits}}
        if self._s3:  # tried again here, where a file goes on; three layers of patience would take minutes
            once = {"retries": {"mode": "standard", "total_max_attempts": _CLIENT_TRIES}, "connect_timeout": _CONNECT_S}
            return {"use_listings_cache": False, "config_kwargs": once}
        return {}

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else str(self._root)

    def read(self, name: str, most: int) -> bytes | None:
        """See :class:`Place`."""

        def work() -> bytes:
            if self._s3 and self._files.info(self._path(name))["size"] <= most:
                # In one request: an open object is bound to its tag, and fails when others replace it meanwhile.
                return bytes(self._files.cat_file(self._path(name)))[: most + 1]
            content = b""
            with self.stream(name) as (_, blocks):
                for block in blocks:
                    content += block
                    if len(content) > most:
                        break
            return content[: most + 1]

        try:
            return trying(self.below(name), work)
        except FileNotFoundError:
            return None

    def read_tail(self, name: str, n_bytes: int, size: int) -> bytes:
        """See :class:`Place`."""
        start = max(0, size - n_bytes)

        def work() -> bytes:
            with self.stream(name, start) as (at, blocks):
                return b"".join(blocks)[:n_bytes] if at == start else b""

        return trying(self.below(name), work)

    def read_range(self, name: str, start: int, stop: int) -> bytes | None:
        """See :class:`Place`."""

        def work() -> bytes | None:
            if not self._web:
                return bytes(self._files.cat_file(self._path(name), start=start, end=stop))
            headers = _PLAIN | {"Range": f"bytes={start}-{stop - 1}"}
            with self._files.open(self._path(name), "rb", block_size=0, size=1, headers=headers) as source:
                if source.r.status != 206:
                    return None
                return b"".join(iter(lambda: source.read(BLOCK), b""))

        content = trying(self.below(name), work)
        if content is not None and len(content) != stop - start:
            raise StoreError(f"{self.below(name)}: {stop - start:,} bytes were asked for, {len(content):,} came.")
        return content

    def size(self, name: str) -> int | None:
        """See :class:`Place`; of a web server, what it says when asked for the head alone."""
        try:
            about = trying(self.below(name), lambda: self._files.info(self._path(name)))
        except FileNotFoundError:
            return None
        size = about.get("size") if about.get("type", "file") == "file" else None
        return size if isinstance(size, int) and size >= 0 else None

    @contextmanager
    def stream(self, name: str, start: int = 0) -> Iterator[Stream]:
        """See :class:`Place`."""
        if not self._web:
            with self._files.open(self._path(name), "rb", block_size=_REQUEST, cache_type="none") as source:
                source.seek(start)
                yield start, iter(lambda: source.read(_REQUEST), b"")
            return
        headers = _PLAIN | ({"Range": f"bytes={start}-"} if start else {})
        with self._files.open(self._path(name), "rb", block_size=0, size=1, headers=headers) as source:
            ranged = start > 0 and source.r.status == 206
            if ranged and not source.r.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise StoreError(f"{self.below(name)}: the server gives other bytes than those it was asked for.")
            yield (start if ranged else 0), iter(lambda: source.read(BLOCK), b"")

    def holds(self, name: str, path: Path, sha256: str) -> bool:
        """See :class:`Place`; object storage is asked for its own digest before anything is read back."""
        if self.size(name) != path.stat().st_size:
            return False
        return self._tagged(name, path) or digest_of(self, name) == sha256

    def _tagged(self, name: str, path: Path) -> bool:
        """Whether S3's tag is that of these bytes: MD5, or MD5 of the parts' MD5s. Encrypted ones have others."""
        if not self._s3:
            return False
        tag = str(trying(self.below(name), lambda: self._files.info(self._path(name))).get("ETag", "")).strip('"')
        return bool(tag) and tag == tag_of(path)

    def put(self, name: str, path: Path, sha256: str, advance: Advance) -> None:
        """See :class:`Place`."""
        if sha256_of(path) != sha256:
            raise StoreError(f"{path} does not have its digest: damaged. Look with east store verify.")
        trying(self.below(name), lambda: self._put(name, path, advance))
        if not self.holds(name, path, sha256):
            raise StoreError(f"{self.below(name)} did not arrive as it was sent. Try again; what came is kept.")

    def _put(self, name: str, path: Path, advance: Advance) -> None:
        """Objects appear whole; elsewhere a file is sent under another name first."""
        there, callback = self._path(name), _Sent(advance)
        if self._s3:
            options = {"chunksize": part_bytes(path.stat().st_size), "max_concurrency": _PARTS_AT_ONCE}
            self._files.put_file(str(path), there, callback=callback, **options)
        elif self._files.async_impl:
            self._files.put_file(str(path), there, callback=callback)
        else:
            folder, _, last = there.rpartition("/")
            self._files.makedirs(folder, exist_ok=True)
            self._files.put_file(str(path), f"{folder}/.{last}.tmp", callback=callback)
            self._files.mv(f"{folder}/.{last}.tmp", there)

    def change(self, name: str, most: int, make: Callable[[bytes | None], bytes]) -> None:
        """See :class:`Place`; S3 is told to refuse if another writer came between."""
        for number in range(_ROUNDS):
            time.sleep(random.random() * _ROUND_S * number)
            tag = self._tag(name)
            content = make(self.read(name, most))
            if trying(self.below(name), partial(self._swap, name, content, tag)):
                return
        raise StoreError(f"{self.below(name)} is changed by others all the time. Try again.")

    def _tag(self, name: str) -> str | None:
        try:
            found = trying(self.below(name), lambda: self._files.info(self._path(name)))
        except FileNotFoundError:
            return None
        return str(found.get("ETag", ""))

    def _swap(self, name: str, content: bytes, tag: str | None) -> bool:
        """Write if the object is as it was; storage that knows no conditions just writes."""
        if not self._s3:
            if not self._files.async_impl:
                self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            self._files.pipe_file(self._path(name), content)
            return True
        conditions = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        try:
            self._files.pipe_file(self._path(name), content, **conditions)
        except Exception as error:
            if _code(error) in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
                return False
            if not (isinstance(error, NotImplementedError) or _code(error) == "NotImplemented"):
                raise
            self._files.pipe_file(self._path(name), content)
        return True

    def names(self, folder: str) -> list[str]:
        """See :class:`Place`."""
        if self._web:
            raise StoreError(f"{self.below(folder)}: a web server has no list of files that could be relied on.")
        try:
            found = trying(self.below(folder), lambda: self._files.find(f"{self._path(folder)}/"))
        except FileNotFoundError:
            return []
        return [str(path)[len(self._root) :].lstrip("/") for path in found]

    def entries(self, folder: str, most: int) -> list[str] | None:
        """See :class:`Place`; of a web server, the links of its page that lead into the folder."""
        if self._web:
            return self._links(folder, most)
        try:
            found = trying(self.below(folder), lambda: self._files.ls(self._path(folder), detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return None
        last = ((str(item["name"]).rstrip("/").rpartition("/")[2], item["type"] == "directory") for item in found)
        return sorted(f"{name}/" if is_folder else name for name, is_folder in last if name)[:most]

    def _links(self, folder: str, most: int) -> list[str] | None:
        base = f"{self.below(folder)}/"
        try:
            page = self.read(f"{folder}/" if folder else "/", _LISTING_BYTES)
        except StoreError:
            return None
        if page is None or b"<a" not in page.lower():
            return None
        found = set()
        for link in _LINK.findall(page.decode("utf-8", "replace")):
            url = urljoin(base, html.unescape(link))
            inside = unquote(urlsplit(url).path).removeprefix(unquote(urlsplit(base).path))
            if url.startswith(base) and re.fullmatch(r"[^/]+/?", inside) and not inside.startswith("."):
                found.add(inside)
        return sorted(found)[:most]

    def remove(self, name: str) -> None:
        """See :class:`Place`."""
        trying(self.below(name), lambda: self._files.rm_file(self._path(name)))


class _Sent(fsspec.Callback):  # type: ignore[misc]
    """What fsspec tells of a transfer, passed on."""

    def __init__(self, advance: Advance) -> None:
        super().__init__()
        self._advance = advance

    def relative_update(self, inc: int = 1) -> None:
        """So many bytes more."""
        self._advance(inc)


def part_bytes(n_bytes: int) -> int:
    """Bytes of each part in which a file is sent to S3, which takes ten thousand at most."""
    return max(_PART, -(-n_bytes // _MOST_PARTS))


def tag_of(path: Path) -> str:
    """The tag (ETag) that S3 gives a file of these bytes, sent in parts of :func:`part_bytes`."""
    n_bytes = path.stat().st_size
    part = part_bytes(n_bytes)
    parts = []
    with path.open("rb") as source:
        if n_bytes < 2 * part:
            return hashlib.md5(source.read(), usedforsecurity=False).hexdigest()
        while block := source.read(part):
            parts.append(hashlib.md5(block, usedforsecurity=False).digest())
    return f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"


def _code(error: BaseException | None) -> str:
    """The code of an S3 error, from the error or from what it was made of."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        error = error.__cause__
    return ""
