"""Embeddings made elsewhere as a store, with a card that says what they are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import SettingError, StoreError
from pipeline.events import Listener, Warned, ignore
from pipeline.stores.exchange.dense import Arrays, NpySource, NpzSource
from pipeline.stores.exchange.facts import Facts, meta_of, read_facts
from pipeline.stores.exchange.hdf5_source import Hdf5Source
from pipeline.stores.exchange.numpy_files import FEATURES, INDEX
from pipeline.stores.exchange.sources import BLOCK_BYTES, Cast, Content, FolderSource, Source
from pipeline.stores.guard import MAX_TEXT_BYTES, load_json, read_file
from pipeline.stores.making.deriving import Derivation, Read, write_derived
from pipeline.stores.making.outputs import named, require_output
from pipeline.stores.reader import ClipArrays
from pipeline.stores.schema import HDF5_SUFFIXES, Dtype, State, StoreMeta


@dataclass(frozen=True)
class ImportOptions:
    """How a source is read.

    Attributes:
        features_name, ids_name: names of arrays, empty for the usual ones.
        ids: file with the ids, one per line or a JSON list, in order; for sources that have none.
        clip_id: how an id is made of a clip's name; ``{name}`` stands for it.
        dtype: stored type; None keeps float16 and makes float32 of all else.
    """

    features_name: str = ""
    ids_name: str = ""
    ids: Path | None = None
    clip_id: str = "{name}"
    dtype: Dtype | None = None


def import_store(
    path: Path,
    out: Path,
    card: Path | None,
    given: Mapping[str, Any],
    options: ImportOptions = ImportOptions(),
    *,
    listener: Listener = ignore,
) -> StoreMeta:
    """Write a store of a source's clips; those without usable numbers are recorded as failed.

    Args:
        card: facts in TOML.
        given: facts by name, laid over the card; None values do not count.

    Raises:
        SettingError: a fact that is missing or makes no sense.
        StoreError: a source that cannot be read, ids that repeat, no usable clip, a value beyond the type.
    """
    require_output(out, [str(path)])
    facts = read_facts(card, given)
    with ExitStack() as stack:
        source = open_source(path, Cast(facts.scale, facts.shift), stack, options)
        content = source.scan(listener)
        dtype: Dtype = options.dtype or ("float16" if content.half else "float32")
        _require_usable(content, dtype, path)
        meta = meta_of(
            facts, clips=len(content.names), frames=content.frames, channels=content.channels, dtype=dtype,
            derived=_descent(content, facts, options),
        )  # fmt: skip
        if failed := [name for name, why in zip(content.names, content.failure, strict=True) if why]:
            listener(
                Warned(
                    f"{len(failed):,} of {len(content.names):,} clips have no usable numbers and are recorded as "
                    f"failed, the first {failed[0]!r}: east store info {out} --failures lists them."
                )
            )
        arrays = _arrays(content, clip_ids_of(content.names, options.clip_id, path))
        return write_derived(out, Derivation(meta, arrays, _reading(source, content, arrays)), listener)


def open_source(path: Path, cast: Cast, stack: ExitStack, options: ImportOptions) -> Source:
    """What reads a source, by what it is; its files are closed by ``stack``.

    Raises:
        StoreError: nothing is there, or nothing that is read.
    """
    names = _read_names(options.ids) if options.ids else None
    arrays = Arrays(options.features_name, options.ids_name, names)
    if path.is_dir():
        if (path / f"{FEATURES}.npy").is_file() and not (path / INDEX).exists():
            return NpySource(path, cast, stack, names)
        if names is not None:
            raise SettingError(f"--ids goes with one array of all clips; in the folder {path} files name their clips.")
        return FolderSource(path, cast, options.features_name)
    if not path.exists():
        raise StoreError(f"There is nothing at {path}.")
    if path.suffix == ".npz":
        return NpzSource(path, cast, stack, arrays)
    if path.suffix == ".npy":
        return NpySource(path, cast, stack, names)
    if path.suffix in (*HDF5_SUFFIXES, ".hdf"):
        return Hdf5Source(path, cast, stack, arrays)
    raise StoreError(
        f"{path} is not read: a folder of .npy or .npz (one per clip), one .npz, .npy or HDF5 file (.h5, .hdf5) is."
    )


def _read_names(path: Path) -> list[str]:
    try:
        text = read_file(path.resolve(), MAX_TEXT_BYTES).decode("utf-8-sig")  # with a mark of byte order or without
    except (OSError, UnicodeDecodeError) as error:
        raise StoreError(f"{path} cannot be read as a list of ids in UTF-8: {error}") from error
    found = load_json(text, str(path)) if path.suffix == ".json" else text.splitlines()
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise StoreError(f"{path} is no list of ids.")
    return found


def clip_ids_of(names: list[str], pattern: str, path: Path) -> list[str]:
    """Ids of clips by their names.

    Raises:
        SettingError: a pattern without ``{name}``.
        StoreError: ids that repeat.

    >>> clip_ids_of(["000046_3840"], "audio/{name}.ogg@0", Path("x.npz"))
    ['audio/000046_3840.ogg@0']
    """
    if "{name}" not in pattern:
        raise SettingError(f"--clip-id {pattern!r} must hold {{name}}, else all clips have the same id.")
    found = [pattern.replace("{name}", name) for name in names]
    seen: set[str] = set()
    twice = [clip_id for clip_id in found if clip_id in seen or seen.add(clip_id)]  # type: ignore[func-returns-value]
    if twice:
        raise StoreError(f"{path} names {len(twice):,} clips more than once: {named(twice)}. Ids must be unique.")
    return found


def _require_usable(content: Content, dtype: Dtype, path: Path) -> None:
    if all(content.failure):
        raise StoreError(
            f"{path}: none of the {len(content.failure):,} clips is usable; the first: {content.failure[0]}"
        )
    limit = float(np.finfo(dtype).max)
    if content.largest > limit:
        raise StoreError(
            f"{path} has a number of magnitude {content.largest:g}, which {dtype} (up to {limit:g}) "
            "cannot hold. Store it with --dtype float32."
        )


def _descent(content: Content, facts: Facts, options: ImportOptions) -> dict[str, Any]:
    """The root attribute ``derived``; the source is told by its digest, never by its path."""
    source = {"kind": content.kind, "sha256": content.sha256, "files": content.n_files}
    settings = {"clip_id": options.clip_id, "scale": facts.scale, "shift": facts.shift}
    names = {"features_name": options.features_name, "ids_name": options.ids_name}
    return {"verb": "import", "sources": [source], "settings": settings | {k: v for k, v in names.items() if v}}


def _arrays(content: Content, clip_ids: list[str]) -> ClipArrays:
    arrays = ClipArrays.pending(np.array([*clip_ids, None], object)[:-1])
    failed = np.array([bool(why) for why in content.failure])
    arrays.state[:] = np.where(failed, State.FAILED, State.DONE)
    arrays.failure[:] = content.failure
    arrays.n_frames[:] = np.where(failed, 0, content.n_frames)
    return arrays


def _reading(source: Source, content: Content, arrays: ClipArrays) -> Read:
    """Rows in pieces, since what a source holds may be wider than what is stored; failed clips are zero."""
    step = max(1, BLOCK_BYTES // (content.frames * content.channels * 8))

    def read(rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), content.frames, content.channels), np.float32)
        for first in range(0, len(rows), step):
            out[first : first + step] = source.read(rows[first : first + step], content.frames)
        out[arrays.state[rows] == State.FAILED] = 0
        return out

    return read
