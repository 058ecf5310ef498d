"""The catalogue of a shared place: ``catalogue.json``, what stores lie below it and what they are.

Anyone may have written it: it is held to limits when it is read, and what it says of a store is a
hint for choosing; a store itself is always checked by what it holds.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from pipeline.errors import StoreError
from pipeline.stores.guard import MAX_DOCUMENT_BYTES, load_json, require_bytes
from pipeline.stores.licensing import strictest_licence
from pipeline.stores.reader import StoreReader
from pipeline.stores.schema import HDF5_SUFFIXES
from pipeline.stores.sharing.places import Place, find_place
from pipeline.texts import shown

CATALOGUE = "catalogue.json"
FORMAT, VERSION = "east-catalogue", 1
SUFFIXES = (".zarr", *HDF5_SUFFIXES)
MAX_STORES = 1 << 16
_MAX_TEXT = 1 << 10
_MAX_NUMBER = 1 << 62
_ROUNDS = 5
_MOST_SHOWN = 30
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One store of a place.

    Attributes:
        path: POSIX path below the place.
        dataset: its name; empty where the store says none.
        clips: how many.
        bytes: of all its files.
        licence: the strictest of weights, code and audio, in words.
    """

    path: str
    uuid: str
    content_digest: str
    extractor: str
    output: str
    mode: str
    fingerprint: str
    dataset: str
    clips: int
    bytes: int
    licence: str

    @property
    def name(self) -> str:
        """``EXTRACTOR/OUTPUT``."""
        return f"{self.extractor}/{self.output}"


def make_entry(path: str, reader: StoreReader, n_bytes: int) -> Entry:
    """What a catalogue says of a finished store that lies at ``path`` below its place."""
    meta = reader.meta
    return Entry(
        path=path,
        uuid=meta.uuid,
        content_digest=meta.content_digest,
        extractor=meta.extractor,
        output=meta.output,
        mode=meta.mode,
        fingerprint=meta.fingerprint,
        dataset=_line(meta.dataset.get("name", "")),
        clips=len(reader),
        bytes=n_bytes,
        licence=_line(strictest_licence(meta)),
    )


def _line(value: object) -> str:
    """A text as a catalogue may hold it: on one line, printable, not long."""
    text = "".join(char if char.isprintable() else " " for char in str(value))
    return text[:_MAX_TEXT]


def read_catalogue(place: Place) -> list[Entry] | None:
    """The stores that a place's catalogue names, by path; None where there is none.

    Raises:
        StoreError: it is no catalogue, too large, of a newer version, or forged.
    """
    content = place.read(CATALOGUE, MAX_DOCUMENT_BYTES)
    return None if content is None else [entry for entry, _ in _parse(content, place.below(CATALOGUE)).values()]


def entries_of(address: str) -> dict[str, Entry] | None:
    """Stores by their addresses, from the catalogue of a place or from the catalogue's own address.

    Raises:
        StoreError: as :func:`read_catalogue`; there is no catalogue where one was named.
    """
    base = address.rstrip("/").removesuffix(f"/{CATALOGUE}") if address != CATALOGUE else "."
    place = find_place(base)
    entries = read_catalogue(place)
    if entries is None and base != address.rstrip("/"):
        raise StoreError(f"There is no catalogue at {address}.")
    return None if entries is None else {place.below(entry.path): entry for entry in entries}


def add_entry(place: Place, entry: Entry) -> None:
    """Write a store into the place's catalogue, beside what others wrote; looked at again afterwards.

    Raises:
        StoreError: what is there is no catalogue, it is full, or it cannot be written.
    """
    where = place.below(CATALOGUE)
    _check(asdict(entry), f"{where}: what is to be added")

    def merged(content: bytes | None) -> bytes:
        rows = {} if content is None else _parse(content, where)
        raw = {path: row for path, (_, row) in rows.items()}
        raw[entry.path] = asdict(entry)
        made = _render(raw)
        _require_room(where, len(raw), len(made))
        _parse(made, where)  # nothing is written that nobody can read
        return made

    for number in range(_ROUNDS):
        place.change(CATALOGUE, MAX_DOCUMENT_BYTES, merged)
        if entry in (read_catalogue(place) or ()):
            return
        time.sleep(random.random() * 0.1 * 2**number)
    raise StoreError(
        f"{where} loses {entry.path} to other writers each time. Push again: only the catalogue is missing."
    )


