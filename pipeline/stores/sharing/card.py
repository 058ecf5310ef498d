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

from pipeline.licences import demands, find, spdx, strictest_of
from pipeline.stores.licensing import covered_licences, sources_of
from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import State, StoreMeta
from pipeline.stores.sharing.citing import bibtex
from pipeline.stores.sharing.reproducing import commands
from pipeline.texts import one_line

CARD, CROISSANT = "README.md", "croissant.json"
_MOST_ITEMS = 20
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~&$])")
_ARRAYS = {
    "features": "what the extractor gives; frames at and beyond `n_frames` are zero",
    "n_frames": "valid frames of the clip, 0 where there are none",
    "clip_id": "unique; join by it, never by position",
    "state": "0 pending, 1 done, 2 failed",
    "failure": "why a clip failed, or `short: ...` where it ends early",
    "file_digest": "SHA-256 of the audio file",
    "samples_digest": "SHA-256 of the decoded samples, the same for a WAV and a FLAC",
    "clip_digest": "SHA-256 of what the store says of the clip",
}


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


def escaped(value: object) -> str:
    """A text on one line, as Markdown that shows as it stands; addresses are not made into links."""
    return _SPECIAL.sub(r"\\\1", one_line(value)).replace("://", ":&#8203;//")


def render_card(meta: StoreMeta, arrays: ClipArrays) -> str:
    """The whole page; the same text for the same store."""
    parts = (_head, _contents, _arrays, _opening, _licences, _citation, _reproducing, _runs)
    counts = count(meta, arrays)
    return "\n\n".join(part(meta, counts) for part in parts) + "\n"


def _head(meta: StoreMeta, counts: Counts) -> str:
    what = f"What {escaped(meta.extractor)} gives as its output {escaped(meta.output)}"
    named = {one_line(_table(source.get("dataset")).get("name")): None for source in sources_of(meta)}
    names = [name for name in {one_line(meta.dataset.get("name")): None} | named if name][:_MOST_ITEMS]
    summary = f"\n\n{escaped(meta.card.get('summary'))}." if meta.card.get("summary") else ""
    state = "" if meta.complete else "\n\n**Unfinished:** some clips are still pending."
    whose = f" of {', '.join(map(escaped, names))}" if names else ""
    return f"# {escaped(meta.name)}\n\n{what} for {counts.clips:,} clips{whose}.{summary}{state}"


def _contents(meta: StoreMeta, counts: Counts) -> str:
    weights = [escaped(text) for text in meta.weights_sha256[:_MOST_ITEMS]]
    rows = {
        "teacher": f"{escaped(meta.extractor)}, version {escaped(meta.card.get('version')) or 'unknown'}",
        "weights, SHA-256": "<br>".join(weights) or "it has none",
        "shape": f"{counts.clips:,} clips x {meta.frames:,} frames x {meta.channels:,} channels, {meta.dtype}",
        "clips": f"{counts.done:,} done, {counts.failed:,} failed, {counts.pending:,} pending",
        "audio": f"{counts.hours:,} hours, clips of {meta.clip_s:g} s at {meta.rate_hz:,} Hz",
        "frames": f"every {meta.hop_s:g} s, each over {meta.window_s:g} s, the first from {meta.offset_s:g} s; "
        f"{counts.valid_frames:,} valid",
        "mode": escaped(meta.mode),
        "fingerprint": escaped(meta.fingerprint),
        "content digest": escaped(meta.content_digest) or "none yet",
    }
    return "## Contents\n\n| | |\n|---|---|\n" + "\n".join(f"| {key} | {value} |" for key, value in rows.items())


def _arrays(meta: StoreMeta, counts: Counts) -> str:
    shapes = {"features": "clip, frame, channel"} | {name: "clip, 32" for name in _ARRAYS if name.endswith("_digest")}
    lines = [f"| `{name}` | {shapes.get(name, 'clip')} | {what} |" for name, what in _ARRAYS.items()]
    note = _output_note(meta)
    return (
        "## Arrays\n\n| array | axes | meaning |\n|---|---|---|\n" + "\n".join(lines) + (f"\n\n{note}" if note else "")
    )


