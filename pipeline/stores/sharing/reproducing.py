"""The commands that make a store again, from what it says of itself.

They are for reading and for pasting, so every text in them is quoted as a shell wants it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from pipeline.stores.licensing import sources_of
from pipeline.stores.schema import StoreMeta
from pipeline.texts import one_line

_MOST_SOURCES = 20
_VERSIONS = (("east-music", "version"), ("commit", "commit"))


def commands(meta: StoreMeta) -> str:
    """Lines for a shell: the version that wrote the store as a remark, then what made it."""
    run: Mapping[str, Any] = next((run for run in reversed(meta.runs) if isinstance(run, Mapping)), {})
    known = [f"{name} {one_line(run.get(key))}" for name, key in _VERSIONS if run.get(key)]
    changed = ["with changes that were not committed"] if run.get("dirty") is True else []
    lines = [f"# {', '.join([*known, *changed])}".replace("`", "'")] if known else []
    return "\n".join([*lines, *(_derived(meta) if meta.derived else _extracted(meta, run))])


def quoted(text: object) -> str:
    """A text as one word of a shell; backticks cannot end the block of code that it stands in."""
    return shlex.quote(one_line(text).replace("`", "'"))


def _extracted(meta: StoreMeta, run: Mapping[str, Any]) -> list[str]:
    data = quoted(meta.dataset.get("name") or "FOLDER")
    asked, batches = _table(run.get("requests")), _table(run.get("batch_clips"))
    found = _table(meta.card.get("parameters")).get("view")
    view = found if type(found) is int else 0
    name = (one_line(asked.get(meta.extractor)) or meta.extractor).removesuffix(f":view={view}")
    if meta.card.get("kind") == "mel":
        what = f"--teacher none --student {_student(meta)}" + (f" --views {view}" if view else "")
    else:
        what = f"--teacher {quoted(f'{name}/{meta.output}')} --student none"
        what += f" --teacher-views {view}" if view else ""
    batch = batches.get(meta.extractor)
    settings = f"--mode {quoted(meta.mode)} --dtype {quoted(meta.dtype)}"
    settings += f" --batch {batch}" if type(batch) is int else ""
    return [f"# clips of {meta.clip_s:g} s", f"east extract --data {data} {what} \\", f"  {settings}"]


def _student(meta: StoreMeta) -> str:
    """Mels are asked for by a student that hears with them."""
    return quoted(f"STUDENT-OF-{re.sub(r'[^A-Za-z0-9-]+', '-', meta.extractor).upper()}")


def _derived(meta: StoreMeta) -> list[str]:
    verb, settings = one_line(meta.derived.get("verb")), _table(meta.derived.get("settings"))
    sources = sources_of(meta)
    names = [quoted(f"{source.get('extractor')}/{source.get('output')}.zarr") for source in sources[:_MOST_SOURCES]]
    more = ["..."] if len(sources) > _MOST_SOURCES else []
    if verb == "merge":
        same = ["--duplicates same"] if settings.get("duplicates") == "same" else []
        return [" ".join(["east store merge OUT.zarr", *names, *more, *same])]
    options = {
        "subset": ["--data TABLE"],
        "convert": [f"--dtype {quoted(settings['dtype'])}"] if "dtype" in settings else [],
        "pool": [f"--how {quoted(settings.get('how'))}", *([f"--hop {meta.hop_s:g}"] if meta.hop_s else [])],
    }.get(verb)
    if options is None:
        return [f"# {verb.replace('`', '')} with " + one_line(dict(settings)).replace("`", "'")]
    return [" ".join([f"east store {verb}", *names[:1], "OUT.zarr", *options])]


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
