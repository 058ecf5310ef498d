"""The digest list against the files: who is damaged, a file or its line in the list?

A file that changed has a digest that differs everywhere; a line that changed differs in a
character or two.  Between the two, a file's own checksums decide.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from pipeline.stores.checking.report import Log
from pipeline.stores.journal import JOURNAL
from pipeline.stores.lease import LEASE
from pipeline.stores.sums import SUMS

CHECK = "digest list"
_LINE = re.compile(rb"([0-9a-f]{64})  ([^\n]+)")
_OUTSIDE = {SUMS, LEASE, JOURNAL}
_FEW = 2
_MOST_BYTES = 1 << 28


@dataclass(frozen=True)
class DigestList:
    """The list as it is: digest by name, and what is wrong with its lines, in words."""

    entries: Mapping[str, str]
    faults: tuple[str, ...]


@dataclass(frozen=True)
class Tree:
    """The files of a store by path inside it: those the list should name, drafts, and what is no plain file."""

    files: tuple[str, ...]
    drafts: tuple[str, ...]
    strange: tuple[str, ...]


def look_at_files(folder: Path) -> Tree:
    """All files below a folder; links are not followed."""
    files: list[str] = []
    drafts: list[str] = []
    strange: list[str] = []
    for base, folders, names in os.walk(folder):
        inside = Path(base).relative_to(folder)
        for name in (*names, *(name for name in folders if (Path(base) / name).is_symlink())):
            path, relative = Path(base) / name, (inside / name).as_posix()
            if path.is_symlink() or not path.is_file():
                strange.append(relative)
            elif name.startswith("."):
                drafts.append(relative)
            elif relative not in _OUTSIDE:
                files.append(relative)
    return Tree(tuple(sorted(files)), tuple(sorted(drafts)), tuple(sorted(strange)))


def read_list(folder: Path) -> DigestList | None:
    """The list, parsed strictly: whole lines, in order, each name once. None where there is none."""
    path = folder / SUMS
    if not path.is_file():
        return None
    with path.open("rb") as handle:
        content = handle.read(_MOST_BYTES)
    return parse_list(content)


def parse_list(content: bytes) -> DigestList:
    """See :func:`read_list`."""
    entries: dict[str, str] = {}
    faults: list[str] = []
    before = ""
    *lines, rest = content.split(b"\n")
    if rest:
        faults.append("its last line is not whole")
    for number, line in enumerate(lines, start=1):
        found = _LINE.fullmatch(line)
        try:
            name = found[2].decode() if found else ""
        except UnicodeDecodeError:
            name = ""
        if not found or not name:
            faults.append(f"line {number} is no digest and name")
        elif name <= before:
            faults.append(f"line {number} is out of order")
        if found and name and name not in entries:
            entries[name], before = found[1].decode(), max(name, before)
    return DigestList(entries, tuple(faults))


def near(left: str, right: str) -> bool:
    """Whether two digests differ in one or two characters: then a line was damaged, not a file."""
    return len(left) == len(right) and 0 < sum(a != b for a, b in zip(left, right, strict=True)) <= _FEW


def has_own_crc(content: bytes) -> bool:
    """Whether a small array's chunk, written as this package does, agrees with the crc32c at its end."""
    return len(content) > 4 and int(google_crc32c.value(content[:-4])).to_bytes(4, "little") == content[-4:]


def compare(
    listed: DigestList,
    actual: Mapping[str, str],
    sound: Mapping[str, bool],
    log: Log,
    *,
    loose: frozenset[str] = frozenset(),
) -> set[str]:
    """Hold the list against the files; findings go to ``log``.

    Args:
        actual: digests of the files that are there.
        sound: whether a file agrees with its own checksums; a name that is missing has none.
        loose: files that may differ: an interrupted run has written them since the list was made.

    Returns:
        Files that are damaged, as far as is known; ``SUMS`` itself may be among them.
    """
    damaged = {name for name, right in sound.items() if not right}
    for fault in listed.faults:
        log.find(CHECK, SUMS, f"{fault}: the list is damaged")
    missing = sorted(listed.entries.keys() - actual.keys() - loose)
    unlisted = sorted(actual.keys() - listed.entries.keys() - loose)
    _pair(missing, unlisted, listed, actual, log)
    for name in missing:
        unsure = " (or its line in the list is damaged)" if listed.faults else ""
        log.find(CHECK, name, f"the digest list names it, and there is no such file{unsure}")
        damaged.add(name)
    if not listed.faults:
        for name in unlisted:
            log.find(CHECK, name, "the digest list does not name it")
    for name in sorted(listed.entries.keys() & actual.keys()):
        if actual[name] != listed.entries[name] and (name not in loose or not sound.get(name, True)):
            _blame(name, near(actual[name], listed.entries[name]), sound.get(name), log, damaged)
    named = {finding.file for finding in log.findings}
    for name in sorted(damaged - named):
        log.find(CHECK, name, "it does not agree with its own checksum: the file is damaged")
    return damaged | ({SUMS} & named)


def _pair(missing: list[str], unlisted: list[str], listed: DigestList, actual: Mapping[str, str], log: Log) -> None:
    """A name without a file and a file without a name that have one digest: the name was damaged."""
    for name in list(missing):
        twin = next((other for other in unlisted if actual[other] == listed.entries[name]), None)
        if twin is not None:
            log.find(CHECK, SUMS, f"it says {name!r} where the file of that digest is {twin!r}: the list is damaged")
            missing.remove(name)
            unlisted.remove(twin)


def _blame(name: str, is_near: bool, sound: bool | None, log: Log, damaged: set[str]) -> None:
    if is_near:
        log.find(CHECK, SUMS, f"its digest of {name} is off by a character: the list is damaged, the file is as it was")
    elif sound:
        log.find(
            CHECK, SUMS, f"its digest of {name} is another one, though the file agrees with its own checksums: "
            "the list is damaged, or older than the file"
        )  # fmt: skip
    elif name in {finding.file for finding in log.findings}:
        damaged.add(name)
    else:
        log.find(CHECK, name, "its bytes are not those in the digest list: the file is damaged")
        damaged.add(name)
