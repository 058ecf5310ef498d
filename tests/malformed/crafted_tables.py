"""Malformed clip tables: how each is made from a good one, and what is said of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from crafted_zarr import Make

from pipeline.manifest import ClipTable, write_csv, write_table
from pipeline.manifest.table import strings

N = 4
HEAD = "clip_id,path,start_s,duration_s,rock\n"


def table(**changes: Any) -> ClipTable:
    """Four clips of one class."""
    facts: dict[str, Any] = {
        "name": "small", "root": "audio", "classes": ("rock",), "task": "multi-label", "clip_s": 5.0,
        "clip_id": strings(f"{row}.wav@0" for row in range(N)), "path": strings(f"{row}.wav" for row in range(N)),
        "split": strings([""] * N), "group": strings([""] * N), "start_s": np.zeros(N), "duration_s": np.full(N, 5.0),
        "labels": np.ones((N, 1), np.int8),
    }  # fmt: skip
    return ClipTable(**facts | changes)


def parquet(**changes: Any) -> Make:
    """A table with other columns or facts, as Parquet."""
    return lambda path: write_table(table(**changes), path)


def csv(text: str | bytes) -> Make:
    """A CSV of these bytes."""
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode())


def column(name: str, value: Any) -> Make:
    """A good table, in which one column is another."""

    def make(path: Path) -> None:
        write_table(table(), path)
        arrow = pq.read_table(path)
        place = arrow.schema.get_field_index(name)
        pq.write_table(arrow.set_column(place, name, value), path)

    return make


def about(change: Callable[[dict[str, Any]], object]) -> Make:
    """A good table, in whose metadata something is another."""

    def make(path: Path) -> None:
        write_table(table(), path)
        arrow = pq.read_table(path)
        facts = json.loads(arrow.schema.metadata[b"east"])
        change(facts)
        pq.write_table(arrow.replace_schema_metadata({b"east": json.dumps(facts).encode()}), path)

    return make


def raw_about(text: bytes) -> Make:
    """A good table with these bytes as its metadata."""

    def make(path: Path) -> None:
        write_table(table(), path)
        pq.write_table(pq.read_table(path).replace_schema_metadata({b"east": text}), path)

    return make


def fact(name: str, value: Any) -> Make:
    """One fact of the metadata is another."""
    return about(lambda facts: facts.update({name: value}))


def text_bomb(path: Path) -> None:
    """64 KB of text, named a hundred thousand times: 6 GB of a file of some hundred bytes."""
    n = 100_000
    ids = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), ["x" * (1 << 16)])
    columns: dict[str, Any] = dict.fromkeys(("clip_id", "path", "split", "group"), ids)
    columns |= {"start_s": np.zeros(n), "duration_s": np.ones(n), "label:rock": np.zeros(n, np.int8)}
    write_table(table(), path)
    facts = pq.read_table(path).schema.metadata
    pq.write_table(pa.table(columns).replace_schema_metadata(facts), path, compression="zstd")


def many_rows(path: Path) -> None:
    """A footer that claims 10^12 rows: the count is written anew in Thrift's variable-length form."""
    write_table(table(), path)
    content = path.read_bytes()
    length = int.from_bytes(content[-8:-4], "little")
    footer, small = content[-8 - length : -8], b"\x16" + bytes([2 * N])
    at = footer.index(small)
    n, digits = 2 * 10**12, b""
    while n >= 128:
        digits, n = digits + bytes([n & 127 | 128]), n >> 7
    footer = footer[:at] + b"\x16" + digits + bytes([n]) + footer[at + 2 :]
    path.write_bytes(content[: -8 - length] + footer + len(footer).to_bytes(4, "little") + b"PAR1")


def beside(text: bytes) -> Make:
    """A CSV with this JSON beside it."""

    def make(path: Path) -> None:
        write_csv(table(), path)
        path.with_name(path.name + ".json").write_bytes(text)

    return make


def rows(*lines: str) -> Make:
    """A CSV clip table of these lines."""
    return csv(HEAD + "".join(f"{line}\n" for line in lines))


