"""A labelled dataset and clips of elsewhere that nobody labelled, as one clip table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pipeline import layout, registry
from pipeline.datasets.own import name_of, table_from
from pipeline.datasets.resolve import load, resolve
from pipeline.errors import SettingError
from pipeline.events import Listener, Note, Warned, ignore
from pipeline.licences import strictest_of
from pipeline.manifest import UNKNOWN, UNLABELLED, ClipTable, is_url, read_table, require_valid, write_table
from pipeline.manifest.table import strings
from pipeline.texts import counted

__all__ = ["join", "join_tables"]


def join(
    data: str, pools: Sequence[str], *, name: str, limit: int | None = None, seed: int = 0, listener: Listener = ignore
) -> tuple[ClipTable, Path]:
    """Make and write the table of ``data`` with the clips of ``pools`` in the split ``unlabelled``.

    Args:
        data, pools: names of datasets, clip tables; a pool may also be a folder of audio, which is cut
            into clips of the length of ``data``'s.
        name: of the new dataset.
        limit: how many clips of the pools are taken, drawn at random; None takes all.

    Raises:
        SettingError: clips of several lengths, roots that have nothing in common, no splits in ``data``,
            a name that is taken by one of them.
        ManifestError: a table that cannot be used.
    """
    first, _ = load(data)
    made = layout.table_path(name_of(Path(name), name))
    if name in registry.datasets() or (made.exists() and "joined" not in read_table(made).card):
        raise SettingError(f"--name {name} is the name of another dataset. Choose another one.")
    others = [_pool(pool, first.clip_s, listener) for pool in pools]
    table = join_tables(first, others, name=name, limit=limit, seed=seed, listener=listener)
    write_table(table, made)
    return table, made


def join_tables(
    first: ClipTable,
    pools: Sequence[ClipTable],
    *,
    name: str,
    limit: int | None = None,
    seed: int = 0,
    listener: Listener = ignore,
) -> ClipTable:
    """The clips of ``first`` as they are, and those of ``pools`` without labels; ids begin with the pool's name.

    Clips of files that are in ``first``, too, are left out: they may be those that judge.  Raises like
    :func:`join`.
    """
    _check(first, pools)
    root = _common_root([first.root, *(pool.root for pool in pools)])
    own = _moved(first, root)
    files = set(own.path.tolist())
    taken = [_hidden(_moved(pool, root), first, files, listener) for pool in pools]
    taken = _limited(taken, limit, seed)
    parts = [own, *taken]
    table = replace(
        own,
        name=name,
        clip_id=np.concatenate([part.clip_id for part in parts]),
        path=np.concatenate([part.path for part in parts]),
        split=np.concatenate([part.split for part in parts]),
        group=np.concatenate([part.group for part in parts]),
        start_s=np.concatenate([part.start_s for part in parts]),
        duration_s=np.concatenate([part.duration_s for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        card=_card(first, pools, taken, limit=limit, seed=seed),
    )
    require_valid(table)
    n = sum(map(len, taken))
    listener(Note(f"{name}: {len(own):,} clips of {first.name}, and {counted(n, 'clip')} without labels."))
    return table


def _pool(text: str, clip_s: float, listener: Listener) -> ClipTable:
    path = Path(text)
    if path.is_dir() and not (path / layout.table_path("x").name).is_file():
        return table_from(path, clip_s=clip_s, split_ratios=None, listener=listener)
    return resolve(text, listener=listener)[0]


def _check(first: ClipTable, pools: Sequence[ClipTable]) -> None:
    if not first.splits():
        raise SettingError(
            f"{first.name!r} has no splits, so nobody could tell its clips from those without labels. Make its table "
            "with splits: east data from SOURCE --split train=0.8,valid=0.1,test=0.1"
        )
    for pool in pools:
        if abs(pool.clip_s - first.clip_s) > 1e-6:
            raise SettingError(
                f"Clips of {pool.name!r} have {pool.clip_s:g} s and those of {first.name!r} {first.clip_s:g} s; a "
                f"store has one length. Cut them alike: east data from SOURCE --clip-s {first.clip_s:g}"
            )
    names = [pool.name for pool in pools]
    if twice := next((one for one in names if names.count(one) > 1), ""):
        raise SettingError(f"Two of the datasets to join are named {twice!r}: their ids could be the same.")


def _common_root(roots: Sequence[str]) -> str:
    """The folder, or address, that all audio lies below."""
    remote = [is_url(root) for root in roots]
    if not any(remote):
        try:
            return os.path.commonpath([str(Path(root).absolute()) for root in roots])
        except ValueError as error:  # drives of Windows
            raise SettingError(f"The audio lies on several drives: {', '.join(roots)}.") from error
    parts = [root.rstrip("/").split("/") for root in roots]
    common = [same[0] for same in takewhile(lambda level: len(set(level)) == 1, zip(*parts, strict=False))]
    if not all(remote) or len(common) < 3 or not common[2]:
        raise SettingError(
            f"The audio lies in places that have nothing in common: {', '.join(roots)}. Put it below one folder, or "
            "one address."
        )
    return "/".join(common)


def _moved(table: ClipTable, root: str) -> ClipTable:
    """The same clips with paths below another root."""
    place = table.root.rstrip("/") if is_url(table.root) else str(Path(table.root).absolute())
    below = place[len(root) :].strip("/") if is_url(root) else PurePosixPath(os.path.relpath(place, root)).as_posix()
    if below in ("", "."):
        return replace(table, root=root)
    return replace(table, root=root, path=strings(f"{below}/{path}" for path in table.path.tolist()))


def _hidden(pool: ClipTable, first: ClipTable, files: set[str], listener: Listener) -> ClipTable:
    """A pool's clips without labels, splits, and files that are in the labelled dataset."""
    known = np.array([path in files for path in pool.path.tolist()], bool)
    if known.any():
        n = counted(int(known.sum()), "clip")
        listener(Warned(f"{n} of {pool.name} are of files that are in {first.name}, too, and left out."))
    rest = pool.select(np.flatnonzero(~known))
    return replace(
        rest,
        classes=first.classes,
        task=first.task,
        clip_id=strings(f"{pool.name}/{clip_id}" for clip_id in rest.clip_id.tolist()),
        split=np.full(len(rest), UNLABELLED, object),
        group=strings(f"{pool.name}/{group}" if group else "" for group in rest.group.tolist()),
        labels=np.full((len(rest), len(first.classes)), UNKNOWN, np.int8),
    )


