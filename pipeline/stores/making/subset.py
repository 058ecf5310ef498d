"""Some of a store's clips as a store of their own."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import SettingError, StoreError
from pipeline.events import Listener, ignore
from pipeline.manifest import ClipTable
from pipeline.stores.making.deriving import Derivation, descent, require_finished, write_derived
from pipeline.stores.making.outputs import named, require_output
from pipeline.stores.making.rows import gather_arrays, gather_features
from pipeline.stores.opening import open_store
from pipeline.stores.schema import StoreMeta, choose_sizes


def choose_ids(table: ClipTable, splits: Sequence[str] = (), labels: Sequence[str] = ()) -> list[str]:
    """Ids of a clip table: all of them, or those of some splits that have one of some labels.

    Raises:
        SettingError: a split or label that the table does not have.
    """
    for kind, wanted, known in (("split", splits, table.splits()), ("label", labels, table.classes)):
        if unknown := [name for name in wanted if name not in known]:
            raise SettingError(f"{table.name} has no {kind} {unknown[0]!r}; it has {', '.join(known) or 'none'}.")
    chosen = np.ones(len(table), bool)
    if splits:
        chosen &= np.isin(table.split.astype(str), list(splits))
    if labels:
        columns = [table.classes.index(name) for name in labels]
        chosen &= (table.labels[:, columns] == 1).any(axis=1)
    return [str(clip_id) for clip_id in table.clip_id[chosen].tolist()]


def read_ids(path: Path) -> list[str]:
    """Ids from a text file, one a line; white space around them and empty lines are left out.

    Raises:
        SettingError: it is not UTF-8, or holds no id.
    """
    try:
        lines = path.read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise SettingError(
            f"{path} is not UTF-8 text ({error.reason} at byte {error.start:,}): save it as UTF-8."
        ) from None
    if not (ids := [line.strip() for line in lines if line.strip()]):
        raise SettingError(f"{path} holds no clip id: one a line is expected.")
    return ids


def subset_store(
    path: str, out: Path, ids: Sequence[str], *, allow_missing: bool = False, listener: Listener = ignore
) -> StoreMeta:
    """Write the clips with these ids, in the order of the source.

    Raises:
        StoreError: ids that the store does not have, or none that it has; an unfinished source.
    """
    require_output(out, [path])
    with open_store(path) as reader:
        require_finished(reader)
        wanted, have = set(ids), set(reader.clip_id.tolist())
        if (missing := [clip_id for clip_id in ids if clip_id not in have]) and not allow_missing:
            raise StoreError(
                f"{path} lacks {len(missing):,} of the {len(ids):,} clips: {named(missing, 10)}. Extract them first, "
                "or take what is there with --allow-missing."
            )
        row = np.flatnonzero([clip_id in wanted for clip_id in reader.clip_id.tolist()])
        if not len(row):
            raise StoreError(f"{path} has none of the {len(wanted):,} clips that were asked for.")
        source = np.zeros(len(row), np.int64)
        chunk_clips, shard_clips = choose_sizes(len(row), reader.meta.clip_bytes)
        meta = dataclasses.replace(
            reader.meta, chunk_clips=chunk_clips, shard_clips=shard_clips, manifest_digest="",
            uuid=str(uuid.uuid4()), derived=descent("subset", reader, clips=len(row)),
        )  # fmt: skip
        arrays = gather_arrays([reader], source, row)
        return write_derived(
            out, Derivation(meta, arrays, gather_features([reader], source, row), reader.canaries()), listener
        )
