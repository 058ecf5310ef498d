"""The store's schema, version 1: names, types, limits and fingerprint.

The same tree is kept in Zarr v3 and in HDF5; ``docs/store-format.md`` describes it for readers in
other languages.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Literal

import numpy as np

from pipeline.errors import StoreError
from pipeline.texts import shown

FORMAT = "east-store"
FORMAT_VERSION = 1
DIGEST_BYTES = 32
MAX_AXIS = 1 << 40
MAX_CLIP_BYTES = 1 << 32
MAX_STRING = 1 << 16
MAX_SHARD_NUMBERS = 1 << 30
MAX_CLIPS = 1 << 27
MAX_CANARY_BYTES = 1 << 28
RESAMPLER = "soxr-HQ"
HDF5_SUFFIXES = (".h5", ".hdf5")
Dtype = Literal["float16", "float32"]

#: What libraries raise over damaged or forged metadata and chunks.
DAMAGE = (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)

#: Arrays along the clip axis, with the shape beyond it and the type; ``str`` is variable UTF-8.
CLIP_ARRAYS: dict[str, tuple[tuple[int, ...], Any]] = {
    "clip_id": ((), str),
    "n_frames": ((), np.int32),
    "state": ((), np.uint8),
    "failure": ((), str),
    "file_digest": ((DIGEST_BYTES,), np.uint8),
    "samples_digest": ((DIGEST_BYTES,), np.uint8),
    "clip_digest": ((DIGEST_BYTES,), np.uint8),
}


class State(IntEnum):
    """What became of a clip."""

    PENDING = 0
    DONE = 1
    FAILED = 2


@dataclass(frozen=True)
class StoreMeta:
    """Root attributes: what the features are, and who made them with what.

    ``frames`` is the length of the frame axis: what a full clip of ``clip_s`` seconds gives.
    ``card`` is the extractor's card as plain JSON; times are seconds, rates Hz.  ``preflight`` is
    what the teacher's checks measured before the store was created; empty where there were none.
    ``derived`` says from which stores, and how, a store was made that no extraction wrote.
    """

    extractor: str
    output: str
    mode: str
    card: Mapping[str, Any]
    weights_sha256: tuple[str, ...]
    rate_hz: int
    hop_s: float
    window_s: float
    offset_s: float
    frames: int
    channels: int
    dtype: Dtype
    clip_s: float
    chunk_clips: int
    shard_clips: int
    fingerprint: str
    manifest_digest: str = ""
    dataset: Mapping[str, Any] = field(default_factory=dict)
    runs: tuple[Mapping[str, Any], ...] = ()
    complete: bool = False
    content_digest: str = ""
    preflight: Mapping[str, Any] = field(default_factory=dict)
    derived: Mapping[str, Any] = field(default_factory=dict)
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def name(self) -> str:
        """``EXTRACTOR/OUTPUT``."""
        return f"{self.extractor}/{self.output}"

    @property
    def licence_weights(self) -> str:
        """Licence of the extractor's weights, empty where it has none."""
        return str(self.card.get("licence_weights", ""))

    @property
    def clip_bytes(self) -> int:
        """Bytes of one clip's features."""
        return self.frames * self.channels * np.dtype(self.dtype).itemsize

    def attributes(self) -> dict[str, Any]:
        """As JSON, the way the root group keeps it."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values |= {"card": dict(self.card), "dataset": dict(self.dataset), "runs": [dict(run) for run in self.runs]}
        values |= {"weights_sha256": list(self.weights_sha256), "preflight": dict(self.preflight)}
        values["derived"] = dict(self.derived)
        return {"format": FORMAT, "format_version": FORMAT_VERSION} | values


def parse_meta(attributes: Mapping[str, Any], where: str) -> StoreMeta:
    """Read root attributes that may come from anyone.

    Raises:
        StoreError: not a store, a newer format, a missing or absurd field; ``where`` is named.
    """
    if attributes.get("format") != FORMAT:
        raise StoreError(f"{where} is not a feature store: its root attributes have no format {FORMAT!r}.")
    version = attributes.get("format_version")
    if type(version) is not int or version < 1:
        raise StoreError(f"{where} has format version {shown(version)}, which is none: damaged or forged.")
    if version > FORMAT_VERSION:
        raise StoreError(
            f"{where} has format version {version}; this program reads up to {FORMAT_VERSION}. "
            "It was written by a newer release: upgrade east-music."
        )
    names = {f.name: f for f in dataclasses.fields(StoreMeta)}
    needed = {name for name, f in names.items() if f.default is f.default_factory is dataclasses.MISSING}
    if missing := sorted(needed - attributes.keys()):
        raise StoreError(f"{where} lacks the root attributes {', '.join(missing)}: damaged or not a store of ours.")
    values = {name: attributes[name] for name in names if name in attributes}
    _check_types(values, where)
    values["weights_sha256"] = tuple(values["weights_sha256"])
    values["runs"] = tuple(values.get("runs", ()))
    return StoreMeta(**values)


def _check_types(values: Mapping[str, Any], where: str) -> None:
    for name in ("rate_hz", "frames", "channels", "chunk_clips", "shard_clips"):
        value = values[name]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < MAX_AXIS:
            raise StoreError(f"{where}: {name} is {shown(value)}, not a sensible positive number.")
    for name in ("hop_s", "window_s", "offset_s", "clip_s"):
        value = values[name]
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e9:
            raise StoreError(f"{where}: {name} is {shown(value)}, not a number of seconds.")
        if value < 0 and name != "offset_s":
            raise StoreError(f"{where}: {name} is {shown(value)}, below zero.")
    if values["dtype"] not in ("float16", "float32"):
        raise StoreError(f"{where}: features of type {shown(values['dtype'])}; only float16 and float32 are read.")
    if values["frames"] * values["channels"] * 4 > MAX_CLIP_BYTES:
        raise StoreError(f"{where}: one clip of {values['frames']} x {values['channels']} is beyond 4 GiB.")
    if values["shard_clips"] > 1 and values["shard_clips"] * values["frames"] * values["channels"] > MAX_SHARD_NUMBERS:
        raise StoreError(f"{where}: a shard of {values['shard_clips']} clips would be beyond 4 GiB.")
    if values["shard_clips"] % values["chunk_clips"]:
        raise StoreError(f"{where}: shards of {values['shard_clips']} clips hold no whole number of chunks.")
    _check_contents(values, where)


def _check_contents(values: Mapping[str, Any], where: str) -> None:
    for name in ("extractor", "output", "mode", "fingerprint", "uuid", "manifest_digest", "content_digest"):
        _check_text(values.get(name, ""), name, where)
    if not isinstance(values.get("complete", False), bool):
        raise StoreError(f"{where}: complete is {shown(values['complete'])}, neither true nor false.")
    _check_items(values["weights_sha256"], "weights_sha256", str, where)
    _check_items(values.get("runs", []), "runs", dict, where)
    for name in ("card", "dataset", "preflight", "derived"):
        if not isinstance(values.get(name, {}), Mapping):
            raise StoreError(f"{where}: {name} is not a table.")
    if not isinstance(values["card"].get("parameters", {}), Mapping):
        raise StoreError(f"{where}: the parameters of the card are not a table.")


def _check_text(value: object, name: str, where: str) -> None:
    """A text that may be printed and compared: short, on one line, no way out of a folder."""
    if not isinstance(value, str) or len(value) > MAX_STRING:
        raise StoreError(f"{where}: {name} is not a short text.")
    if not value.isprintable() or value.startswith("/") or ".." in value.split("/"):
        raise StoreError(f"{where}: {name} is {shown(value)}, not a plain name: damaged or forged.")


def _check_items(value: object, name: str, kind: type, where: str) -> None:
    if not isinstance(value, list | tuple) or not all(isinstance(item, kind) for item in value):
        raise StoreError(f"{where}: {name} is not a list of {'tables' if kind is dict else 'texts'}.")


ATTRIBUTES = ("format", "format_version", *(f.name for f in dataclasses.fields(StoreMeta)))

#: The fields a fingerprint covers: all that changes the numbers, nothing that does not.
FINGERPRINT_FIELDS = (
    "extractor", "version", "output", "mode", "parameters", "weights_sha256", "rate_hz", "hop_s",
    "window_s", "offset_s", "frames", "channels", "dtype", "clip_s", "resampler",
)  # fmt: skip


def fingerprint_fields(meta: StoreMeta) -> dict[str, Any]:
    """What the fingerprint is made from, by name, so that a mismatch can say which differs."""
    known = {name: getattr(meta, name) for name in FINGERPRINT_FIELDS if hasattr(meta, name)}
    known["weights_sha256"] = list(meta.weights_sha256)
    known |= {"version": meta.card.get("version"), "parameters": dict(meta.card.get("parameters", {}))}
    return known | {"resampler": RESAMPLER}


def make_fingerprint(fields: Mapping[str, Any]) -> str:
    """SHA-256 of the fields as canonical JSON, in hexadecimal."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def with_fingerprint(meta: StoreMeta) -> StoreMeta:
    """The same meta with its fingerprint filled in."""
    return dataclasses.replace(meta, fingerprint=make_fingerprint(fingerprint_fields(meta)))


