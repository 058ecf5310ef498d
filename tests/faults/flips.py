"""Single bits of a finished store, turned over one at a time: does verification see each, and name what it hit?"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random

import h5py
import numpy as np
from faults.plan import Format

from pipeline.layout import SUFFIXES
from pipeline.stores import StoreWriter, open_store
from pipeline.stores.checking.verify import VerifyOptions, verify_store
from pipeline.stores.seal import SEAL_BYTES

CHUNK_CLIPS = 4
_CRC_BYTES = 4


@dataclass(frozen=True)
class Flip:
    """One bit of one file of a store, and the clips it belongs to; None where it belongs to none in particular."""

    number: int
    file: Path
    bit: int
    kind: str
    clips: frozenset[str] | None


@dataclass
class FlipResult:
    """Flips by kind of file: how many, how many were detected, how many named rightly; what went wrong."""

    tried: Counter[str] = field(default_factory=Counter)
    detected: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def copy_in_chunks(source: Path, place: Path) -> Path:
    """The same store with chunks of four clips, so that a chunk is less than a shard; canaries and all."""
    with open_store(source) as reader:
        meta = dataclasses.replace(reader.meta, chunk_clips=CHUNK_CLIPS, complete=False, content_digest="")
        arrays, canaries = reader.arrays, reader.canaries()
        with StoreWriter(place, meta, arrays.clip_id, make_canaries=lambda: canaries) as writer:
            for shard in writer.pending_shards():
                rows = np.arange(shard * meta.shard_clips, min((shard + 1) * meta.shard_clips, len(reader)))
                writer.record(
                    writer.target.write(
                        shard,
                        clip_ids=arrays.clip_id[rows].tolist(),
                        features=reader.read(rows).astype(np.float32),
                        n_frames=arrays.n_frames[rows],
                        state=arrays.state[rows],
                        failure=arrays.failure[rows].tolist(),
                        file_digest=arrays.file_digest[rows],
                        samples_digest=arrays.samples_digest[rows],
                    )
                )
            writer.finish(meta.runs[0])
    return place


def flip_stores(stores: Mapping[Format, Path], n: int, seed: int, folder: Path) -> Iterator[FlipResult]:
    """``n`` flips, half of them in each format; the result so far after each."""
    result = FlipResult()
    for kind, source in stores.items():
        path = copy_in_chunks(source, folder / f"flips{SUFFIXES[kind]}")
        report = verify_store(path, VerifyOptions())
        if report.findings:
            result.failures.append(f"{kind}: the store is damaged before any flip: {report.text()}")
        for number in range(n // 2 + n % 2 * (kind == "zarr")):
            _try(path, choose(path, f"{kind} {seed} {number}", number), result)
            yield result
        if verify_store(path, VerifyOptions()).findings:
            result.failures.append(f"{kind}: the store is damaged when all flips are undone")


def choose(path: Path, seed: str, number: int) -> Flip:
    """A bit: in turn anywhere by size, in features, and where few bytes are (small files; HDF5's own trees)."""
    rng, turn = Random(f"flip {seed}"), number % 3
    if path.is_file():
        byte = _byte_of_hdf5(path, rng, turn)
        kind, clips = _in_hdf5(path, byte)
        return Flip(number, path, 8 * byte + rng.randrange(8), f"hdf5: {kind}", clips)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    if turn == 1:
        files = [file for file in files if file.name.startswith("c.")]
    file = rng.choices(files, [1 if turn == 2 else file.stat().st_size for file in files])[0]
    bit = rng.randrange(8 * file.stat().st_size)
    name = file.relative_to(path).as_posix()
    kind, clips = _in_zarr(path, name, bit // 8, file.stat().st_size)
    return Flip(number, file, bit, f"zarr: {kind}", clips)


def _byte_of_hdf5(path: Path, rng: Random, turn: int) -> int:
    spans = _chunks_of_hdf5(path)
    if turn == 1:
        span = rng.choice([span for span in spans if span.kind == "features"])
        return rng.randrange(span.start, span.stop)
    while True:
        byte = rng.randrange(path.stat().st_size)
        if turn == 0 or not any(span.start <= byte < span.stop for span in spans):
            return byte


def _in_zarr(path: Path, name: str, byte: int, size: int) -> tuple[str, frozenset[str] | None]:
    if not name.startswith("features/c."):
        kinds = {"SHA256SUMS": "digest list", "zarr.json": "metadata"}
        return kinds.get(Path(name).name, "canaries" if name.startswith("canary/") else "small arrays"), None
    with open_store(path) as reader:
        meta, ids = reader.meta, reader.arrays.clip_id
    step = meta.chunk_clips * meta.clip_bytes + _CRC_BYTES
    if byte >= size - 16 * (meta.shard_clips // meta.chunk_clips) - _CRC_BYTES:
        return "index of a shard", None
    first = int(name.split(".")[1]) * meta.shard_clips + byte // step * meta.chunk_clips
    return "chunks of features", frozenset(ids[first : first + meta.chunk_clips].tolist())


@dataclass(frozen=True)
class Span:
    """Bytes of one chunk of an HDF5 file; ``kind`` is its array."""

    start: int
    stop: int
    kind: str
    clips: frozenset[str]


@cache
def _chunks_of_hdf5(path: Path) -> tuple[Span, ...]:
    spans: list[Span] = []
    with h5py.File(path, "r") as file:
        ids = file["clip_id"].asstr()[:]
        names: list[str] = []
        file.visit(names.append)
        for name in names:
            array = file[name]
            if not isinstance(array, h5py.Dataset) or not array.chunks:
                continue
            for number in range(array.id.get_num_chunks()):
                chunk = array.id.get_chunk_info(number)
                first = chunk.chunk_offset[0]
                clips = frozenset(ids[first : first + array.chunks[0]].tolist()) if name == "features" else frozenset()
                spans.append(Span(chunk.byte_offset, chunk.byte_offset + chunk.size, name, clips))
    return tuple(spans)


def _in_hdf5(path: Path, byte: int) -> tuple[str, frozenset[str] | None]:
    if byte >= path.stat().st_size - SEAL_BYTES:
        return "seal", None
    span = next((span for span in _chunks_of_hdf5(path) if span.start <= byte < span.stop), None)
    if span is None:
        return "HDF5's own, texts", None
    if span.kind == "features":
        return "chunks of features", span.clips
    return "canaries" if span.kind.startswith("canary/") else "small arrays", None


def _try(path: Path, flip: Flip, result: FlipResult) -> None:
    before = flip.file.read_bytes()
    content = bytearray(before)
    content[flip.bit // 8] ^= 1 << flip.bit % 8
    flip.file.write_bytes(content)
    try:
        findings = verify_store(path, VerifyOptions()).findings
    finally:
        flip.file.write_bytes(before)
    result.tried[flip.kind] += 1
    result.detected[flip.kind] += bool(findings)
    files = {finding.file for finding in findings}
    clips = {clip for finding in findings for clip in finding.clips}
    name = "" if path.is_file() else flip.file.relative_to(path).as_posix()
    right = bool(findings) and (path.is_file() or name in files) and (flip.clips is None or clips == flip.clips)
    result.named[flip.kind] += right
    if not right:
        said = "; ".join(f"{finding.file}: {finding.text} {sorted(finding.clips)}" for finding in findings) or "nothing"
        wanted = "" if flip.clips is None else f", clips {sorted(flip.clips)}"
        result.failures.append(f"flip {flip.number} in {path.name}, bit {flip.bit} of {name or 'it'}{wanted}: {said}")
