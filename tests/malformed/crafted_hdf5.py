"""Malformed HDF5 stores: how each is made from a good one, and what is said of it."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from crafted_zarr import META, Make, N

from pipeline.stores import write_store
from pipeline.stores.seal import SEAL_BYTES, append_seal

TEXT = h5py.string_dtype("utf-8")


def write_good(path: Path) -> Path:
    """Ten clips, 3 x 4 float16, sealed."""
    ids = [f"clip {row}" for row in range(N)]
    write_store(path, meta=META, clip_id=ids, features=np.ones((N, 3, 4), np.float32), n_frames=np.full(N, 3))
    return path


def inside(change: Callable[[h5py.File], object]) -> Make:
    """Changed by HDF5 itself, which cuts the seal off."""

    def make(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return make


def attribute(key: str, value: Any) -> Make:
    """A root attribute that is the JSON of ``value``."""
    return raw_attribute(key, json.dumps(value), dtype=TEXT)


def raw_attribute(key: str, value: Any, **options: Any) -> Make:
    """A root attribute as it is given."""
    return inside(lambda file: file.attrs.create(key, value, **options))


def instead(name: str, **options: Any) -> Make:
    """Another dataset in the place of one."""

    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **options)

    return inside(change)


def linked(name: str, link: Any) -> Make:
    """A link in the place of a dataset."""

    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = link

    return inside(change)


def virtual(file: h5py.File) -> None:
    """``state`` is made of what lies in another file."""
    layout = h5py.VirtualLayout((N,), np.uint8)
    layout[:] = h5py.VirtualSource("/etc/passwd", "state", (N,))
    del file["state"]
    file.create_virtual_dataset("state", layout)


def references(file: h5py.File) -> None:
    """``state`` points at other things in the file."""
    target = file["n_frames"].ref
    del file["state"]
    file.create_dataset("state", data=np.array([target] * N, h5py.ref_dtype))


def bomb(file: h5py.File) -> None:
    """A chunk of ten bytes that inflates to sixteen million."""
    del file["state"]
    state = file.create_dataset("state", (N,), np.uint8, chunks=(N,), compression="gzip")
    state.id.write_direct_chunk((0,), zlib.compress(bytes(1 << 24), 9))


def ids(*texts: bytes) -> Make:
    """The first ids are these."""

    def change(file: h5py.File) -> None:
        values = [*texts, *(b"clip %d" % row for row in range(len(texts), N))]
        del file["clip_id"]
        file.create_dataset("clip_id", data=np.array(values, object), dtype=TEXT)

    return inside(change)


def cycle(file: h5py.File) -> None:
    """A group that lies in itself."""
    group = file.require_group("canary")
    group["again"] = group


def many_attributes(file: h5py.File) -> None:
    """More attributes than anyone needs, and one that is needed gone."""
    for number in range(500):
        file.attrs[f"a{number}"] = number
    del file.attrs["mode"]


def heap_circle(path: Path, text: bytes = b"clip 3\0\0") -> None:
    """Free space of no length in HDF5's heap of texts, which has no checksum: HDF5 2.0 never gets past it.

    It lies behind ``text``, which fills eight bytes.
    """
    content = bytearray(path.read_bytes())
    at = content.index(text, content.index(b"GCOL")) + 8
    content[at : at + 16] = bytes(16)
    path.write_bytes(content)


def cut(n_bytes: int) -> Make:
    """The first bytes only; all but the last where it is below zero."""
    return lambda path: path.write_bytes(path.read_bytes()[:n_bytes])


def user_block(path: Path) -> None:
    """Something else before HDF5's own beginning, where HDF5 still finds it."""
    path.write_bytes(b"#!/bin/sh\n".ljust(512) + path.read_bytes())


def other_seal(path: Path) -> None:
    """A right seal, of other bytes."""
    content = path.read_bytes()[:-SEAL_BYTES]
    path.write_bytes(content.replace(b"clip 3", b"clip X"))
    append_seal(path)
    seal = path.read_bytes()[-SEAL_BYTES:]
    path.write_bytes(content + seal)


def in_its_place(make: Callable[[Path], object]) -> Make:
    """No file at all."""

    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


