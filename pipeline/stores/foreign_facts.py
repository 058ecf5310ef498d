"""What is said of a store that is not ours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pipeline.stores.schema import MAX_AXIS
from pipeline.texts import one_line

#: Arrays that are shown, and looked for, in a foreign store.
MAX_ARRAYS = 200
_MOST_AXES = 32


@dataclass(frozen=True)
class ForeignArray:
    """One array; ``disk_bytes`` is None where it is not known, as at an address."""

    name: str
    shape: list[int]
    dtype: str
    chunks: list[int] | None
    compression: str
    memory_bytes: int | None
    disk_bytes: int | None


@dataclass
class Found:
    """What a look into a foreign store gave.

    Attributes:
        format: such as ``Zarr v2``.
        attributes: of the root.
        complete: whether all of it was looked at.
    """

    format: str
    attributes: dict[str, Any] = field(default_factory=dict)
    arrays: list[ForeignArray] = field(default_factory=list)
    disk_bytes: int | None = None
    complete: bool = True


def axes(value: object) -> list[int] | None:
    """Lengths of axes, where they make sense."""
    if not isinstance(value, list | tuple) or len(value) > _MOST_AXES:
        return None
    return list(value) if all(type(n) is int and 0 <= n < MAX_AXIS for n in value) else None


def make_array(
    name: str, shape: object, dtype: str, item_bytes: int | None, *, chunks: object, compression: str,
    disk_bytes: int | None,
) -> ForeignArray:  # fmt: skip
    """An array with its texts cut to one line, and its bytes in memory."""
    lengths = axes(shape) or []
    memory = math.prod(lengths) * item_bytes if item_bytes is not None else None
    return ForeignArray(
        one_line(name, 200), lengths, one_line(dtype, 100), axes(chunks), one_line(compression, 200), memory, disk_bytes
    )
