"""Malformed Zarr stores: how each is made from a good one, and what is said of it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.stores import example_meta, write_store

N = 10
META = example_meta(chunk_clips=2, shard_clips=4, dtype="float16")

#: Makes a good store, or table, at a path a bad one.
Make = Callable[[Path], object]


def write_good(path: Path) -> Path:
    """Ten clips, 3 x 4 float16."""
    ids = [f"clip {row}" for row in range(N)]
    write_store(path, meta=META, clip_id=ids, features=np.ones((N, 3, 4), np.float32), n_frames=np.full(N, 3))
    return path


def edit(name: str, change: Callable[[dict[str, Any]], object]) -> Make:
    def make(path: Path) -> None:
        place = path / name / "zarr.json"
        document = json.loads(place.read_text())
        change(document)
        place.write_text(json.dumps(document))

    return make


def attribute(key: str, value: object) -> Make:
    return edit("", lambda document: document["attributes"].update({key: value}))


def chunk_of(n: int) -> Make:
    return edit("clip_digest", lambda d: d["chunk_grid"]["configuration"].update(chunk_shape=[n, 32]))


def linked(name: str, target: str) -> Make:
    def make(path: Path) -> None:
        shutil.rmtree(path / name) if (path / name).is_dir() else (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(target)

    return make


def piped(path: Path) -> None:
    (path / "features" / "c.0.0.0").unlink()
    os.mkfifo(path / "features" / "c.0.0.0")


#: name -> how it is made, and what opening it says.
CASES: dict[str, tuple[Make, str]] = {
    "version-true": (attribute("format_version", True), "format version True, which is none"),
    "version-text": (attribute("format_version", "1"), "format version '1', which is none"),
    "version-negative": (attribute("format_version", -1), "format version -1, which is none"),
    "seconds-true": (attribute("hop_s", True), "hop_s is True, not a number of seconds"),
    "seconds-negative": (attribute("clip_s", -3.0), "clip_s is -3.0, below zero"),
    "seconds-nan": (attribute("hop_s", float("nan")), "NaN is no number of JSON"),
    "runs-text": (attribute("runs", "abc"), "runs is not a list of tables"),
    "runs-numbers": (attribute("runs", [1, 2]), "runs is not a list of tables"),
    "card-list": (attribute("card", [1]), "card is not a table"),
    "dataset-text": (attribute("dataset", "x"), "dataset is not a table"),
    "weights-number": (attribute("weights_sha256", 3), "weights_sha256 is not a list of texts"),
    "complete-text": (attribute("complete", "yes"), "neither true nor false"),
    "name-escapes": (attribute("extractor", "\x1b[31m"), "extractor is .*not a plain name"),
    "name-climbs": (attribute("output", "../../etc"), "output is .*not a plain name"),
    "huge-shard": (attribute("shard_clips", 1 << 38), "beyond 4 GiB"),
    "deep-json": (lambda path: (path / "zarr.json").write_text("[" * 100_000), "nested too deep"),
    "large-json": (lambda path: (path / "zarr.json").write_bytes(b" " * (17 << 20)), "more than the 16,777,216 bytes"),
    "key-twice": (lambda path: (path / "zarr.json").write_text('{"a": 1, "a": 2}'), "a key stands twice"),
    "no-text": (lambda path: (path / "zarr.json").write_bytes(b"\xff\xfe\xfd"), "not valid JSON"),
    "chunk-huge": (chunk_of(1 << 36), "bytes, at most"),
    "chunk-zero": (chunk_of(0), "not a list of sensible whole numbers"),
    "chunk-negative": (chunk_of(-1), "not a list of sensible whole numbers"),
    "shape-float": (edit("state", lambda d: d.update(shape=[10.0])), "not a list of sensible whole numbers"),
    "unknown-codec": (
        edit("state", lambda d: d.update(codecs=["numcodecs.pickle"])),
        "codec 'numcodecs.pickle' is not",
    ),
    "unknown-type": (edit("state", lambda d: d.update(data_type="r4096")), "data type 'r4096' is not read"),
    "wrong-type": (edit("n_frames", lambda d: d.update(data_type="float32")), "n_frames is of type float32"),
    "link-folder": (linked("features", "/etc"), "has a link in it, 'features'"),
    "link-root": (linked("zarr.json", "/etc/passwd"), "has a link in it, 'zarr.json'"),
    "link-loop": (linked("canary", "."), "has a link in it, 'canary'"),
    "pipe": (piped, "neither a file nor a folder"),
    "array-missing": (lambda path: shutil.rmtree(path / "state"), "has no array 'state'"),
}