#: name -> how it is made, and what opening it says.
CASES: dict[str, tuple[Make, str]] = {
    "features-huge": (instead("features", shape=(1 << 40, 3, 4), dtype="f2", chunks=(2, 3, 4)), "features promises"),
    "features-fill": (instead("features", shape=(N, 3, 4), dtype="f2", chunks=(2, 3, 4)), "features promises 240 by"),
    "features-float64": (instead("features", data=np.ones((N, 3, 4))), "features are not float16"),
    "features-enum": (
        instead("features", shape=(N, 3, 4), dtype=h5py.enum_dtype({"a": 1}, "i2"), data=np.ones((N, 3, 4), "i2")),
        "features are not float16",
    ),
    "features-chunk": (
        instead("features", shape=(N, 3, 4), maxshape=(None, 3, 4), dtype="f2", chunks=(1 << 26, 3, 4)),
        "features promises 240 bytes",
    ),
    "clips-huge": (instead("clip_id", shape=(1 << 40,), dtype=TEXT, chunks=(1024,)), "claims 1,099,511,627,776 clips"),
    "clips-scalar": (instead("clip_id", data="one", dtype=TEXT), r"clip_id has shape \(\)"),
    "state-compound": (
        instead("state", data=np.zeros(N, [("a", "u1"), ("b", "f4")])),
        "state is of type .*expected uint8",
    ),
    "state-references": (inside(references), "state is of type object"),
    "state-opaque": (instead("state", data=np.zeros(N, "V16")), "state is of type .*V16"),
    "state-empty": (instead("state", data=h5py.Empty("u1")), "state"),
    "state-negative": (instead("n_frames", data=np.full(N, -1, "i4")), "more valid frames than the 3"),
    "ids-fixed": (instead("clip_id", data=np.array([b"a"] * N)), "clip_id is no contiguous list of texts"),
    "ids-numbers": (instead("clip_id", data=np.arange(N)), "clip_id is no contiguous list of texts"),
    "link-soft": (linked("state", h5py.SoftLink("/nowhere")), "no usable array 'state'"),
    "link-out": (linked("state", h5py.ExternalLink("/etc/passwd", "/state")), "no usable array 'state'"),
    "external-storage": (
        instead("state", shape=(N,), dtype="u1", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]),
        "no usable array 'state'",
    ),
    "virtual": (inside(virtual), "no usable array 'state'"),
    "group-instead": (linked("state", h5py.SoftLink("/canary")), "no usable array 'state'"),
    "filter-unknown": (
        instead("state", data=np.ones(N, "u1"), chunks=(N,), compression="lzf"),
        "state is stored with HDF5 filter 32000",
    ),
    "inflates": (inside(bomb), "a chunk of state inflates to more than the 14 bytes"),
    "ids-twice": (ids(b"clip 1", b"clip 1"), "ids must be unique"),
    "ids-latin": (ids(b"caf\xe9"), "a clip_id is not valid UTF-8"),
    "ids-empty": (ids(b""), "a clip_id is empty"),
    "ids-long": (ids(b"x" * (1 << 19)), "texts of clip_id are longer than any"),
    "attribute-no-json": (raw_attribute("card", "{'a': 1}", dtype=TEXT), "attribute card is not valid JSON"),
    "attribute-deep": (raw_attribute("card", "[" * 100_000, dtype=TEXT), "attribute card is JSON nested too deep"),
    "attribute-nan": (attribute("hop_s", float("nan")), "NaN is no number of JSON"),
    "attribute-infinite": (raw_attribute("hop_s", "1e999", dtype=TEXT), "hop_s is inf, not a number of seconds"),
    "attribute-digits": (raw_attribute("rate_hz", "9" * 5_000, dtype=TEXT), "rate_hz is not valid JSON"),
    "attribute-key-twice": (raw_attribute("card", '{"a": 1, "a": 2}', dtype=TEXT), "a key stands twice"),
    "attribute-numbers": (raw_attribute("card", np.arange(4)), "lacks the root attributes card"),
    "attribute-reference": (inside(lambda f: f.attrs.create("mode", f["state"].ref)), "lacks the root attributes mode"),
    "attribute-climbs": (attribute("output", "../../etc"), "output is .*not a plain name"),
    "attribute-negative": (attribute("clip_s", -3.0), "clip_s is -3.0, below zero"),
    "attribute-newer": (attribute("format_version", 2), "upgrade east-music"),
    "attributes-many": (inside(many_attributes), "lacks the root attributes mode"),
    "cycle": (inside(cycle), "no usable array 'again'"),
    "canary-huge": (
        inside(lambda f: f.create_dataset("canary/x", (1 << 30,), "f4", chunks=(1 << 20,))),
        "canaries of 4,294,967,296 bytes",
    ),
    "heap-circle": (heap_circle, "reading its metadata comes to no end"),
    "cut-0": (cut(0), "cannot be opened as HDF5"),
    "cut-20": (cut(20), "cannot be opened as HDF5"),
    "cut-60": (cut(60), "cannot be opened as HDF5"),
    "cut-half": (cut(6_000), "cannot be opened as HDF5"),
    "text": (lambda path: path.write_text("not HDF5 at all\n" * 99), "cannot be opened as HDF5"),
    "pipe": (in_its_place(os.mkfifo), "it is no plain file"),
    "folder": (in_its_place(Path.mkdir), "it is no plain file"),
    "device": (in_its_place(lambda path: path.symlink_to("/dev/zero")), "it is no plain file"),
}

#: Those that open, and are damaged for all that: what verify finds.
DAMAGED: dict[str, tuple[Make, str]] = {
    "tail": (
        lambda path: path.write_bytes(path.read_bytes() + b"x" * 1000),
        "1,144 bytes behind the end of HDF5's data are no whole seal",
    ),
    "seal-cut": (cut(-SEAL_BYTES), "the seal is gone"),
    "seal-half": (cut(-70), "no whole seal"),
    "seal-damaged": (
        lambda path: path.write_bytes(path.read_bytes()[:-40] + b"0" * 39 + b"\n"),
        "seal itself is damag",
    ),
    "seal-other": (other_seal, "its bytes are not those that were sealed"),
    "user-block": (user_block, "the file was sealed with"),
    "changed": (inside(lambda file: file["features"].write_direct(np.zeros((N, 3, 4), "f2"))), "the seal is gone"),
}
