"""A checker of Croissant 1.0 documents, by the rules of its specification that concern us."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

REQUIRED = ("@context", "@type", "conformsTo", "description", "license", "name", "url", "creator", "datePublished")
FILE = ("@id", "name", "contentUrl", "encodingFormat", "sha256")
FILE_SET = ("@id", "includes", "encodingFormat")
DATA_TYPES = {"sc:Text", "sc:Integer", "sc:Float", "sc:Boolean"}
PROPERTIES = {"fullpath", "filename", "content", "lines", "lineNumbers"}


def problems(document: dict[str, Any]) -> list[str]:
    """What a Croissant reader would complain about; empty where all is well."""
    found = [f"dataset lacks {name}" for name in REQUIRED if not document.get(name)]
    if document.get("@type") != "sc:Dataset" or document.get("conformsTo") != "http://mlcommons.org/croissant/1.0":
        found.append("not a Croissant 1.0 dataset")
    known = set(document["@context"]) | {"@context", "@type", "@id"}
    found += [f"the context defines no {name}" for name in _names(document["recordSet"]) - known - _SCHEMA_ORG]
    for licence in document.get("license", []):
        if isinstance(licence, str) and not licence.startswith("https://spdx.org/licenses/"):
            found.append(f"licence {licence!r} is no address")
        elif isinstance(licence, dict) and (licence.get("@type") != "sc:CreativeWork" or not licence.get("name")):
            found.append(f"licence {licence!r} is no named work")
    ids = [item["@id"] for item in document["distribution"]]
    if len(set(ids)) != len(ids):
        found.append("two files have one @id")
    for item in document["distribution"]:
        needed = {"cr:FileObject": FILE, "cr:FileSet": FILE_SET}[item["@type"]]
        found += [f"{item['@id']} lacks {name}" for name in needed if not item.get(name)]
        if not re.fullmatch(r"[0-9a-f]{64}", item.get("sha256", "0" * 64)):
            found.append(f"{item['@id']}: no SHA-256")
    for records in document["recordSet"]:
        fields = [field["@id"] for field in records["field"]]
        if records["key"]["@id"] not in fields:
            found.append("the key is no field")
        found += [text for field in records["field"] for text in _field(field, records["@id"], set(ids))]
    return found


def _field(field: dict[str, Any], records: str, files: set[str]) -> list[str]:
    found, source = [], field["source"]
    if not field["@id"].startswith(f"{records}/") or field["dataType"] not in DATA_TYPES:
        found.append(f"{field['@id']}: no name below its records, or no known type")
    (place,) = (source[kind]["@id"] for kind in ("fileObject", "fileSet") if kind in source)
    if place not in files:
        found.append(f"{field['@id']}: its source {place} is not distributed")
    extract = source["extract"]
    if "column" not in extract and extract.get("fileProperty") not in PROPERTIES:
        found.append(f"{field['@id']}: nothing is extracted")
    return found


_SCHEMA_ORG = {"name", "description"}


def _names(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(_names, value))
    return set(value).union(*map(_names, value.values())) if isinstance(value, dict) else set()


def differing_files(document: dict[str, Any], folder: Path) -> list[str]:
    """Files of the distribution that do not lie where they are said to, with their digest, seen from ``folder``."""
    files = [item for item in document["distribution"] if item["@type"] == "cr:FileObject"]
    assert files
    return [
        item["contentUrl"]
        for item in files
        if hashlib.sha256((folder / item["contentUrl"]).read_bytes()).hexdigest() != item["sha256"]
    ]


def empty_sets(document: dict[str, Any], folder: Path) -> list[str]:
    """File sets whose pattern finds nothing, seen from ``folder``."""
    sets = [item for item in document["distribution"] if item["@type"] == "cr:FileSet"]
    assert sets
    return [
        item["@id"]
        for item in sets
        if not any(any(folder.parent.glob(_below(pattern, folder))) for pattern in item["includes"])
    ]


def _below(pattern: str, folder: Path) -> str:
    """A pattern from the parent of the folder."""
    return pattern.removeprefix("../") if pattern.startswith("../") else f"{folder.name}/{pattern}"