def cut(share: float) -> Make:
    """The first part of a good Parquet file."""

    def make(path: Path) -> None:
        write_table(table(), path)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])

    return make


OUT, TWICE = "path leads out of the root", "clip_id is there more than once"

#: name with its suffix -> how it is made, and what using it says.
CASES: dict[str, tuple[Make, str]] = {
    "climbs.parquet": (parquet(path=strings(["../../etc/passwd", "b", "c", "d"])), OUT),
    "absolute.parquet": (parquet(path=strings(["/etc/passwd", "b", "c", "d"])), OUT),
    "nul-path.parquet": (parquet(path=strings(["a\0.wav", "b", "c", "d"])), OUT),
    "nul-id.parquet": (parquet(clip_id=strings(["a\0b", "b", "c", "d"])), "clip_id holds a NUL"),
    "long-id.parquet": (parquet(clip_id=strings(["x" * 70_000, "b", "c", "d"])), "longer than 65,536 characters"),
    "twice.parquet": (parquet(clip_id=strings(["a", "a", "c", "d"])), TWICE),
    "blank.parquet": (parquet(clip_id=strings(["", "b", "c", "d"])), "clip_id is empty"),
    "start-negative.parquet": (parquet(start_s=np.full(N, -1.0)), "start_s is below 0"),
    "start-nan.parquet": (parquet(start_s=np.full(N, np.nan)), "is not a finite number"),
    "duration-inf.parquet": (parquet(duration_s=np.full(N, np.inf)), "is not a finite number"),
    "duration-zero.parquet": (parquet(duration_s=np.zeros(N)), "duration_s is not above 0"),
    "label-two.parquet": (parquet(labels=np.full((N, 1), 2, np.int8)), "is neither 1, 0 nor -1"),
    "label-257.parquet": (column("label:rock", pa.array([257] * N)), "is neither 1, 0 nor -1"),
    "label-text.parquet": (column("label:rock", pa.array(["1"] * N)), "is of type 'string', expected 1, 0, -1"),
    "label-nested.parquet": (column("label:rock", pa.array([[1]] * N)), "is of type 'list.*expected 1, 0, -1"),
    "id-binary.parquet": (column("clip_id", pa.array([b"\xff\xfe"] * N)), "is of type 'binary', expected texts"),
    "id-nested.parquet": (column("clip_id", pa.array([{"a": "x"}] * N)), "is of type 'struct.*expected texts"),
    "start-text.parquet": (column("start_s", pa.array(["0"] * N)), "is of type 'string', expected numbers"),
    "start-null.parquet": (column("start_s", pa.array([None, 0.0, 0.0, 0.0])), "column 'start_s' has 1 empty cells"),
    "name-climbs.parquet": (parquet(name="../../../tmp/x"), "cannot be that of a folder"),
    "name-absolute.parquet": (parquet(name="/tmp/x"), "cannot be that of a folder"),
    "name-number.parquet": (fact("name", 3), "name is 3, not what it must be"),
    "root-nul.parquet": (fact("root", "a\0"), r"The root '.*a\\x00' holds a NUL"),
    "clip-nan.parquet": (fact("clip_s", float("nan")), "NaN is no number of JSON"),
    "clip-huge.parquet": (fact("clip_s", 10**400), "clip_s is a number of .* bits"),
    "clip-true.parquet": (fact("clip_s", True), "clip_s is True, not what it must be"),
    "classes-text.parquet": (fact("classes", "rock"), "classes is 'rock', not what it must be"),
    "classes-numbers.parquet": (fact("classes", [1]), "classes are not a list of names"),
    "classes-twice.parquet": (fact("classes", ["rock", "rock"]), "A class is named twice"),
    "classes-other.parquet": (fact("classes", ["jazz"]), "lacks the columns label:jazz"),
    "task.parquet": (fact("task", "\x1b[2J"), r"task is '\\x1b\[2J', neither"),
    "newer.parquet": (fact("format_version", 2), "has format version 2; this program reads 1"),
    "deep.parquet": (raw_about(b"[" * 100_000), "is not valid JSON"),
    "list.parquet": (raw_about(b"[1]"), "is no table of facts"),
    "no-facts.parquet": (lambda path: pq.write_table(pa.table({"a": [1]}), path), "no 'east' metadata"),
    "rows-many.parquet": (many_rows, "claims 1,000,000,000,000 clips"),
    "text-bomb.parquet": (text_bomb, "bytes of text, more than any table"),
    "cut.parquet": (cut(0.7), "cannot be read as a clip table"),
    "empty.parquet": (csv(b""), "cannot be read as a clip table"),
    "folder.parquet": (Path.mkdir, "There is no clip table at"),
    "pipe.parquet": (os.mkfifo, "There is no clip table at"),
    "pipe.csv": (os.mkfifo, "There is no clip table at"),
    "device.csv": (lambda path: path.symlink_to("/dev/zero"), "There is no clip table at"),
    "empty.csv": (csv(b""), "is empty. Its first line must name the columns"),
    "header.csv": (csv(HEAD), "The table has no clips"),
    "columns-many.csv": (csv(HEAD.strip() + ",x" * 10**7 + "\n"), "has 10,000,005 columns, at most 65,536"),
    "columns-twice.csv": (csv("clip_id,path,duration_s,path\na,b,1,c\n"), "names column 'path' twice"),
    "ragged.csv": (rows("a,a.wav,0,5,1", "b,b.wav,0"), "is not a regular CSV"),
    "quote.csv": (csv(HEAD + '"' + "x" * 5_000_000), "is not a regular CSV"),
    "long.csv": (rows(f"{'x' * 200_000},a.wav,0,5,1"), "longer than 65,536 characters"),
    "latin.csv": (csv(HEAD.encode() + b"a,caf\xe9.wav,0,5,1\n"), "byte 0xe9 is not UTF-8"),
    "utf-16.csv": (csv((HEAD + "a,a.wav,0,5,1\n").encode("utf-16")), "byte 0xff is not UTF-8"),
    "surrogate.csv": (csv(HEAD.encode() + b"a,\xed\xa0\x80.wav,0,5,1\n"), "byte 0xed is not UTF-8"),
    "start-word.csv": (rows("a,a.wav,soon,5,1"), "'soon' is not a number of seconds"),
    "start-huge.csv": (rows("a,a.wav,1e999,5,1"), "is not a finite number"),
    "duration-negative.csv": (rows("a,a.wav,0,-5,1"), "duration_s is not above 0"),
    "label-word.csv": (rows("a,a.wav,0,5,yes"), "'yes' is not a label"),
    "label-formula.csv": (rows('a,a.wav,0,5,"=cmd()"'), r"'=cmd\(\)' is not a label"),
    "climbs.csv": (rows("a,../../etc/passwd,0,5,1"), OUT),
    "nul.csv": (rows("a,a\0.wav,0,5,1"), OUT),
    "twice.csv": (rows("a,a.wav,0,5,1", "a,b.wav,0,5,1"), TWICE),
    "escapes.csv": (rows("\x1b]0;x\x07\u202e,a.wav,0,5,1", "\x1b]0;x\x07\u202e,b.wav,0,5,1"), TWICE),
    "beside-broken.csv": (beside(b"{"), "is not valid JSON"),
    "beside-list.csv": (beside(b"[]"), "is no table of facts"),
    "beside-lacks.csv": (beside(b'{"name": "x"}'), "root is None, not what it must be"),
    "beside-deep.csv": (beside(b"[" * 100_000), "is not valid JSON"),
}

#: These are harmless, and are read as they stand.
HARMLESS: dict[str, Make] = {
    "bom.csv": csv(b"\xef\xbb\xbf" + HEAD.encode() + b"a,a.wav,0,5,1\n"),
    "formula.csv": rows('"=HYPERLINK(""x"")",=1+1.wav,0,5,1'),
    "right-to-left.csv": rows("\u202egnp.wav,\u202egnp.wav,0,5,1"),
    "line-break.csv": rows('"a\nb",a.wav,0,5,1'),
}
