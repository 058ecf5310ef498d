"""A finished store to a shared place: what is there is left, what says that it is whole comes last."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import StoreError
from pipeline.events import Listener, Note, Warned, ignore
from pipeline.files import sha256_of
from pipeline.stores import sums
from pipeline.stores.making.deriving import require_finished
from pipeline.stores.opening import open_store
from pipeline.stores.schema import HDF5_SUFFIXES, StoreMeta
from pipeline.stores.sharing.catalogue import SUFFIXES, Entry, add_entry, make_entry, read_catalogue
from pipeline.stores.sharing.contents import ROOT, require_listed
from pipeline.stores.sharing.parallel import look, transfer
from pipeline.stores.sharing.places import Advance, Place, find_place, split_address
from pipeline.stores.sharing.sealed import check_sealed

_FOLDERS_UP = 3


@dataclass(frozen=True)
class _File:
    """A file to be sent: where it is, what it is called there, what it must be."""

    path: Path
    name: str
    sha256: str

    @property
    def n_bytes(self) -> int:
        return self.path.stat().st_size


def push_store(source: Path, dest: str, *, replace: bool = False, listener: Listener = ignore) -> str:
    """Copy a store and write it into the place's catalogue; returns its address.

    A second call goes on where the first was cut.

    Raises:
        StoreError: not a finished store that can be checked, a file that does not have its digest,
            another store at the place, a connection that fails.
    """
    suffix = ".zarr" if source.is_dir() else source.suffix
    if not source.exists():
        raise StoreError(f"There is no store at {source}.")
    if suffix not in SUFFIXES:
        raise StoreError(f"{source} is no finished store: neither a Zarr folder nor an HDF5 file ({suffix or 'none'}).")
    with open_store(source) as reader:
        require_finished(reader)
        place, name = _destination(dest, reader.meta, suffix)
        if not split_address(dest, SUFFIXES)[1]:
            read_catalogue(place)  # one that cannot be added to is found before anything is sent
        files = _single(source, name) if suffix in HDF5_SUFFIXES else _listed(source, name, reader.meta, len(reader))
        entry = make_entry(name, reader, sum(file.n_bytes for file in files))
    _clear(place, files, replace)
    _send_all(place, files, entry.name, listener)
    listener(Note(f"{len(files):,} files are at {place.below(name)}, each checked there."))
    _enter(dest, place, entry, listener)
    return place.below(name)


def _destination(dest: str, meta: StoreMeta, suffix: str) -> tuple[Place, str]:
    """The place, and the store's name below it."""
    folder, name = split_address(dest, SUFFIXES)
    if dest.startswith(("http://", "https://")):
        raise StoreError(f"{dest}: web servers can only be read. Push to a folder, or to object storage (s3://).")
    if name and not name.endswith(suffix):
        raise StoreError(f"{dest} does not end in {suffix}, as this store does: name a folder, or such a path.")
    return find_place(folder), name or f"{meta.name}{suffix}"


def _listed(source: Path, name: str, meta: StoreMeta, n_clips: int) -> list[_File]:
    """Files of a Zarr store in the order in which they are sent: the list and the root's metadata last."""
    listed = sums.read(source)
    if ROOT not in listed or not (source / sums.SUMS).is_file():
        raise StoreError(f"{source} has no digest list ({sums.SUMS}): east store verify --repair writes it anew.")
    require_listed(listed, meta, n_clips, str(source))
    names = [*sorted(set(listed) - {ROOT}), sums.SUMS, ROOT]
    if missing := next((file for file in names if not (source / file).is_file()), ""):
        raise StoreError(f"{source} lacks the file {missing}: damaged. Look with east store verify.")
    digests = {**listed, sums.SUMS: sha256_of(source / sums.SUMS)}
    return [_File(source / file, f"{name}/{file}", digests[file]) for file in names]


def _single(source: Path, name: str) -> list[_File]:
    """The one file of an HDF5 store, after its seal."""
    return [_File(source, name, check_sealed(source, str(source)))]


def _clear(place: Place, files: list[_File], replace: bool) -> None:
    """Nothing is there, or the same store; another one only when it may be replaced."""
    root = files[-1]
    if place.size(root.name) is None or place.holds(root.name, root.path, root.sha256):
        return
    if not replace:
        raise StoreError(
            f"{place.below(root.name.removesuffix(f'/{ROOT}'))} holds another store already. Name another place, or "
            "add --replace."
        )
    if len(files) > 1:
        place.remove(root.name)


def _send_all(place: Place, files: list[_File], name: str, listener: Listener) -> None:
    """Look for what is there, then send the rest; of a Zarr store the list and the root's metadata last."""
    held = look("look for what is there", lambda file: place.holds(file.name, file.path, file.sha256), files, listener)
    missing = [file for file, is_there in zip(files, held, strict=True) if not is_there]
    body, last = [file for file in missing if file not in files[-2:]], [file for file in missing if file in files[-2:]]

    def put(file: _File, advance: Advance) -> None:
        place.put(file.name, file.path, file.sha256, advance)

    transfer(f"push {name}", put, body, sum(file.n_bytes for file in body), listener)
    if len(files) > 1:
        _remove_others(place, files)
    for file in last:
        put(file, lambda n_bytes: None)


def _remove_others(place: Place, files: list[_File]) -> None:
    """Remove what a replaced store left there and the new one does not have."""
    store = files[-1].name.removesuffix(f"/{ROOT}")
    for name in set(place.names(store)) - {file.name for file in files}:
        place.remove(name)


def _enter(dest: str, place: Place, entry: Entry, listener: Listener) -> None:
    """Into the catalogue of the place; of a store that was named itself, into one that is there further up."""
    folder, name = split_address(dest, SUFFIXES)
    if not name:
        add_entry(place, entry)
        return
    path = name
    for _ in range(_FOLDERS_UP):
        above = find_place(folder)
        try:
            if read_catalogue(above) is not None:
                add_entry(above, dataclasses.replace(entry, path=path))
                return
        except StoreError as error:
            listener(Warned(f"The store is not in a catalogue: {error}"))
            return
        folder, _, last = folder.rpartition("/")
        if not folder or folder.endswith(":/") or last in ("", ".", ".."):
            break
        path = f"{last}/{path}"
    listener(Note(f"No catalogue above {place.below(entry.path)}: push to a folder instead to have one made there."))
