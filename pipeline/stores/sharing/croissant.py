"""The store card for programs: Croissant 1.0, MLCommons' JSON-LD for data sets.

Source: Croissant format specification, version 1.0.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.licences import demands, find, spdx
from pipeline.stores.licensing import covered_licences
from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import CLIP_ARRAYS, StoreMeta
from pipeline.stores.sharing.card import count
from pipeline.stores.sharing.citing import bibtex
from pipeline.texts import one_line

#: Files are listed one by one up to this many; beyond it the digest list in the store says the rest.
_MOST_FILES = 1000
_MOST_LICENCES = 20
_HDF5 = "application/x-hdf5"
_CHUNKS = {"features": "c.*"}
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_FIELDS = {
    "clip_id": ("sc:Text", "unique key of a clip; joins stores and labels"),
    "n_frames": ("sc:Integer", "valid frames of the clip"),
    "state": ("sc:Integer", "0 pending, 1 done, 2 failed"),
    "failure": ("sc:Text", "why a clip failed, or how it ends early"),
    "features": ("sc:Float", "frames x channels; zero at and beyond n_frames"),
    "file_digest": ("sc:Integer", "SHA-256 of the audio file, 32 bytes"),
    "samples_digest": ("sc:Integer", "SHA-256 of the decoded samples, 32 bytes"),
    "clip_digest": ("sc:Integer", "SHA-256 of what the store says of the clip, 32 bytes"),
}


@dataclass(frozen=True)
class Files:
    """Where a store's bytes lie, as seen from the card.

    Attributes:
        digests: SHA-256 by path inside a Zarr store, or of one HDF5 file by its name; empty for an
            HDF5 file that holds the card itself, which cannot know its own.
        base: folder inside the store that the card lies in, or ``""`` for its root.
        store: name of the store beside the card, where the card lies outside.
        hdf5: whether it is one HDF5 file.
    """

    digests: Mapping[str, str] = field(default_factory=dict)
    base: str = ""
    store: str = ""
    hdf5: bool = False

    def address(self, name: str) -> str:
        """Path of a file or pattern from the card.

        >>> Files(base="features").address("zarr.json"), Files(store="s.zarr").address("zarr.json")
        ('../zarr.json', 's.zarr/zarr.json')
        """
        return f"{self.store}/{name}" if self.store else posixpath.relpath(name, self.base or ".")


def render_croissant(meta: StoreMeta, arrays: ClipArrays, files: Files) -> str:
    """JSON-LD text; the same for the same store and place."""
    counts = count(meta, arrays)
    times = [one_line(run["time"]) for run in meta.runs if isinstance(run.get("time"), str)]
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": one_line(meta.name).replace("/", "-"),
        "description": f"Features of {one_line(meta.name)}: {counts.clips} clips, {meta.frames} frames of "
        f"{meta.channels} channels, {meta.dtype}; {counts.hours:g} hours of audio.",
        "license": _licences(meta),
        "url": f"urn:uuid:{one_line(meta.uuid)}",
        "creator": {"@type": "sc:Organization", "name": "whoever ran east-music: a store names no person"},
        "datePublished": times[-1] if times else "",
        "dateCreated": times[0] if times else "",
        "citeAs": bibtex(meta),
        "identifier": one_line(meta.uuid),
        "version": f"{max(1, len(meta.runs))}.0.0",
        "isLiveDataset": False,
        "keywords": ["audio", "music", "embeddings", one_line(meta.extractor), one_line(meta.output)],
        "distribution": _hdf5_files(files) if files.hdf5 else _zarr_files(files),
        "recordSet": [_records(files)],
    }
    kept = {key: value for key, value in document.items() if value not in ("", [])}
    return json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _licences(meta: StoreMeta) -> list[Any]:
    """Strictest first: addresses where SPDX knows the licence, else works with a name."""
    found: dict[str, Any] = {}
    for text, what in sorted(covered_licences(meta), key=lambda pair: -find(pair[0]).rank)[:_MOST_LICENCES]:
        name = spdx(text)
        work = {"@type": "sc:CreativeWork", "name": f"{text} ({what})", "description": demands(text)}
        found.setdefault(name or f"{text} ({what})", f"https://spdx.org/licenses/{name}" if name else work)
    return list(found.values())


def _hdf5_files(files: Files) -> list[dict[str, Any]]:
    if not files.digests:
        return [{"@type": "cr:FileSet", "@id": "store", "name": "store", "includes": "*.h5", "encodingFormat": _HDF5}]
    name, sha256 = next(iter(files.digests.items()))
    return [_file(name, name, sha256, _HDF5) | {"@id": "store"}]


def _zarr_files(files: Files) -> list[dict[str, Any]]:
    sets = [
        {
            "@type": "cr:FileSet",
            "@id": name,
            "name": name,
            "description": f"the Zarr v3 array {name}: chunks, and zarr.json, which says how they are read",
            "includes": [files.address(f"{name}/{part}") for part in ("zarr.json", _CHUNKS.get(name, "c/*"))],
            "encodingFormat": "application/octet-stream",
        }
        for name in _FIELDS
    ]
    names = sorted(files.digests, key=lambda name: (name.startswith("features/c."), name))[:_MOST_FILES]
    return sets + [_file(name, files.address(name), files.digests[name], _kind(name)) for name in names]


def _file(name: str, address: str, sha256: str, kind: str) -> dict[str, Any]:
    about = {"@type": "cr:FileObject", "@id": f"file:{name}", "name": name}
    return about | {"contentUrl": address, "encodingFormat": kind, "sha256": sha256}


def _kind(name: str) -> str:
    return "application/json" if name.endswith(".json") else "application/octet-stream"


def _records(files: Files) -> dict[str, Any]:
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"clips/{name}",
            "name": name,
            "dataType": kind,
            "description": what,
            "repeated": name == "features" or bool(CLIP_ARRAYS[name][0]),
            "source": _source(name, files),
        }
        for name, (kind, what) in _FIELDS.items()
    ]
    about = {"@type": "cr:RecordSet", "@id": "clips", "name": "clips", "description": "one record per clip"}
    return about | {"key": {"@id": "clips/clip_id"}, "field": fields}


def _source(name: str, files: Files) -> dict[str, Any]:
    """A dataset of an HDF5 file is a column of it; a Zarr array is the content of its files."""
    if not files.hdf5:
        return {"fileSet": {"@id": name}, "extract": {"fileProperty": "content"}}
    whole = "fileObject" if files.digests else "fileSet"
    return {whole: {"@id": "store"}, "extract": {"column": name}}
