"""The digest list of a Zarr store: every file's SHA-256, in the format of ``sha256sum``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.files import sha256_of
from pipeline.stores.guard import MAX_SUMS_BYTES, read_file
from pipeline.stores.journal import JOURNAL
from pipeline.stores.lease import LEASE
from pipeline.texts import shown

SUMS = "features/SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)")
_OUTSIDE = {SUMS, LEASE, JOURNAL}


def collect(folder: Path, *, known: Mapping[str, str], root: bytes, without: Collection[str] = ()) -> dict[str, str]:
    """Digests of all files of a store by path inside it.

    Shards are large and already digested when they were written: their digests come from
    ``known``, then from the list that is there; only what neither has is read.

    Args:
        known: digests of shards by path inside the store.
        root: what the root's ``zarr.json`` is about to hold.
        without: files that are left out, since they are about to be written.
    """
    before = read(folder)
    lines = {"zarr.json": hashlib.sha256(root).hexdigest()}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name in _OUTSIDE or name in lines or name in without or not path.is_file() or path.name.startswith("."):
            continue
        shard = name.startswith("features/c.")
        lines[name] = known.get(name) or (before.get(name) if shard else None) or sha256_of(path)
    return lines


def listing(digests: Mapping[str, str]) -> bytes:
    """The list itself, sorted by name."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def read(folder: Path) -> dict[str, str]:
    """Digest by path inside the store; empty where there is no list.

    Raises:
        StoreError: it is no text, too large, or names a file that lies elsewhere.
    """
    path = folder / SUMS
    try:
        return parse(read_file(path, MAX_SUMS_BYTES), str(path))
    except FileNotFoundError:
        return {}


def parse(content: bytes, path: str) -> dict[str, str]:
    """Digest by path inside the store, from a list that may come from anyone.

    Raises:
        StoreError: it is no text, too large, or names a file that lies elsewhere.
    """
    if len(content) > MAX_SUMS_BYTES:
        raise StoreError(f"{path} has {len(content):,} bytes, at most {MAX_SUMS_BYTES:,} are read: forged.")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise StoreError(f"{path} is not UTF-8: damaged or forged.") from None
    found = {name: digest for digest, name in _LINE.findall(text)}
    for name in found:
        if name.startswith("/") or "\\" in name or not name.isprintable() or {"", ".", ".."} & set(name.split("/")):
            raise StoreError(f"{path} lists {shown(name)}, which is no file inside the store: damaged or forged.")
    return found
