"""Metadata and files that chance makes: limits hold, or a StoreError says why not; nothing else ever happens."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import crafted_hdf5
import crafted_zarr
import numpy as np
import pytest
from crafted_zarr import META, N
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeline.errors import EastError
from pipeline.manifest.columns import parse_about
from pipeline.stores import open_store
from pipeline.stores.guard import MAX_CHUNK_BYTES, MAX_SHARD_BYTES, load_json
from pipeline.stores.schema import MAX_AXIS, MAX_CLIP_BYTES, parse_meta
from pipeline.stores.zarr_guard import check_array

#: The same examples each time, no matter how busy the machine is; kept in memory alone.
MANY = settings(
    deadline=None, derandomize=True, max_examples=150, database=None, phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)  # fmt: skip

NUMBERS = st.one_of(
    st.integers(-3, 20), st.sampled_from([2**31, 2**40, 2**63, 2**64, -(2**63), 10**30]), st.floats(), st.booleans()
)
TEXTS = st.text(max_size=12) | st.sampled_from(["float16", "../x", "\x1b[2J", "c" * 99999])
LEAVES = st.one_of(st.none(), NUMBERS, TEXTS)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
T = TypeVar("T")
ATTRIBUTES = META.attributes()
ARRAY: dict[str, Any] = {
    "zarr_format": 3, "node_type": "array", "shape": [N, 3, 4], "data_type": "float16", "fill_value": 0,
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 3, 4]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
    "codecs": [{"name": "sharding_indexed", "configuration": {
        "chunk_shape": [2, 3, 4], "codecs": [{"name": "bytes"}, {"name": "crc32c"}], "index_location": "end",
        "index_codecs": [{"name": "bytes"}, {"name": "crc32c"}]}}],
}  # fmt: skip


def changed(base: Any) -> st.SearchStrategy[Any]:
    """The same document with some values, at any depth, replaced by any others, or left out."""

    def change(picked: list[tuple[list[int], Any]]) -> Any:
        document = json.loads(json.dumps(base))
        for way, value in picked:
            _put(document, way, value)
        return document

    ways = st.lists(st.integers(0, 30), min_size=1, max_size=6)
    return st.lists(st.tuples(ways, JSON), max_size=4).map(change)


def _put(document: Any, way: list[int], value: Any) -> None:
    """Follow numbers down the document; the last one names the place."""
    for step, number in enumerate(way):
        keys: list[Any] = list(document) if isinstance(document, dict) else list(range(len(document)))
        if not keys:
            return
        key = keys[number % len(keys)]
        deeper = document[key]
        if step == len(way) - 1 or not isinstance(deeper, dict | list):
            if value is None and isinstance(document, dict):
                del document[key]
            else:
                document[key] = value
            return
        document = deeper


def kept(read: Callable[[], T]) -> T | None:
    """What is read, or None where it is refused: in few words, as an error of ours and no other."""
    words = ""
    try:
        return read()
    except EastError as error:
        words = str(error)
    assert 0 < len(words) < 2_000
    return None


@MANY
@given(changed(ATTRIBUTES) | st.dictionaries(st.sampled_from(sorted(ATTRIBUTES)) | st.text(max_size=5), JSON))
def test_root_attributes_are_within_limits_or_refused(attributes: dict[str, Any]) -> None:
    meta = kept(lambda: parse_meta(attributes, "s"))
    if meta is None:
        return
    assert 0 < meta.clip_bytes <= MAX_CLIP_BYTES
    assert all(0 < n < MAX_AXIS for n in (meta.rate_hz, meta.chunk_clips, meta.shard_clips))
    assert min(meta.clip_s, meta.hop_s) >= 0
    assert abs(meta.offset_s) < 1e9
    assert f"{meta.name}{meta.mode}{meta.uuid}{meta.fingerprint}".isprintable()
    assert ".." not in meta.name.split("/")
    parse_meta(meta.attributes(), "s")


@MANY
@given(changed(ARRAY) | changed(ARRAY | {"data_type": "string", "codecs": [{"name": "vlen-utf8"}]}) | JSON)
def test_array_documents_are_bounded_or_refused(document: Any) -> None:
    if not isinstance(document, dict):
        return
    most = kept(lambda: check_array(document, "s"))
    if most is None:
        return
    assert 0 < most <= 2 * MAX_SHARD_BYTES + 64 * 16 * (1 << 16) + (1 << 20)
    chunk = document["chunk_grid"]["configuration"]["chunk_shape"]
    inner = document["codecs"][0].get("configuration", {}).get("chunk_shape", chunk)
    assert np.prod(np.array(inner, object)) * 2 <= MAX_CHUNK_BYTES


@MANY
@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_json_is_read_or_refused(content: bytes) -> None:
    kept(lambda: load_json(content, "s"))
    kept(lambda: parse_about(content, "s"))


Mutation = tuple[int, str, int, bytes]
KINDS = st.sampled_from(["put", "cut", "add"])
MUTATIONS = st.lists(
    st.tuples(st.integers(0, 1 << 30), KINDS, st.integers(0, 64), st.binary(max_size=9)), min_size=1, max_size=3
)


def mutate(content: bytes, mutations: list[Mutation]) -> bytes:
    """Bytes replaced, deleted, inserted."""
    for place, kind, n, new in mutations:
        at = place % (len(content) + 1)
        end = {"put": at + len(new), "cut": at + n, "add": at}[kind]
        content = content[:at] + (b"" if kind == "cut" else new) + content[end:]
    return content


def everything(path: Path) -> tuple[Any, ...]:
    """What a reader gets of a store."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Zarr warns of keys that it does not know
        with open_store(path) as reader:
            arrays = [getattr(reader.arrays, name).tolist() for name in ("clip_id", "state", "failure", "n_frames")]
            return arrays, reader.read(np.arange(len(reader))).tobytes(), len(reader.canaries())


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, tuple[Any, ...]]]:
    """By suffix a good store, and what is read of it."""
    folder = tmp_path_factory.mktemp("stores")
    made = {"zarr": crafted_zarr.write_good(folder / "s.zarr"), "h5": crafted_hdf5.write_good(folder / "s.h5")}
    return {suffix: (path, everything(path)) for suffix, path in made.items()}


