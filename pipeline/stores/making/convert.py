"""The same store in another format, type, chunking or compression."""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SettingError
from pipeline.events import Listener, ignore
from pipeline.stores.codecs import Codec, parse_codec
from pipeline.stores.making.deriving import Derivation, Read, descent, require_finished, write_derived
from pipeline.stores.making.lossy import CastError, keeping, measure, require_bits
from pipeline.stores.making.outputs import require_output
from pipeline.stores.opening import open_store
from pipeline.stores.reader import StoreReader
from pipeline.stores.schema import HDF5_SUFFIXES, Dtype, StoreMeta, with_fingerprint

_BITROUND = "bitround"


def convert_store(
    path: str,
    out: Path,
    *,
    dtype: Dtype | None = None,
    codec: str = "none",
    chunk_clips: int | None = None,
    shard_clips: int | None = None,
    listener: Listener = ignore,
) -> tuple[StoreMeta, CastError]:
    """Write a store anew; values are equal to the bit unless the type becomes smaller or bits are rounded away.

    Args:
        codec: ``none``, ``zstd[:level]`` (Zarr), ``gzip[:level]`` (HDF5), or ``bitround:N``: N bits of the
            mantissa, then compressed.

    Raises:
        SettingError: shards that hold no whole number of chunks; an unknown codec, level or number of bits.
        StoreError: an unfinished source, a value beyond float16 (the clip is named).
    """
    require_output(out, [path])
    bits, packed = _parse(codec, out)
    with open_store(path) as reader:
        require_finished(reader)
        kind = dtype or reader.meta.dtype
        if bits:
            require_bits(bits, kind)
        chunk, shard = _sizes(reader.meta, chunk_clips, shard_clips)
        lossy = bool(bits) or np.dtype(kind).itemsize < reader.dtype.itemsize
        error = measure(reader, keeping(kind, bits), listener) if lossy else CastError()
        settings = _settings(reader.meta, kind, bits, packed) | ({"error": dataclasses.asdict(error)} if lossy else {})
        new = dataclasses.replace(
            reader.meta, dtype=kind, chunk_clips=chunk, shard_clips=shard, uuid=str(uuid.uuid4()),
            card=_card(reader.meta, kind, bits), derived=descent("convert", reader, **settings),
        )  # fmt: skip
        read = _rounding(reader, kind, bits) if bits else reader.read
        made = Derivation(with_fingerprint(new), reader.arrays, read, reader.canaries(), packed)
        return write_derived(out, made, listener), error


def _parse(codec: str, out: Path) -> tuple[int, Codec]:
    """Bits of the mantissa to keep, 0 for all, and the codec behind."""
    name, _, bits = codec.partition(":")
    if name != _BITROUND:
        return 0, parse_codec(codec, out)
    if not bits.isdecimal() or not 0 < int(bits) < 100:
        raise SettingError(f"--codec {codec!r}: say how many bits of the mantissa are kept, such as bitround:7.")
    return int(bits), parse_codec("gzip" if out.suffix in HDF5_SUFFIXES else "zstd", out)


def _sizes(meta: StoreMeta, chunk_clips: int | None, shard_clips: int | None) -> tuple[int, int]:
    chunk, shard = chunk_clips or meta.chunk_clips, shard_clips or meta.shard_clips
    shard = shard if shard_clips else max(shard, chunk)
    if shard % chunk:
        raise SettingError(f"Shards of {shard} clips hold no whole number of chunks of {chunk}: choose a multiple.")
    return chunk, shard


def _settings(meta: StoreMeta, dtype: Dtype, bits: int, packed: Codec) -> dict[str, Any]:
    """What was asked for that is not as it was."""
    asked = {"dtype": dtype if dtype != meta.dtype else "", _BITROUND: bits}
    return {key: value for key, value in asked.items() if value} | ({"codec": str(packed)} if packed.level else {})


def _card(meta: StoreMeta, dtype: Dtype, bits: int) -> dict[str, Any]:
    """Numbers that no extraction gives say so in the parameters, and thereby in the fingerprint.

    float32 cast to float16 is what an extraction stores; float16 in float32 and rounded bits are not.
    """
    parameters = dict(meta.card.get("parameters", {}))
    if np.dtype(dtype).itemsize > np.dtype(meta.dtype).itemsize:
        parameters["cast_from"] = meta.dtype
    if bits:
        parameters[_BITROUND] = min(bits, _bits_before(parameters))
    return dict(meta.card) | ({"parameters": parameters} if parameters else {})


def _bits_before(parameters: dict[str, Any]) -> int:
    before = parameters.get(_BITROUND)
    return before if isinstance(before, int) else 100


def _rounding(reader: StoreReader, dtype: Dtype, bits: int) -> Read:
    """Features as they are kept, but for values beyond the type, which the writer refuses by name."""
    keep, limit = keeping(dtype, bits), float(np.finfo(dtype).max)

    def read(rows: np.ndarray) -> np.ndarray:
        features = reader.read(rows)
        beyond = np.abs(features) > limit
        kept = keep(features)
        return np.where(beyond, features, kept.astype(features.dtype)) if beyond.any() else kept

    return read
