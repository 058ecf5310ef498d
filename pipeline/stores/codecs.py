"""How the chunks of ``features`` are compressed: not at all, so that they can be mapped, or losslessly.

A Zarr store may use Zstandard, an HDF5 file deflate behind a byte shuffle. Both are read more slowly than plain
chunks, since whole chunks are decoded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numcodecs.zstd import Zstd
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from pipeline.errors import SettingError, StoreError
from pipeline.stores.guard import MAX_DOCUMENT_BYTES, read_file
from pipeline.stores.schema import HDF5_SUFFIXES

_LEVELS = {"none": (0, 0, 0), "zstd": (3, 1, 22), "gzip": (4, 1, 9)}


@dataclass(frozen=True)
class Codec:
    """``none``, ``zstd`` or ``gzip``, and the level that goes with it."""

    name: str = "none"
    level: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.level}" if self.level else self.name

    @property
    def encode(self) -> Callable[[bytes], bytes] | None:
        """What a chunk's bytes go through on their way into a Zarr shard; None for nothing."""
        return Zstd(level=self.level).encode if self.name == "zstd" else None

    def zarr_codecs(self) -> list[Any]:
        """Codecs of the inner chunks of a Zarr store."""
        packed = [ZstdCodec(level=self.level, checksum=False)] if self.name == "zstd" else []
        return [BytesCodec(endian="little"), *packed, Crc32cCodec()]


PLAIN = Codec()


def parse_codec(text: str, out: Path) -> Codec:
    """A codec as it is asked for, such as ``zstd:7``, for a store at ``out``.

    Raises:
        SettingError: unknown, a level that it does not have, or one that the format does not know.

    >>> str(parse_codec("zstd", Path("a.zarr"))), str(parse_codec("gzip:9", Path("a.h5")))
    ('zstd:3', 'gzip:9')
    """
    name, _, level = text.partition(":")
    packed = out.suffix in HDF5_SUFFIXES
    known = ("none", "gzip" if packed else "zstd")
    if name not in known:
        raise SettingError(
            f"--codec {text!r}: {'an HDF5 file' if packed else 'a Zarr store'} is written with {' or '.join(known)}, "
            "or with bitround:N."
        )
    usual, least, most = _LEVELS[name]
    if level and not (level.isdecimal() and least <= int(level) <= most):
        raise SettingError(f"--codec {text!r}: {name} has the levels {least} to {most}.")
    return Codec(name, int(level or usual))


def stored_codec(folder: Path) -> Codec:
    """The codec of the Zarr store in a folder, by its own metadata, for those who add shards to it.

    Raises:
        StoreError: another layout than this package writes; shards of ours would not fit in it.
    """
    place = folder / "features" / "zarr.json"
    try:
        document = json.loads(read_file(place, MAX_DOCUMENT_BYTES))
        inner = document["codecs"][0]["configuration"]["codecs"]
        names = [codec["name"] for codec in inner]
        packed = [codec["configuration"] for codec in inner if codec["name"] == "zstd"]
        separator = document["chunk_key_encoding"]["configuration"]["separator"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StoreError(f"{place} does not describe features that can be added to: {error}") from error
    if names not in (["bytes", "crc32c"], ["bytes", "zstd", "crc32c"]) or separator != ".":
        raise StoreError(
            f"{folder} keeps its features in another layout ({', '.join(map(str, names))}) than is written here. "
            "Copy it with east store convert, and go on with the copy."
        )
    return Codec("zstd", int(packed[0].get("level", 3))) if packed else PLAIN