def check_same_or_refused(path: Path, before: tuple[Any, ...]) -> None:
    """What is refused is refused in words; what is read has the shape that it says it has."""
    after = kept(lambda: everything(path))
    if after is None:
        return
    assert len(after[1]) == len(before[1]) * len(after[0][0]) // N


def try_changed(path: Path, before: tuple[Any, ...], number: int, changes: list[Mutation]) -> None:
    """Change one file of a copy; look at the copy."""
    copy = path.with_name(f"copy{path.suffix}")
    shutil.rmtree(copy) if copy.is_dir() else copy.unlink(missing_ok=True)
    shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
    files = sorted(file for file in copy.rglob("*") if file.is_file()) or [copy]
    file = files[number % len(files)]
    file.write_bytes(mutate(file.read_bytes(), changes))
    check_same_or_refused(copy, before)


@settings(MANY, max_examples=60)
@given(number=st.integers(0, 1 << 20), changes=MUTATIONS)
def test_a_changed_zarr_store_is_read_or_refused(good: Any, number: int, changes: list[Mutation]) -> None:
    try_changed(*good["zarr"], number, changes)


@settings(MANY, max_examples=40)
@given(changes=MUTATIONS)
def test_a_changed_hdf5_file_is_read_or_refused(good: Any, changes: list[Mutation]) -> None:
    try_changed(*good["h5"], 0, changes)


@pytest.mark.slow
@settings(MANY, max_examples=3_000)
@given(suffix=st.sampled_from(["zarr", "h5"]), number=st.integers(0, 1 << 20), changes=MUTATIONS)
def test_thousands_of_changed_stores_are_read_or_refused(
    good: Any, suffix: str, number: int, changes: list[Mutation]
) -> None:
    try_changed(*good[suffix], number, changes)
