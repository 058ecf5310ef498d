"""Features as NumPy files: a folder of arrays, one archive, or one file per clip.

Arrays are written as they stream by, so that a store larger than the memory can be exported; ``numpy.load``
reads them, with ``mmap_mode="r"`` without loading. Nothing is pickled.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.events import Listener
from pipeline.files import publish_json, sync
from pipeline.stores.exchange.blocks import Selection
from pipeline.stores.exchange.names import file_names

FEATURES, N_FRAMES, CLIP_ID, ABOUT = "features", "n_frames", "clip_id", "about"
INDEX = "index.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_npy_folder(folder: Path, selection: Selection, listener: Listener) -> None:
    """``features.npy``, ``n_frames.npy``, ``clip_id.json`` (a list, in order) and ``about.json``."""
    folder.mkdir()
    with (folder / f"{FEATURES}.npy").open("wb") as handle:
        _stream(handle, selection, listener)
    sync(folder / f"{FEATURES}.npy")
    np.save(folder / f"{N_FRAMES}.npy", selection.n_frames, allow_pickle=False)
    publish_json(folder / f"{CLIP_ID}.json", selection.clip_ids)
    publish_json(folder / f"{ABOUT}.json", dict(selection.about))


def write_npz(path: Path, selection: Selection, listener: Listener) -> None:
    """One uncompressed archive: ``features``, ``n_frames``, ``clip_id`` (texts) and ``about`` (JSON as a text)."""
    small = {
        N_FRAMES: selection.n_frames,
        CLIP_ID: np.array(selection.clip_ids, np.str_),
        ABOUT: np.array(json.dumps(dict(selection.about), ensure_ascii=False, sort_keys=True)),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open(_entry(FEATURES), "w", force_zip64=True) as handle:
            _stream(handle, selection, listener)
        for name, values in small.items():
            content = io.BytesIO()
            np.save(content, values, allow_pickle=False)
            archive.writestr(_entry(name), content.getbuffer())


def write_per_clip(folder: Path, selection: Selection, listener: Listener) -> None:
    """One ``NAME.npy`` per clip, [valid frames, channels]; ``index.json`` tells ids by file name."""
    folder.mkdir()
    names, n_frames = file_names(selection.clip_ids), selection.n_frames
    for place, features in selection.blocks(listener):
        for name, values, n in zip(names[place], features, n_frames[place].tolist(), strict=True):
            np.save(folder / f"{name}.npy", values[:n], allow_pickle=False)
    files = {f"{name}.npy": clip_id for name, clip_id in zip(names, selection.clip_ids, strict=True)}
    publish_json(folder / INDEX, {"files": files, ABOUT: dict(selection.about)})


def _stream(handle: Any, selection: Selection, listener: Listener) -> None:
    kind = selection.reader.dtype.newbyteorder("<")
    _write_header(handle, selection.shape, kind)
    for _, features in selection.blocks(listener):
        handle.write(np.ascontiguousarray(features, kind).data.cast("B"))


def _write_header(handle: BinaryIO, shape: tuple[int, ...], kind: np.dtype) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(handle, header)


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(f"{name}.npy", _EPOCH)
