"""What a clip table's file promises, held to limits before it is read, and its columns to their types.

A table may come from anyone: a few bytes of Parquet can stand for a billion rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import ManifestError
from pipeline.manifest.table import Floats, Labels, Strings
from pipeline.texts import shown

MAX_COLUMNS = 1 << 16
MAX_ROWS = 1 << 27
MAX_CELLS = 1 << 32
MAX_ABOUT_BYTES = 1 << 24
MAX_STORED_BYTES = 1 << 34
#: All texts of a column: so much, and a kilobyte for each row.
MAX_TEXT_BYTES = 1 << 28
_TEXT_ALLOWANCE = 1 << 10


def require_bounded(path: Path, file: pq.ParquetFile) -> None:
    """Refuse Parquet that promises more rows, columns or bytes than any clip table has.

    Raises:
        ManifestError: it does, or names a column twice.
    """
    about = file.metadata
    rows, columns = about.num_rows, about.num_columns
    if columns > MAX_COLUMNS or not 0 <= rows <= MAX_ROWS or rows * columns > MAX_CELLS:
        raise ManifestError(
            f"{path} claims {rows:,} clips in {columns:,} columns; at most {MAX_ROWS:,} in {MAX_COLUMNS:,} are read: "
            "damaged or forged."
        )
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    n_bytes = sum(group.total_byte_size for group in groups)
    if n_bytes > MAX_STORED_BYTES or sum(group.num_rows for group in groups) != rows:
        raise ManifestError(
            f"{path} claims {n_bytes:,} bytes in parts that do not make {rows:,} clips, or are more than the "
            f"{MAX_STORED_BYTES:,} that are read: damaged or forged."
        )
    require_once(path, file.schema_arrow.names)


def require_once(path: Path, names: Iterable[str]) -> None:
    """Refuse a column that is named twice.

    Raises:
        ManifestError: names the first of them.
    """
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ManifestError(f"{path} names column {shown(twice[0])} twice; rename or remove one.")


def parse_about(content: bytes, where: str) -> dict[str, Any]:
    """The JSON beside or inside a table: name, root, classes, task, clip length, card.

    Raises:
        ManifestError: not JSON, or a field that is missing or of another type.
    """
    try:
        about = json.loads(content, parse_constant=_no_constant) if len(content) <= MAX_ABOUT_BYTES else None
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where} is not valid JSON ({shown(str(error))}). Make the table again.") from None
    kinds: dict[str, Any] = {
        "name": str,
        "root": str,
        "classes": list,
        "task": str,
        "clip_s": (int, float),
        "card": dict,
    }
    if not isinstance(about, dict):
        raise ManifestError(f"{where} is no table of facts, or too long. Make the table again.")
    for name, kind in kinds.items():
        if not isinstance(about.get(name), kind) or isinstance(about[name], bool):
            raise ManifestError(f"{where}: {name} is {shown(about.get(name))}, not what it must be. Make it again.")
    if not all(isinstance(name, str) and name for name in about["classes"]):
        raise ManifestError(f"{where}: classes are not a list of names. Make it again.")
    try:
        float(about["clip_s"])
    except OverflowError:
        raise ManifestError(f"{where}: clip_s is {shown(about['clip_s'])}, not a number of seconds.") from None
    return {"format_version": 1} | about


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def string_column(arrow: pa.Table, name: str, where: str) -> Strings:
    """A column of texts; how long they are together is counted before they are made.

    Raises:
        ManifestError: of another type, with empty cells, or longer than any table's.
    """
    column = _column(arrow, name, where)
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise ManifestError(f"{where}: column {name} is of type {shown(str(kind))}, expected texts.")
    n_bytes = sum(map(_text_bytes, column.chunks))
    if n_bytes > MAX_TEXT_BYTES + len(column) * _TEXT_ALLOWANCE:
        raise ManifestError(f"{where}: column {name} holds {n_bytes:,} bytes of text, more than any table: forged.")
    return np.asarray(column.to_numpy(), object)


def _text_bytes(chunk: pa.Array) -> int:
    if not pa.types.is_dictionary(chunk.type):
        return int(chunk.nbytes)
    lengths = pc.binary_length(chunk.dictionary).to_numpy(zero_copy_only=False).astype(np.int64)
    counts = np.bincount(chunk.indices.to_numpy(zero_copy_only=False), minlength=len(lengths))
    return int((lengths * counts).sum())


def number_column(arrow: pa.Table, name: str, where: str) -> Floats:
    """A column of seconds.

    Raises:
        ManifestError: of another type, or with empty cells.
    """
    column = _column(arrow, name, where)
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise ManifestError(f"{where}: column {name} is of type {shown(str(column.type))}, expected numbers.")
    return np.asarray(column.to_numpy(), np.float64)


def label_column(arrow: pa.Table, name: str, where: str) -> Labels:
    """A column of labels, 1, 0 or -1.

    Raises:
        ManifestError: of another type, with empty cells or other numbers.
    """
    column = _column(arrow, name, where)
    if not pa.types.is_integer(column.type):
        raise ManifestError(f"{where}: column {shown(name)} is of type {shown(str(column.type))}, expected 1, 0, -1.")
    values = column.to_numpy()
    if len(values) and (values.max() > 1 or (values.dtype.kind == "i" and values.min() < -1)):
        raise ManifestError(f"{where}: a label in column {shown(name)} is neither 1, 0 nor -1 (unknown).")
    return np.asarray(values, np.int8)


def _column(arrow: pa.Table, name: str, where: str) -> pa.ChunkedArray:
    column = arrow.column(name)
    if column.null_count:
        raise ManifestError(f"{where}: column {shown(name)} has {column.null_count} empty cells; fill them.")
    return column