def require_same(found: StoreMeta, wanted: StoreMeta, where: str) -> None:
    """Refuse to mix numbers made with different settings.

    Raises:
        StoreError: names each field that differs, with both values.
    """
    if found.fingerprint == wanted.fingerprint:
        return
    left, right = fingerprint_fields(found), fingerprint_fields(wanted)
    differing = [f"{key} is {left[key]!r} there and {right[key]!r} here" for key in left if left[key] != right[key]]
    raise StoreError(
        f"{where} was made with other settings: {'; '.join(differing) or 'its fingerprint differs'}. "
        "Use the same settings, another path, or remove the store."
    )


def example_meta(**changes: Any) -> StoreMeta:
    """A small valid meta, for tests and examples; ``changes`` replace fields."""
    base = StoreMeta(
        extractor="example", output="features", mode="exact", card={"name": "example", "version": 1, "parameters": {}},
        weights_sha256=(), rate_hz=16000, hop_s=1.0, window_s=1.0, offset_s=0.0, frames=3, channels=4,
        dtype="float32", clip_s=3.0, chunk_clips=4, shard_clips=16, fingerprint="",
    )  # fmt: skip
    return with_fingerprint(dataclasses.replace(base, **changes))


def choose_sizes(n_clips: int, clip_bytes: int) -> tuple[int, int]:
    """Clips per chunk and per shard, powers of two, from the size of the job alone.

    A shard is the unit of work and of loss: about 1/64 of the clips, 16 to 256 of them; beyond four
    million clips more, up to 4096, so that there are not many more than 16,384 files.  A chunk is
    what one random read touches: up to 256 KiB.

    >>> choose_sizes(2350, 40_000), choose_sizes(10**6, 4096), choose_sizes(10**8, 4096)
    ((4, 32), (64, 256), (64, 4096))
    """
    shard = 16
    while shard < 256 and shard * 64 < n_clips:
        shard *= 2
    while shard < 4096 and shard << 14 < n_clips:
        shard *= 2
    while shard > 1 and shard * clip_bytes > 1 << 29:
        shard //= 2
    chunk = 1
    while chunk < shard and chunk * 2 * clip_bytes <= 1 << 18:
        chunk *= 2
    return chunk, shard