def _output_note(meta: StoreMeta) -> str:
    """What the card says of the channels of this output."""
    outputs = meta.card.get("outputs")
    for item in outputs if isinstance(outputs, list | tuple) else ():
        if _table(item).get("name") == meta.output and _table(item).get("note"):
            return f"Channels: {escaped(_table(item)['note'])}."
    return ""


def _opening(meta: StoreMeta, counts: Counts) -> str:
    return (
        "## Opening it\n\n```python\nimport xarray\n\n"
        'dataset = xarray.open_zarr("STORE.zarr", consolidated=False)\n'
        'features, n_frames = dataset["features"], dataset["n_frames"]\n```\n\n'
        "```python\nfrom pipeline.stores import open_store\n\n"
        'with open_store("STORE.zarr") as store:\n    first = store.read([0])\n```\n\n'
        "```python\nimport h5py\n\n"
        'with h5py.File("STORE.h5") as file:\n    first, ids = file["features"][0], file["clip_id"].asstr()[:]\n```'
    )


def _licences(meta: StoreMeta, counts: Counts) -> str:
    covered = sorted(covered_licences(meta), key=lambda pair: -find(pair[0]).rank)
    lines = [f"- {escaped(what)}: {_licence(text)}" for text, what in covered[:_MOST_ITEMS]]
    if len(covered) > _MOST_ITEMS:
        lines.append(f"- and {len(covered) - _MOST_ITEMS:,} more, none of them stricter")
    text, what = strictest_of(covered)
    whole = f"The strictest holds for all of it: **{escaped(text)}** ({escaped(what)}). {demands(text)}"
    return "## Licences\n\n" + "\n".join(lines) + f"\n\n{whole}"


def _licence(text: str) -> str:
    name = spdx(text)
    return f"[{name}](https://spdx.org/licenses/{name}.html)" if name else escaped(text)


def _citation(meta: StoreMeta, counts: Counts) -> str:
    found = bibtex(meta)
    return f"## Citation\n\n```bibtex\n{found}\n```" if found else "## Citation\n\nNone is recorded."


def _reproducing(meta: StoreMeta, counts: Counts) -> str:
    facts = {
        "clip table": f"{escaped(meta.dataset.get('name')) or 'unnamed'}, version "
        f"{escaped(meta.dataset.get('version')) or 'not recorded'}, digest {escaped(meta.manifest_digest) or 'none'}",
        "parameters": escaped(meta.card.get("parameters") or "none"),
    }
    if sources := sources_of(meta)[:_MOST_ITEMS]:
        facts["made from"] = "<br>".join(map(_source, sources))
    table = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    return f"## Making it again\n\n```console\n{commands(meta)}\n```\n\n| | |\n|---|---|\n{table}"


def _source(source: Mapping[str, Any]) -> str:
    """A store, or files of other kinds."""
    if "kind" in source:
        return f"{escaped(source['kind'])}, SHA-256 {escaped(source.get('sha256')) or 'unknown'}"
    name = f"{escaped(source.get('extractor'))}/{escaped(source.get('output'))}"
    return f"{name}, content {escaped(source.get('content_digest')) or 'unknown'}"


def _runs(meta: StoreMeta, counts: Counts) -> str:
    lines = [f"- {_run(_table(run))}" for run in meta.runs[-_MOST_ITEMS:]]
    if len(meta.runs) > _MOST_ITEMS:
        lines.insert(0, f"- {len(meta.runs) - _MOST_ITEMS:,} earlier ones")
    return "## What wrote it\n\n" + ("\n".join(lines) or "No run has finished it yet.")


def _run(run: Mapping[str, Any]) -> str:
    packages = _table(run.get("packages"))
    named = [f"{name} {packages[name]}" for name in ("torch", "numpy") if name in packages]
    parts = (f"east-music {run.get('version', '?')}", *named, run.get("device"), f"commit {run.get('commit')}")
    known = [escaped(part) for part in parts if part and not str(part).endswith("None")]
    return f"{escaped(run.get('time', 'unknown time'))}: {', '.join(known)}"


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
