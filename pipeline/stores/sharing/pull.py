"""A store from a shared place: every file against its digest, published once it is whole."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock

from pipeline import layout
from pipeline.errors import StoreError
from pipeline.events import Listener, Note, Warned, ignore
from pipeline.files import sync
from pipeline.stores.digests import digest_content
from pipeline.stores.disk import writing
from pipeline.stores.opening import open_store
from pipeline.stores.reader import StoreReader
from pipeline.stores.schema import HDF5_SUFFIXES, StoreMeta
from pipeline.stores.sharing.catalogue import CATALOGUE, SUFFIXES, Entry, list_entries, read_catalogue
from pipeline.stores.sharing.contents import Contents, read_contents, require_listed
from pipeline.stores.sharing.fetching import Wanted, fetch_file
from pipeline.stores.sharing.parallel import look, transfer
from pipeline.stores.sharing.places import Place, find_place, split_address
from pipeline.stores.sharing.sealed import check_sealed, remote_seal
from pipeline.texts import shown

_MARGIN_BYTES = 1 << 24
_MOST_HDF5 = 1 << 50
_MOST_NAME = 128


@dataclass(frozen=True)
class Pulled:
    """What came: where it is now, and what it says of itself."""

    path: Path
    meta: StoreMeta


def pull_store(url: str, dest: Path | None = None, *, listener: Listener = ignore) -> Pulled:
    """Fetch a store, or the one store of a place; a second call goes on where the first was cut.

    Args:
        dest: where to; None for the place where ``east extract`` looks for it.

    Raises:
        StoreError: no finished store at ``url``, something at ``dest``, a file that does not have its
            digest, a connection that fails, a disk that is full or would be.
    """
    entry = None if split_address(url, SUFFIXES)[1] else _only_entry(url)
    address = url.rstrip("/") if entry is None else f"{url.rstrip('/')}/{entry.path}"
    suffix = Path(address).suffix
    if dest is not None and dest.suffix != suffix:
        raise StoreError(f"{dest} does not end in {suffix}, as {address} does; east store convert changes formats.")
    if dest is not None:
        _require_nothing(dest)
    pulled = (_pull_hdf5 if suffix in HDF5_SUFFIXES else _pull_zarr)(address, dest, listener)
    if entry and entry.content_digest != pulled.meta.content_digest:
        listener(Warned(f"The catalogue of {url} is out of date: the store there has other content than it says."))
    return pulled


def _only_entry(url: str) -> Entry:
    """The store of a place that has one; of several, they are listed."""
    entries = read_catalogue(find_place(url))
    if entries is None:
        raise StoreError(
            f"{url} is no store (its name does not end in .zarr, .h5 or .hdf5) and has no {CATALOGUE}. "
            f"Look for stores there: east store ls {url}"
        )
    if len(entries) != 1:
        example = f" Name one of them, such as {url.rstrip('/')}/{entries[0].path}:" if entries else ""
        raise StoreError(f"{url} has {len(entries):,} stores.{example}{list_entries(entries)}")
    return entries[0]


def default_path(meta: StoreMeta, suffix: str, where: str) -> Path:
    """Where ``east extract`` looks for such a store.

    Raises:
        StoreError: it does not say of which dataset it is, or not in a name that a folder may have.
    """
    names = (meta.dataset.get("name"), meta.extractor, meta.output)
    for what, name in zip(("dataset", "extractor", "output"), names, strict=True):
        plain = isinstance(name, str) and 0 < len(name) <= _MOST_NAME and name.isprintable()
        if not plain or str(name).startswith(".") or set("/\\:") & set(str(name)):
            raise StoreError(
                f"{where} has the {what} {shown(name)}, which is no name for a folder: name DEST yourself."
            )
    dataset, extractor, output = map(str, names)
    return layout.store_path(dataset, extractor, output, "hdf5" if suffix in HDF5_SUFFIXES else "zarr")


def _pull_zarr(url: str, dest: Path | None, listener: Listener) -> Pulled:
    place = find_place(url)
    contents = read_contents(place)
    dest = dest or default_path(contents.meta, ".zarr", url)
    work = dest.with_name(f".{dest.name}.pull")
    listener(Note(f"{url} is {contents.meta.name} of {contents.meta.dataset.get('name') or 'no dataset'}, to {dest}."))
    with _alone(dest):
        missing = _missing(contents, work, listener)
        sizes = look("ask for sizes", place.size, [file.name for file in missing], listener)
        wanted = [_sized(file, size, place) for file, size in zip(missing, sizes, strict=True)]
        _fetch(place, wanted, dest, listener)
        with writing(dest):
            contents.write_small(work)
            _remove_others(work, {*contents.listed, *contents.small})
        with open_store(work) as reader:
            require_listed(contents.listed, reader.meta, len(reader), url)
            meta = _require_content(reader, url)
        with writing(dest):
            work.rename(dest)
            sync(dest.parent)
    return Pulled(dest, meta)


def _missing(contents: Contents, work: Path, listener: Listener) -> list[Wanted]:
    """Files that did not come before with their digests."""
    names = sorted(set(contents.listed) - set(contents.small))
    files = [Wanted(name, work / name, contents.listed[name], contents.most_bytes(name)) for name in names]
    if not work.exists():
        return files
    here = look("check what is here", Wanted.is_here, files, listener)
    listener(Note(f"{sum(here):,} of {len(files):,} files came before."))
    return [file for file, is_here in zip(files, here, strict=True) if not is_here]


def _sized(file: Wanted, n_bytes: int | None, place: Place) -> Wanted:
    if n_bytes is not None and n_bytes > file.most:
        raise StoreError(
            f"{place.below(file.name)} has {n_bytes:,} bytes; by the store's metadata it has at most {file.most:,}: "
            "damaged or forged."
        )
    return Wanted(file.name, file.path, file.sha256, file.most, n_bytes)


def _pull_hdf5(url: str, dest: Path | None, listener: Listener) -> Pulled:
    """One file, under a name of its digest until its seal was checked; without a DEST it says where it belongs."""
    folder, name = split_address(url, SUFFIXES)
    place = find_place(folder)
    n_bytes = place.size(name)
    seal = remote_seal(place, name, n_bytes)
    near = dest or layout.home() / name
    draft = near.with_name(f".{near.stem}.{seal.sha256[:16] if seal else 'whole'}.pull.h5")
    with _alone(near):
        _remove_drafts_of_others(near, draft, keep=seal is not None)
        wanted = Wanted(name, draft, "", n_bytes if n_bytes is not None else _MOST_HDF5, n_bytes)
        _fetch(place, [] if draft.exists() else [wanted], near, listener)
        meta = _checked_hdf5(draft, url)
        target = dest or default_path(meta, ".h5", url)
        _require_nothing(target)
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.rename(target)
            sync(target.parent)
    return Pulled(target, meta)


def _remove_drafts_of_others(near: Path, draft: Path, *, keep: bool) -> None:
    """What is left of another file of this name; of one that only comes whole, all."""
    one = rf"\.{re.escape(near.stem)}\.([0-9a-f]{{16}}|whole)\.pull\.h5"
    ours = (draft.name, f".{draft.name}.part") if keep else ()
    for path in list(near.parent.iterdir()):
        if re.fullmatch(rf"{one}|\.{one}\.part", path.name) and path.name not in ours:
            path.unlink(missing_ok=True)


def _checked_hdf5(draft: Path, url: str) -> StoreMeta:
    try:
        check_sealed(draft, url)
        with open_store(draft) as reader:
            return _require_content(reader, url)
    except StoreError:
        draft.unlink(missing_ok=True)
        raise


def _require_content(reader: StoreReader, url: str) -> StoreMeta:
    meta = reader.meta
    if not meta.complete or digest_content(reader.clip_id.tolist(), reader.arrays.clip_digest) != meta.content_digest:
        raise StoreError(f"{url} is not a finished store whose content has the digest it states. Ask its owners.")
    return meta


def _fetch(place: Place, wanted: Sequence[Wanted], dest: Path, listener: Listener) -> None:
    """All files, after it was found that they fit on the disk."""
    n_bytes = sum(file.n_bytes or 0 for file in wanted)
    came = sum(file.draft.stat().st_size for file in wanted if file.draft.is_file())
    with writing(dest):
        free = shutil.disk_usage(dest.parent).free
    if n_bytes - came + _MARGIN_BYTES > free:
        raise StoreError(
            f"{dest} needs {n_bytes - came:,} bytes more, and {free:,} are free there. Free some space, or name "
            "another path; what came is kept."
        )
    transfer("pull", lambda file, advance: fetch_file(place, file, advance), wanted, n_bytes, listener)


def _remove_others(work: Path, listed: set[str]) -> None:
    """What an earlier try left that the store does not have any more."""
    for path in work.rglob("*"):
        if (path.is_symlink() or not path.is_dir()) and path.relative_to(work).as_posix() not in listed:
            path.unlink()


def _require_nothing(dest: Path) -> None:
    if dest.exists() or dest.is_symlink():
        raise StoreError(f"{dest} is there already; nothing is overwritten. Remove it, or name another path.")


@contextmanager
def _alone(dest: Path) -> Iterator[None]:
    """Nothing is at ``dest``, and no other pull is on its way there."""
    _require_nothing(dest)
    with writing(dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
    path = dest.with_name(f".{dest.name}.pull.lock")
    lock = filelock.FileLock(path, blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise StoreError(f"{dest} is being pulled by another process right now ({path} is locked).") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be locked: {error.strerror or error}.") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
