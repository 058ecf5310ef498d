"""The store card: what a store is, for people, as Markdown made from its own metadata.

Metadata may come from anyone: every text is cut, put on one line and escaped, so that it can
neither break the page's structure nor bring links or HTML into it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.licences import find, strictest
from pipeline.stores.reader import ClipArrays, StoreReader
from pipeline.stores.schema import State, StoreMeta

CARD, CROISSANT = "README.md", "croissant.json"
_MOST_CHARACTERS = 500
_MOST_ITEMS = 20
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~&$])")


@dataclass(frozen=True)
class Counts:
    """How much a store holds; hours are those of clips that are done."""

    clips: int
    done: int
    failed: int
    pending: int
    valid_frames: int
    hours: float


def count(meta: StoreMeta, arrays: ClipArrays) -> Counts:
    """Counts from the small arrays."""
    done, failed, pending = (int((arrays.state == kind).sum()) for kind in (State.DONE, State.FAILED, State.PENDING))
    frames = int(np.asarray(arrays.n_frames, np.int64).sum())
    return Counts(len(arrays.clip_id), done, failed, pending, frames, round(done * meta.clip_s / 3600, 3))


def plain(value: object) -> str:
    """A text from anywhere on one line, without control characters, at most 500 characters."""
    text = "" if value is None else str(value)[: 4 * _MOST_CHARACTERS]
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "..."


def escaped(value: object) -> str:
    """The same as Markdown that shows as it stands; addresses are not made into links."""
    return _SPECIAL.sub(r"\\\1", plain(value)).replace("://", ":&#8203;//")


def covered_licences(meta: StoreMeta) -> list[tuple[str, str]]:
    """Licences of weights, code and audio with what they cover; a source's own strictest where it says one."""
    data = _table(meta.dataset)
    found = [
        (plain(meta.licence_weights), f"weights of {plain(meta.extractor)}"),
        (plain(meta.card.get("licence_code")), f"code of {plain(meta.extractor)}"),
        (plain(data.get("licence")), f"audio of {plain(data.get('name')) or 'the store'}"),
    ]  # fmt: skip
    for source in _items(meta.derived.get("sources")):
        found.append((plain(_table(source).get("licence")), "a store it was made from"))
    return [(text, what) for text, what in found if text]


def strictest_licence(meta: StoreMeta) -> str:
    """``LICENCE (WHAT)`` of the strictest; ``unknown`` where the store says nothing."""
    covered = covered_licences(meta)
    return strictest(covered) if covered else "unknown"


def render_card(meta: StoreMeta, arrays: ClipArrays) -> str:
    """The whole page; the same text for the same store."""
    parts = (_head, _contents, _opening, _licences, _origin, _reproducing)
    counts = count(meta, arrays)
    return "\n\n".join(part(meta, counts) for part in parts) + "\n"


def card_of(reader: StoreReader) -> str:
    """The page of a store that is open, finished or not."""
    return render_card(reader.meta, reader.arrays)


def _head(meta: StoreMeta, counts: Counts) -> str:
    what = f"What {escaped(meta.extractor)} gives as its output {escaped(meta.output)}"
    whose = escaped(_table(meta.dataset).get("name"))
    state = "" if meta.complete else "\n\n**Unfinished:** some clips are still pending."
    return f"# {escaped(meta.name)}\n\n{what} for {counts.clips:,} clips{f' of {whose}' if whose else ''}.{state}"


def _contents(meta: StoreMeta, counts: Counts) -> str:
    rows = {
        "shape": f"{counts.clips:,} clips x {meta.frames:,} frames x {meta.channels:,} channels, {meta.dtype}",
        "clips": f"{counts.done:,} done, {counts.failed:,} failed, {counts.pending:,} pending",
        "audio": f"{counts.hours:,} hours, clips of {meta.clip_s:g} s at {meta.rate_hz:,} Hz",
        "frames": f"every {meta.hop_s:g} s, each over {meta.window_s:g} s; {counts.valid_frames:,} valid",
        "mode": escaped(meta.mode),
        "fingerprint": escaped(meta.fingerprint),
        "content digest": escaped(meta.content_digest) or "none yet",
    }
    return "## Contents\n\n| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in rows.items())


def _opening(meta: StoreMeta, counts: Counts) -> str:
    return (
        "## Opening it\n\nFrames at and beyond `n_frames` are zero. Join by `clip_id`, never by position.\n\n"
        "```python\nimport xarray\n\n"
        'dataset = xarray.open_zarr("STORE.zarr", consolidated=False)\n```\n\n'
        "```python\nfrom pipeline.stores import open_store\n\n"
        'with open_store("STORE.zarr") as store:\n    first = store.read([0])\n```\n\n'
        "```python\nimport h5py\n\n"
        'with h5py.File("STORE.h5") as file:\n    first, ids = file["features"][0], file["clip_id"].asstr()[:]\n```'
    )


def _licences(meta: StoreMeta, counts: Counts) -> str:
    lines = [f"- {escaped(what)}: {escaped(text)}" for text, what in covered_licences(meta)]
    whole = strictest_licence(meta)
    lines.append(f"- strictest: **{escaped(whole)}**. {find(whole.rpartition(' (')[0] or whole).demands}")
    if not plain(_table(meta.dataset).get("licence")):
        lines.append("- audio: none is recorded; of your own recordings it is yours to decide.")
    return "## Licences\n\n" + "\n".join(lines)


def _origin(meta: StoreMeta, counts: Counts) -> str:
    cited = [escaped(text) for text in (meta.card.get("citation"), _table(meta.dataset).get("citation")) if text]
    return "## Citation\n\n" + ("\n".join(f"- {text}" for text in cited) or "None is recorded.")


def _reproducing(meta: StoreMeta, counts: Counts) -> str:
    if meta.derived:
        sources = [
            f"- {escaped(_table(source).get('extractor'))}/{escaped(_table(source).get('output'))}, "
            f"content {escaped(_table(source).get('content_digest')) or 'unknown'}"
            if "kind" not in _table(source)
            else f"- {escaped(source['kind'])}, SHA-256 {escaped(source.get('sha256'))}"
            for source in _items(meta.derived.get("sources"))
        ]
        settings = escaped(meta.derived.get("settings"))
        return "\n".join(
            [f"## How it was made\n\nBy {escaped(meta.derived.get('verb'))} ({settings}) from:\n", *sources]
        )
    run = _table(meta.runs[-1]) if meta.runs else {}
    facts = {
        "teacher": f"{escaped(meta.name)}, mode {escaped(meta.mode)}, clips of {meta.clip_s:g} s, {meta.dtype}",
        "east-music": escaped(run.get("version")),
        "commit": escaped(run.get("commit")),
        "weights, SHA-256": ", ".join(escaped(text) for text in meta.weights_sha256[:_MOST_ITEMS]),
        "clip table": escaped(meta.manifest_digest),
    }
    lines = [f"- {key}: {value}" for key, value in facts.items() if value]
    return "## How to make it again\n\n`east extract` with these, on the same clips:\n\n" + "\n".join(lines)


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _items(value: object) -> list[Any]:
    return list(value)[:_MOST_ITEMS] if isinstance(value, list | tuple) else []
