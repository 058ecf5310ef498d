"""Clip tables on disk: Parquet with everything inside, or CSV with a JSON beside it.

Parquet (format version 1): string columns ``clip_id``, ``path``, ``split``, ``group``; doubles
``start_s``, ``duration_s``; one int8 column ``label:CLASS`` per class; the rest is JSON under the
key ``east`` of the schema's metadata.  A root inside the table's own folder is written relative to
it, so that the folder can be moved.

CSV: the same columns, classes by their plain names, cells 1, 0 or empty (unknown).  Name, root,
classes, task, clip length and card stand in ``FILE.csv.json``; without that file they are guessed.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from pipeline.errors import ManifestError
from pipeline.files import publish_json, publishing
from pipeline.manifest.columns import (
    MAX_ABOUT_BYTES,
    MAX_COLUMNS,
    label_column,
    number_column,
    parse_about,
    require_bounded,
    require_once,
    string_column,
)
from pipeline.manifest.table import (
    FLOAT_COLUMNS,
    STRING_COLUMNS,
    UNKNOWN,
    ClipTable,
    Floats,
    Labels,
    Strings,
    clip_id,
    encode,
    is_url,
    strings,
)
from pipeline.texts import shown

FORMAT_VERSION = 1
MAX_CSV_BYTES = 1 << 32
_KEY = b"east"
_PREFIX = "label:"
_PARSING = pacsv.ParseOptions(newlines_in_values=True)
_FIXED = (*STRING_COLUMNS, *FLOAT_COLUMNS)


def read_table(path: Path) -> ClipTable:
    """Read a clip table, Parquet or CSV by its suffix.

    Raises:
        ManifestError: no such file, not a clip table, or cells that cannot be understood.
    """
    if not path.is_file():
        raise ManifestError(f"There is no clip table at {path}. Make one with: east data from FOLDER")
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path)
    if path.suffix.lower() == ".csv":
        return _read_csv(path)
    raise ManifestError(f"{path} is neither .parquet nor .csv, so it is not read as a clip table.")


def write_table(table: ClipTable, path: Path) -> None:
    """Write a clip table as Parquet, beside its place and then renamed."""
    columns: dict[str, pa.Array] = {name: _string_array(name, getattr(table, name)) for name in STRING_COLUMNS}
    columns |= {name: pa.array(getattr(table, name), type=pa.float64()) for name in FLOAT_COLUMNS}
    for index, name in enumerate(table.classes):
        columns[_PREFIX + name] = pa.array(np.ascontiguousarray(table.labels[:, index]), type=pa.int8())
    arrow = pa.table(columns)
    about = json.dumps(_about(table, path), ensure_ascii=False, sort_keys=True)
    with publishing(path) as draft:
        pq.write_table(arrow.replace_schema_metadata({_KEY: about.encode()}), draft, compression="zstd")


def write_csv(table: ClipTable, path: Path) -> None:
    """Write a clip table as CSV, and what CSV cannot hold as ``FILE.csv.json`` beside it."""
    columns: dict[str, pa.Array] = {name: _string_array(name, getattr(table, name)) for name in STRING_COLUMNS}
    columns |= {name: pa.array(getattr(table, name)) for name in FLOAT_COLUMNS}
    cells = np.array(["0", "1", ""], dtype=object)
    for index, name in enumerate(table.classes):
        title = _PREFIX + name if name in (*_FIXED, "label", "start", "duration") else name
        columns[title] = pa.array(cells[table.labels[:, index]], type=pa.string())
    with publishing(path) as draft:
        pacsv.write_csv(pa.table(columns), draft)
    publish_json(path.with_name(path.name + ".json"), _about(table, path))


def read_columns(path: Path) -> dict[str, Strings]:
    """All columns of a CSV as strings, stripped of nothing; the first line names them.

    Raises:
        ManifestError: not UTF-8, no rows, ragged rows or a column named twice.
    """
    content = _read(path, MAX_CSV_BYTES).removeprefix(b"\xef\xbb\xbf")
    _require_utf8(path, content)
    if not content.strip():
        raise ManifestError(f"{path} is empty. Its first line must name the columns, such as path,label.")
    header = content.split(b"\n", 1)[0].decode().strip()
    if header.count(",") >= MAX_COLUMNS:
        raise ManifestError(f"{path} has {header.count(',') + 1:,} columns, at most {MAX_COLUMNS:,} are read.")
    if ";" in header and "," not in header:
        raise ManifestError(
            f"{path} is separated by semicolons; save it with commas: its first line is {shown(header)}."
        )
    try:
        names = pacsv.open_csv(io.BytesIO(content), parse_options=_PARSING).schema.names
        types = pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
        read = pacsv.read_csv(io.BytesIO(content), parse_options=_PARSING, convert_options=types)
    except pa.ArrowInvalid as error:
        raise ManifestError(
            f"{path} is not a regular CSV: {shown(str(error))}. Every row needs as many cells as line 1."
        ) from error
    require_once(path, names)
    return {name: strings(read.column(name).to_pylist()) for name in names}


def parse_floats(path: Path, name: str, cells: Strings) -> Floats:
    """Numbers of a CSV column, in seconds.

    Raises:
        ManifestError: a cell that is not a number, with its row.
    """
    try:
        return cells.astype(np.float64)
    except ValueError:
        row = next(index for index, cell in enumerate(cells) if not _is_number(cell))
        raise ManifestError(
            f"{path}, row {row + 2}, column {name}: {shown(cells[row])} is not a number of seconds."
        ) from None


def parse_labels(path: Path, name: str, cells: Strings) -> Labels:
    """One class column of a CSV: 1, 0, or empty for unknown.

    Raises:
        ManifestError: any other value, with its row.
    """
    known = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "": UNKNOWN, "-1": UNKNOWN}
    distinct, codes = encode(cells)
    for number, value in enumerate(distinct):
        if value.strip() not in known:
            row = int(np.flatnonzero(codes == number)[0]) + 2
            raise ManifestError(
                f"{path}, row {row}, column {name}: {shown(value)} is not a label. Class columns hold 1, 0 or nothing "
                f"(unknown); other columns may be path, label, split, group, start, duration."
            )
    values = np.array([known[value.strip()] for value in distinct], dtype=np.int8)
    return values[codes]


def _read_parquet(path: Path) -> ClipTable:
    try:
        with pq.ParquetFile(path) as file:
            require_bounded(path, file)
            schema = file.schema_arrow
        if _KEY not in (schema.metadata or {}):
            raise ManifestError(f"{path} is Parquet but not a clip table: its schema has no 'east' metadata.")
        facts = parse_about(schema.metadata[_KEY], f"{path}, its 'east' metadata")
        names = [*_FIXED, *(_PREFIX + name for name in facts["classes"])]
        if absent := [name for name in names if name not in schema.names]:
            raise ManifestError(f"{path} lacks the columns {shown(', '.join(absent))[1:-1]}.")
        arrow = pq.read_table(path, columns=list(dict.fromkeys(names)), read_dictionary=list(STRING_COLUMNS))
    except (pa.ArrowException, ValueError, OSError) as error:
        raise ManifestError(
            f"{path} cannot be read as a clip table ({shown(str(error))}). Is it damaged? Make it again."
        ) from error
    if facts["format_version"] != FORMAT_VERSION:
        raise ManifestError(
            f"{path} has format version {shown(facts['format_version'])}; this program reads {FORMAT_VERSION}."
        )
    columns: dict[str, Any] = {name: string_column(arrow, name, str(path)) for name in STRING_COLUMNS}
    columns |= {name: number_column(arrow, name, str(path)) for name in FLOAT_COLUMNS}
    labels = np.empty((len(arrow), len(facts["classes"])), dtype=np.int8)
    for index, name in enumerate(facts["classes"]):
        labels[:, index] = label_column(arrow, _PREFIX + name, str(path))
    return _assemble(facts, path, columns, labels)


def _read_csv(path: Path) -> ClipTable:
    cells = read_columns(path)
    absent = [name for name in ("path", "duration_s") if name not in cells]
    if absent:
        raise ManifestError(
            f"{path} lacks the columns {', '.join(absent)}, so it is not a clip table. "
            f"A CSV of files and labels becomes one with: east data from {path}"
        )
    beside = path.with_name(path.name + ".json")
    about = parse_about(_read(beside, MAX_ABOUT_BYTES), str(beside)) if beside.is_file() else {}
    titles = {name.removeprefix(_PREFIX): name for name in cells if name not in _FIXED}
    classes = tuple(about.get("classes", titles))
    if set(classes) != set(titles):
        unknown, absent = sorted(set(titles) - set(classes)), sorted(set(classes) - set(titles))
        raise ManifestError(
            f"{path} and {beside.name} name different classes. "
            f"Unknown classes in the CSV: {unknown or 'none'}; absent from it: {absent or 'none'}."
        )
    n_clips = len(cells["path"])
    blank = np.full(n_clips, "", dtype=object)
    start_s = parse_floats(path, "start_s", cells["start_s"]) if "start_s" in cells else np.zeros(n_clips)
    columns: dict[str, Any] = {
        "path": cells["path"],
        "split": cells.get("split", blank),
        "group": cells.get("group", cells["path"]),
        "clip_id": cells["clip_id"] if "clip_id" in cells else strings(map(clip_id, cells["path"], start_s)),
        "start_s": start_s,
        "duration_s": parse_floats(path, "duration_s", cells["duration_s"]),
    }
    labels = np.full((n_clips, len(classes)), UNKNOWN, dtype=np.int8)
    for index, name in enumerate(classes):
        labels[:, index] = parse_labels(path, name, cells[titles[name]])
    return _assemble(about or _guess(path, classes, columns, labels), path, columns, labels)


def _guess(path: Path, classes: tuple[str, ...], columns: dict[str, Any], labels: Labels) -> dict[str, Any]:
    single = bool(len(classes) > 1 and (labels != UNKNOWN).all() and (labels.sum(axis=1) == 1).all())
    return {
        "name": path.stem,
        "root": ".",
        "classes": list(classes),
        "task": "single-label" if single else "multi-label",
        "clip_s": float(columns["duration_s"].max(initial=0.0)),
        "card": {},
    }


def _assemble(about: dict[str, Any], path: Path, columns: dict[str, Any], labels: Labels) -> ClipTable:
    root = str(about["root"])
    return ClipTable(
        name=str(about["name"]),
        root=root if is_url(root) else str(path.parent / root),
        classes=tuple(about["classes"]),
        task=about["task"],
        clip_s=float(about["clip_s"]),
        labels=labels,
        card=dict(about["card"]),
        **columns,
    )


def _about(table: ClipTable, path: Path) -> dict[str, Any]:
    root = table.root
    if not is_url(root):
        inside, folder = Path(root).resolve(), path.parent.resolve()
        root = inside.relative_to(folder).as_posix() if inside.is_relative_to(folder) else str(inside)
    return {
        "format_version": FORMAT_VERSION,
        "name": table.name,
        "root": root,
        "classes": list(table.classes),
        "task": table.task,
        "clip_s": table.clip_s,
        "card": table.card,
    }


def _string_array(name: str, values: Strings) -> pa.Array:
    try:
        return pa.array(values, type=pa.string())
    except (UnicodeEncodeError, pa.ArrowException) as error:
        raise ManifestError(f"Column {name} holds a value that is not valid Unicode text: {error}") from error


def _require_utf8(path: Path, content: bytes) -> None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestError(
            f"{path}, line {line}: byte {content[error.start]:#04x} is not UTF-8. Save the file as UTF-8, "
            f"for example: iconv -f latin1 -t utf-8 {path.name}"
        ) from None


def _read(path: Path, most: int) -> bytes:
    if path.stat().st_size > most:
        raise ManifestError(f"{path} holds more than the {most:,} bytes that are read of it. Use Parquet, or parts.")
    return path.read_bytes()


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