def _require_room(where: str, n_stores: int, n_bytes: int) -> None:
    for n, most, what in ((n_stores, MAX_STORES, "stores"), (n_bytes, MAX_DOCUMENT_BYTES, "bytes")):
        if n > most:
            raise StoreError(
                f"{where} is full: with this store it would have {n:,} {what}, and at most {most:,} can be read. It "
                "stays as it is. Take stores out of it that are gone, or push to another place."
            )


def _render(rows: Mapping[str, Mapping[str, Any]]) -> bytes:
    document = {"format": FORMAT, "version": VERSION, "stores": [rows[path] for path in sorted(rows)]}
    return (json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _parse(content: bytes, where: str) -> dict[str, tuple[Entry, dict[str, Any]]]:
    """Entries by path, each with what stands there, fields of later releases too."""
    require_bytes(where, len(content), MAX_DOCUMENT_BYTES)
    document = load_json(content, where)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise StoreError(f"{where} is no catalogue of stores (no format {FORMAT!r}). Name another place.")
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise StoreError(f"{where} has version {shown(version)}, which is none: damaged or forged.")
    if version > VERSION:
        raise StoreError(
            f"{where} has version {shown(version)}; this program reads up to {VERSION}. It was written by a newer "
            "release: upgrade east-music."
        )
    rows = document.get("stores")
    if not isinstance(rows, list) or len(rows) > MAX_STORES:
        raise StoreError(f"{where}: stores is not a list of at most {MAX_STORES:,}: damaged or forged.")
    found: dict[str, tuple[Entry, dict[str, Any]]] = {}
    for number, row in enumerate(rows):
        entry = _check(row, f"{where}: store {number}")
        if entry.path in found:
            raise StoreError(f"{where} names {shown(entry.path)} twice: damaged or forged.")
        found[entry.path] = (entry, row)
    return found


def _check(row: Any, where: str) -> Entry:
    if not isinstance(row, dict):
        raise StoreError(f"{where} is no table: damaged or forged.")
    values: dict[str, Any] = {}
    for field in fields(Entry):
        value, kind = row.get(field.name), int if field.type == "int" else str
        if type(value) is not kind:
            raise StoreError(f"{where}: {field.name} is {shown(value)}, expected {kind.__name__}: damaged or forged.")
        if isinstance(value, int) and not 0 <= value < _MAX_NUMBER:
            raise StoreError(f"{where}: {field.name} is {shown(value)}, not a sensible number: damaged or forged.")
        if isinstance(value, str) and (len(value) > _MAX_TEXT or not value.isprintable()):
            raise StoreError(f"{where}: {field.name} is {shown(value)}, not a plain text: damaged or forged.")
        values[field.name] = value
    for name in ("content_digest", "fingerprint"):
        if not _DIGEST.fullmatch(values[name]):
            raise StoreError(f"{where}: {name} is {shown(values[name])}, not a digest: damaged or forged.")
    path = values["path"]
    if not path.endswith(SUFFIXES) or "\\" in path or {"", ".", ".."} & set(path.split("/")):
        raise StoreError(f"{where} has the path {shown(path)}, which is no store below the place: forged.")
    return Entry(**values)


def list_entries(entries: Sequence[Entry]) -> str:
    """Some entries as lines of plain text, for messages."""
    lines = [
        f"\n  {e.path}: {e.name}, {e.mode}, {e.dataset or 'no dataset'}, {e.clips:,} clips, {megabytes(e.bytes)} MB"
        for e in entries[:_MOST_SHOWN]
    ]
    more = len(entries) - len(lines)
    return "".join(lines) + (f"\n  and {more:,} more" if more else "")


def megabytes(n_bytes: int) -> str:
    """Bytes in MB, with three digits that count.

    >>> megabytes(1_234), megabytes(5_600_000), megabytes(123_456_789)
    ('0.00123', '5.6', '123')
    """
    value = n_bytes / 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"
