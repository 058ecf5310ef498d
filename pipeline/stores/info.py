"""What a store is and holds, for people and for scripts: finished or not, ours or of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import StoreError
from pipeline.licences import demands
from pipeline.stores.activity import activity_of
from pipeline.stores.foreign import describe_foreign
from pipeline.stores.foreign_hdf5 import look_hdf5
from pipeline.stores.foreign_zarr import look_zarr, look_zarr_url
from pipeline.stores.guard import check_tree
from pipeline.stores.info_text import render
from pipeline.stores.licensing import covered_licences, strictest_licence
from pipeline.stores.opening import open_store
from pipeline.stores.reader import StoreReader
from pipeline.stores.schema import HDF5_SUFFIXES, State
from pipeline.stores.target import working_path
from pipeline.texts import shown

__all__ = ["describe_store", "disk_bytes", "render"]


def describe_store(path: str, *, failures: bool = False) -> dict[str, Any]:
    """Facts about a store as plain JSON values; ``kind`` says whose it is (``east-store``, ``foreign``).

    An unfinished HDF5 store is found by the name that it will have.

    Raises:
        StoreError: nothing there, damaged, or neither Zarr nor HDF5.
    """
    place = _place(path)
    try:
        reader = open_store(place)
    except StoreError as error:
        if "://" not in place and not Path(place).exists():
            raise
        foreign = describe_foreign(place)
        if foreign is not None:
            return foreign
        if "://" not in place and Path(place).is_file() and not place.endswith(HDF5_SUFFIXES):
            raise StoreError(
                f"{shown(place, 4096)[1:-1]} is neither a Zarr folder nor an HDF5 file. Arrays in .npy and .npz come "
                "in with east store import."
            ) from None
        raise error from None
    with reader:
        about = _ours(place, reader)
        if failures:
            rows = np.flatnonzero([bool(text) for text in reader.failure.tolist()]).tolist()
            about["failures"] = {str(reader.clip_id[row]): str(reader.failure[row]) for row in rows}
    return about


def _place(path: str) -> str:
    """The path, or the working folder of an HDF5 store that is not packed yet."""
    if "://" in path or not path.endswith(HDF5_SUFFIXES):
        return path
    work = working_path(Path(path))
    return str(work) if not Path(path).exists() and work.is_dir() else path


def _ours(path: str, reader: StoreReader) -> dict[str, Any]:
    meta, state = reader.meta, reader.state
    counts = {kind.name.lower(): int((state == kind).sum()) for kind in State}
    licence = strictest_licence(meta)
    return {
        "kind": "east-store",
        "path": path,
        "format": "HDF5" if path.endswith(HDF5_SUFFIXES) else "Zarr v3",
        "extractor": meta.extractor,
        "output": meta.output,
        "extractor_version": meta.card.get("version"),
        "mode": meta.mode,
        "complete": meta.complete,
        "writing": _writing(path, reader, counts["pending"]),
        "clips": len(reader),
        **counts,
        "shape": list(reader.shape),
        "dtype": meta.dtype,
        "clip_s": meta.clip_s,
        "hop_s": meta.hop_s,
        "window_s": meta.window_s,
        "offset_s": meta.offset_s,
        "rate_hz": meta.rate_hz,
        "valid_frames": int(np.asarray(reader.n_frames, np.int64).sum()),
        "audio_hours": round(counts["done"] * meta.clip_s / 3600, 3),
        "feature_bytes": reader.n_bytes,
        **_sizes(path, reader),
        "clips_per_chunk_and_shard": [meta.chunk_clips, meta.shard_clips],
        "weights_sha256": list(meta.weights_sha256),
        "licence_code": meta.card.get("licence_code", ""),
        "licence_weights": meta.licence_weights,
        "licence_audio": meta.dataset.get("licence", ""),
        "licence": licence,
        "licence_demands": demands(licence),
        "licences": [{"licence": text, "covers": what} for text, what in covered_licences(meta)],
        "citation": meta.card.get("citation", ""),
        "dataset": dict(meta.dataset),
        "fingerprint": meta.fingerprint,
        "content_digest": meta.content_digest,
        "manifest_digest": meta.manifest_digest,
        "uuid": meta.uuid,
        "canaries": sorted(reader.canaries()),
        "preflight": dict(meta.preflight),
        "derived": dict(meta.derived),
        "runs": [dict(run) for run in meta.runs],
    }


def _writing(path: str, reader: StoreReader, n_pending: int) -> dict[str, Any] | None:
    """Who writes a store that is not finished, or that grows beside its HDF5 file; else None."""
    if "://" in path:
        return None
    folder = working_path(Path(path))
    packed = not Path(path).is_dir()
    if not folder.is_dir() or (reader.meta.complete and not packed and not path.endswith(".partial")):
        return None
    return activity_of(folder, n_pending)


def _sizes(path: str, reader: StoreReader) -> dict[str, Any]:
    """Bytes on the disk, codec, and bytes in memory over those stored, of the clips that are written."""
    remote = "://" in path
    place = Path(path)
    found = look_zarr_url(path) if remote else look_hdf5(place) if place.is_file() else look_zarr(place)
    features = next((array for array in found.arrays if array.name == "features"), None) if found else None
    stored, written = features.disk_bytes if features else None, int((reader.state != State.PENDING).sum())
    ratio = round(written * reader.meta.clip_bytes / stored, 3) if stored and reader.meta.complete else None
    return {
        "disk_bytes": disk_bytes(path),
        "codec": features.compression if features else None,
        "compression_ratio": ratio,
    }


def disk_bytes(path: str) -> int | None:
    """Bytes on the disk, None for a remote store.

    Raises:
        StoreError: links, or more files than any store has.
    """
    place = Path(path)
    if place.is_file():
        return place.stat().st_size
    return sum(check_tree(place).values()) if "://" not in path and place.is_dir() else None
