"""A finished store to a shared place: what is there is left, the root's metadata come last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.events import Listener, Note, TaskAdvanced, TaskFinished, TaskStarted, ignore
from pipeline.files import sha256_of
from pipeline.stores import sums
from pipeline.stores.guard import MAX_DOCUMENT_BYTES
from pipeline.stores.making.deriving import require_finished
from pipeline.stores.opening import open_store
from pipeline.stores.schema import StoreMeta
from pipeline.stores.shards import shard_key
from pipeline.stores.sharing.places import Place
from pipeline.stores.zarr_store import FEATURES

ROOT = "zarr.json"
THREADS = 4
_BLOCK = 1 << 20


def push_store(source: Path, dest: str, *, replace: bool = False, listener: Listener = ignore) -> str:
    """Copy a store; returns its address. A second call goes on where the first was cut.

    Raises:
        StoreError: not a finished Zarr store, a file that does not have its digest, another store at
            the place, a connection that fails.
    """
    if not source.is_dir():
        raise StoreError(f"{source} is no Zarr folder. HDF5 stores are one file: copy it, or east store convert it.")
    with open_store(source) as reader:
        require_finished(reader)
        meta, n_clips = reader.meta, len(reader)
    name = meta.name
    place = Place(dest if dest.rstrip("/").endswith(".zarr") else f"{dest.rstrip('/')}/{name}.zarr")
    listed = sums.read(source)
    if ROOT not in listed or not (source / sums.SUMS).is_file():
        raise StoreError(f"{source} has no digest list ({sums.SUMS}): east store verify --repair writes it anew.")
    require_listed(listed, meta, n_clips, str(source))
    _clear(place, (source / ROOT).read_bytes(), replace)
    names = sorted(set(listed) - {ROOT})
    sizes = {name: _size(source, name) for name in (*names, ROOT)}
    task = f"push {name}"
    listener(TaskStarted(task, sum(sizes.values()) / 1e6, "MB"))
    with ThreadPoolExecutor(THREADS) as pool:
        sent = pool.map(lambda name: _send(source, place, name, listed[name]), names)
        for name, _ in zip(names, sent, strict=True):
            listener(TaskAdvanced(task, sizes[name] / 1e6))
    place.remove_others({*listed, sums.SUMS})
    _send(source, place, sums.SUMS, sha256_of(source / sums.SUMS))
    _send(source, place, ROOT, listed[ROOT])
    listener(TaskFinished(task))
    listener(Note(f"{len(names) + 2:,} files are at {place.address}, each read back with its digest."))
    return place.address


def require_listed(listed: Mapping[str, str], meta: StoreMeta, n_clips: int, where: str) -> None:
    """Every shard that a finished store has must be in its list: one that is missing would read as zeros.

    Raises:
        StoreError: names the first that is not.
    """
    keys = (f"{FEATURES}/{shard_key(shard)}" for shard in range(-(-n_clips // meta.shard_clips)))
    if missing := next((key for key in keys if key not in listed), ""):
        raise StoreError(
            f"{where}: the digest list does not name {missing}: damaged, forged, or not laid out as "
            "usual. Look with east store verify; east store convert writes it anew."
        )


def _clear(place: Place, root: bytes, replace: bool) -> None:
    """Nothing is there, or the same store; another one only when it may be replaced."""
    there = place.read(ROOT, MAX_DOCUMENT_BYTES)
    if there is None or there == root:
        return
    if not replace:
        raise StoreError(f"{place.address} holds another store already. Name another place, or add --replace.")
    place.remove(ROOT)


def _size(source: Path, name: str) -> int:
    try:
        return (source / name).stat().st_size
    except FileNotFoundError:
        raise StoreError(f"{source} lacks the file {name}: damaged. Look with east store verify.") from None


def _send(source: Path, place: Place, name: str, sha256: str) -> None:
    """One file, unless it is there with its digest; checked while it is sent, and read back."""
    if place.digest(name, _size(source, name)) == sha256:
        return

    def blocks() -> Iterator[bytes]:
        digest = hashlib.sha256()
        with (source / name).open("rb") as handle:
            while block := handle.read(_BLOCK):
                digest.update(block)
                yield block
        if digest.hexdigest() != sha256:
            raise StoreError(f"{source / name} is not what the digest list says: damaged. Look with east store verify.")

    place.write(name, blocks)
    if place.digest(name, _size(source, name)) != sha256:
        raise StoreError(f"{place.address}/{name} did not arrive as it was sent. Try again; what came is kept.")
