"""A second reader of Zarr stores, written from ``docs/store-format.md`` alone: plain Python and numpy.

It shows that the page is enough, and holds the package's own reader and writer to it.  It imports
nothing of the package, no zarr and no library for crc32c; where a store breaks a promise of the page,
it raises ``ValueError``.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

NOTHING = 2**64 - 1
NOT_LISTED = {"features/SHA256SUMS", "features/journal.jsonl", "features/lease.json"}
CLIP_TEXTS = ("clip_id", "failure")
FROM_CARD = ("version", "parameters")
OF_FINGERPRINT = (
    "extractor", "output", "mode", "weights_sha256", "rate_hz", "hop_s", "window_s", "offset_s", "frames", "channels",
    "dtype", "clip_s",
)  # fmt: skip


def _table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


TABLE = _table()


def crc32c(content: bytes) -> int:
    """Castagnoli's checksum."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def checked(content: bytes, where: str) -> bytes:
    """Bytes without the crc32c behind them, which must be theirs."""
    if struct.pack("<I", crc32c(content[:-4])) != content[-4:]:
        raise ValueError(f"{where}: the crc32c is another")
    return content[:-4]


def decode(content: bytes, codecs: list[dict[str, Any]], shape: list[int], kind: str, where: str) -> np.ndarray:
    """One chunk; ``shape`` is a chunk's, ``kind`` the data type's name in Zarr."""
    names = [codec["name"] for codec in codecs]
    if names == ["sharding_indexed"]:
        return unshard(content, codecs[0]["configuration"], shape, kind, where)
    if names not in (["bytes", "crc32c"], ["vlen-utf8", "crc32c"]):
        raise ValueError(f"{where}: codecs {names}")
    content = checked(content, where)
    if names[0] == "vlen-utf8":
        return np.array(texts_of(content, where), object).reshape(shape)
    return np.frombuffer(content, np.dtype(kind).newbyteorder("<")).reshape(shape)


def texts_of(content: bytes, where: str) -> list[str]:
    """The texts of one chunk."""
    (count,), at, texts = struct.unpack_from("<I", content), 4, []
    for _ in range(count):
        (length,) = struct.unpack_from("<I", content, at)
        texts.append(content[at + 4 : at + 4 + length].decode())
        at += 4 + length
    if at != len(content):
        raise ValueError(f"{where}: bytes behind the last text")
    return texts


def unshard(content: bytes, about: dict[str, Any], shape: list[int], kind: str, where: str) -> np.ndarray:
    """One shard: inner chunks along the first axis, the index at the end."""
    inner = about["chunk_shape"]
    n = shape[0] // inner[0]
    index = np.frombuffer(checked(content[-16 * n - 4 :], f"{where}, index"), "<u8").reshape(n, 2)
    out = np.zeros(shape, kind)
    for number, (offset, length) in enumerate(index.tolist()):
        if (offset, length) != (NOTHING, NOTHING):
            part = content[offset : offset + length]
            chunk = decode(part, about["codecs"], inner, kind, f"{where}, chunk {number}")
            out[number * inner[0] : (number + 1) * inner[0]] = chunk
    return out


def read_array(folder: Path) -> np.ndarray:
    """A whole array."""
    about = json.loads((folder / "zarr.json").read_bytes())
    shape, chunk = about["shape"], about["chunk_grid"]["configuration"]["chunk_shape"]
    texts = about["data_type"] == "string"
    separator = about["chunk_key_encoding"]["configuration"]["separator"]
    counts = [-(-n // size) for n, size in zip(shape, chunk, strict=True)]
    whole = [count * size for count, size in zip(counts, chunk, strict=True)]
    out = np.full(whole, about["fill_value"], object if texts else about["data_type"])
    for places in itertools.product(*map(range, counts)):
        path = folder / separator.join(["c", *map(str, places)])
        if path.exists():
            box = tuple(slice(at * size, (at + 1) * size) for at, size in zip(places, chunk, strict=True))
            out[box] = decode(path.read_bytes(), about["codecs"], chunk, about["data_type"], path.name)
    return out[tuple(map(slice, shape))]


def digest_clip(store: dict[str, Any], row: int) -> bytes:
    """SHA-256 of what the store says of a clip."""
    digest = hashlib.sha256()
    for name in CLIP_TEXTS:
        text = store[name][row].encode()
        digest.update(struct.pack("<Q", len(text)) + text)
    n_frames = int(store["n_frames"][row])
    digest.update(struct.pack("<BQ", store["state"][row], n_frames) + store["features"][row, :n_frames].tobytes())
    return digest.digest()


def fingerprint_text(attributes: dict[str, Any]) -> str:
    """The canonical JSON behind the fingerprint."""
    fields = {name: attributes[name] for name in OF_FINGERPRINT} | {"resampler": "soxr-HQ"}
    fields |= {name: attributes["card"][name] for name in FROM_CARD}
    return json.dumps(fields, sort_keys=True, separators=(",", ":"))


def read_store(folder: Path) -> dict[str, Any]:
    """Root attributes under ``attributes``, and all arrays by name; everything the page promises is checked."""
    attributes = json.loads((folder / "zarr.json").read_bytes())["attributes"]
    if attributes["format"] != "east-store" or attributes["format_version"] > 1:
        raise ValueError(f"{folder} has format version {attributes['format_version']}; this reader knows version 1")
    check_list(folder)
    paths = [path.parent for path in sorted(folder.rglob("zarr.json"))]
    arrays = [path for path in paths if json.loads((path / "zarr.json").read_bytes())["node_type"] == "array"]
    store = {path.relative_to(folder).as_posix(): read_array(path) for path in arrays}
    n = len(store["clip_id"])
    digests = [digest_clip(store, row) for row in range(n)]
    if b"".join(digests) != store["clip_digest"].tobytes():
        raise ValueError("a clip digest is another")
    order = sorted(range(n), key=lambda row: store["clip_id"][row].encode())
    if hashlib.sha256(b"".join(digests[row] for row in order)).hexdigest() != attributes["content_digest"]:
        raise ValueError("the content digest is another")
    if hashlib.sha256(fingerprint_text(attributes).encode()).hexdigest() != attributes["fingerprint"]:
        raise ValueError("the fingerprint is another")
    return store | {"attributes": attributes}


def check_list(folder: Path) -> None:
    """Every file's digest, and that every file is listed."""
    lines = (folder / "features/SHA256SUMS").read_text().splitlines()
    listed = {line[66:]: line[:64] for line in lines}
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if files - NOT_LISTED != listed.keys():
        raise ValueError(f"listed or there, not both: {sorted(files - NOT_LISTED ^ listed.keys())}")
    for name, digest in listed.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{name}: the SHA-256 is another")