def _limited(pools: Sequence[ClipTable], limit: int | None, seed: int) -> list[ClipTable]:
    """At most ``limit`` clips of all pools together, each as likely as any other, in their order."""
    sizes = [len(pool) for pool in pools]
    total = sum(sizes)
    if limit is None or limit >= total:
        return list(pools)
    chosen = np.sort(np.random.default_rng(seed).permutation(total)[:limit])
    starts = np.cumsum([0, *sizes])
    return [
        pool.select(chosen[(chosen >= start) & (chosen < start + size)] - start)
        for pool, start, size in zip(pools, starts.tolist(), sizes, strict=False)
    ]


def _card(
    first: ClipTable, pools: Sequence[ClipTable], taken: Sequence[ClipTable], *, limit: int | None, seed: int
) -> dict[str, Any]:
    tables = [first, *(pool for pool, part in zip(pools, taken, strict=True) if len(part))]
    licences = [(str(table.card.get("licence", "")), table.name) for table in tables]
    joined = [{"name": table.name, "digest": table.digest(), "clips": len(table)} for table in (first, *pools)]
    return {
        "source": ", ".join(str(table.card.get("source") or table.name) for table in tables),
        "licence": strictest_of(licences)[0],
        "licences": [list(pair) for pair in licences],
        "citation": "; ".join(text for table in tables if (text := str(table.card.get("citation", "")))),
        "split_rule": str(first.card.get("split_rule", "")),
        "joined": {"tables": joined, "limit": limit, "seed": seed},
    }
