"""A store from a shared place: every file against its digest, published once it is whole."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.events import Listener, TaskAdvanced, TaskFinished, TaskStarted, ignore
from pipeline.files import publish_bytes, publishing, sha256_of, sync
from pipeline.stores import sums
from pipeline.stores.disk import writing
from pipeline.stores.guard import MAX_DOCUMENT_BYTES, MAX_SUMS_BYTES
from pipeline.stores.opening import open_store
from pipeline.stores.schema import StoreMeta, digest_content
from pipeline.stores.sharing.places import Place
from pipeline.stores.sharing.push import ROOT, THREADS, require_listed


def pull_store(url: str, dest: Path, *, listener: Listener = ignore) -> StoreMeta:
    """Fetch a Zarr store; a second call goes on where the first was cut.

    Raises:
        StoreError: no finished store at ``url``, something at ``dest``, a file that does not have its
            digest, a connection that fails, a disk that is full.
    """
    if dest.suffix != ".zarr" or not url.rstrip("/").endswith(".zarr"):
        raise StoreError(f"{url} to {dest}: Zarr stores are pulled, from and to names that end in .zarr.")
    if dest.exists():
        raise StoreError(f"{dest} is there already; nothing is overwritten. Remove it, or name another path.")
    place, work = Place(url), dest.with_name(f".{dest.name}.pull")
    root, content = place.read(ROOT, MAX_DOCUMENT_BYTES), place.read(sums.SUMS, MAX_SUMS_BYTES)
    if root is None or content is None:
        raise StoreError(f"{url} holds no finished store: it has no {ROOT if root is None else sums.SUMS}.")
    listed = sums.parse(content, f"{url}/{sums.SUMS}")
    if listed.get(ROOT) != hashlib.sha256(root).hexdigest():
        raise StoreError(f"{url}: {ROOT} is not what the digest list says: damaged, or being replaced right now.")
    names = sorted(set(listed) - {ROOT})
    listener(TaskStarted("pull", len(names), "files"))
    with writing(dest), ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(lambda name: _fetch(place, work, name, listed[name]), names):
            listener(TaskAdvanced("pull", 1))
        publish_bytes(work / sums.SUMS, content)
        publish_bytes(work / ROOT, root)
    listener(TaskFinished("pull"))
    _remove_others(work, {*listed, sums.SUMS})
    with open_store(work) as reader:
        meta = reader.meta
        require_listed(listed, meta, len(reader), url)
        if (
            not meta.complete
            or digest_content(reader.clip_id.tolist(), reader.arrays.clip_digest) != meta.content_digest
        ):
            raise StoreError(f"{url} is not a finished store whose content has the digest it states. Ask its owners.")
    with writing(dest):
        work.rename(dest)
        sync(dest.parent)
    return meta


def _remove_others(work: Path, listed: set[str]) -> None:
    """What an earlier try left that the store does not have any more."""
    for path in work.rglob("*"):
        if not path.is_dir() and path.relative_to(work).as_posix() not in listed:
            path.unlink()


def _fetch(place: Place, work: Path, name: str, sha256: str) -> None:
    """One file, unless it came before with its digest."""
    path = work / name
    if path.is_file() and sha256_of(path) == sha256:
        return
    with publishing(path) as draft:
        with draft.open("wb") as sink:

            def again() -> None:
                sink.seek(0)
                sink.truncate()

            try:
                place.fetch(name, sink.write, again)
            except FileNotFoundError:
                raise StoreError(f"{place.address} lacks {name}, which its digest list names: half copied.") from None
        if sha256_of(draft) != sha256:
            raise StoreError(
                f"{place.address}/{name} does not have its digest: damaged there or on the way. Try again."
            )
