"""The store card for programs: Croissant 1.0, MLCommons' JSON-LD for data sets.

Source: Croissant format specification, version 1.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import StoreMeta
from pipeline.stores.sharing.card import count, plain, strictest_licence

#: Shards are listed one by one up to this many; beyond it the digest list in the store says the rest.
_MOST_FILES = 1000
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
    "features": ("sc:Float", "[frame, channel]; zero at and beyond n_frames"),
}


def render_croissant(meta: StoreMeta, arrays: ClipArrays, digests: Mapping[str, str]) -> str:
    """JSON-LD text; the same for the same store.

    Args:
        digests: SHA-256 by path inside a Zarr store; empty for HDF5, whose file cannot hold its own.
    """
    counts = count(meta, arrays)
    document = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": plain(meta.name).replace("/", "-"),
        "description": f"Features of {plain(meta.name)}: {counts.clips} clips, {meta.frames} frames of "
        f"{meta.channels} channels, {meta.dtype}; {counts.hours:g} hours of audio.",
        "license": strictest_licence(meta),
        "citeAs": plain(meta.card.get("citation")),
        "identifier": plain(meta.uuid),
        "version": "1.0.0",
        "isLiveDataset": False,
        "distribution": _files(digests),
        "recordSet": [_records()],
    }
    kept = {key: value for key, value in document.items() if value not in ("", [])}
    return json.dumps(kept, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _files(digests: Mapping[str, str]) -> list[dict[str, Any]]:
    shards = sorted(name for name in digests if name.startswith("features/c."))[:_MOST_FILES]
    whole = {"@type": "cr:FileSet", "@id": "store", "name": "store", "includes": "**"}
    whole["encodingFormat"] = "application/octet-stream"
    return [whole] + [
        {
            "@type": "cr:FileObject",
            "@id": name,
            "name": name,
            "contentUrl": name.removeprefix("features/"),
            "encodingFormat": "application/octet-stream",
            "sha256": digests[name],
        }
        for name in shards
    ]


def _records() -> dict[str, Any]:
    source = {"fileSet": {"@id": "store"}, "extract": {"fileProperty": "content"}}
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"clips/{name}",
            "name": name,
            "dataType": kind,
            "description": what,
            "source": source,
        }
        for name, (kind, what) in _FIELDS.items()
    ]
    return {"@type": "cr:RecordSet", "@id": "clips", "name": "clips", "key": {"@id": "clips/clip_id"}, "field": fields}
