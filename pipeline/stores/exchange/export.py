"""A store's numbers as NumPy or Parquet, readable without this package."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.errors import SettingError, StoreError
from pipeline.events import Listener, ignore
from pipeline.files import sync
from pipeline.stores.disk import remove_drafts
from pipeline.stores.exchange.blocks import Selection
from pipeline.stores.exchange.numpy_files import write_npy_folder, write_npz, write_per_clip
from pipeline.stores.exchange.parquet import write_parquet
from pipeline.stores.licensing import strictest_licence
from pipeline.stores.making.deriving import require_finished
from pipeline.stores.opening import open_store
from pipeline.stores.reader import StoreReader
from pipeline.stores.schema import HDF5_SUFFIXES, State

Kind = Literal["npy", "npz", "parquet"]
Write = Callable[[Path, Selection, Listener], None]


@dataclass(frozen=True)
class Exported:
    """How many clips went out, and how many have no features to give."""

    clips: int
    failed: int
    pending: int

    def text(self) -> str:
        """For people."""
        left = [f"{n:,} {why}" for n, why in ((self.failed, "failed"), (self.pending, "pending")) if n]
        return f"{self.clips:,} clips" + (f"; left out: {', '.join(left)}" if left else "")


def export_store(
    path: str, out: Path, kind: Kind, *, per_clip: bool = False, unfinished: bool = False, listener: Listener = ignore
) -> Exported:
    """Write the clips that are done; memory is that of a block.

    ``out`` appears at once and whole; an export that is interrupted leaves nothing there.

    Args:
        per_clip: one file per clip, valid frames only; of kind ``npy``.
        unfinished: also of a store with pending clips, which are left out.

    Raises:
        SettingError: a suffix that says something else, files per clip of another kind.
        StoreError: something is at ``out``, an unfinished source, no clip that is done, a full disk.
    """
    _require_place(out, kind, path, per_clip)
    write: Write = write_per_clip if per_clip else _WRITERS[kind]
    with open_store(path) as reader:
        if not unfinished:
            _require_finished(reader)
        selection = Selection(reader, np.flatnonzero(reader.state == State.DONE), about(reader))
        if not len(selection.rows):
            raise StoreError(f"{path} has no clip that is done: there is nothing to export.")
        with _drafting(out) as draft:
            write(draft, selection, listener)
        failed, pending = (int((reader.state == kind).sum()) for kind in (State.FAILED, State.PENDING))
        return Exported(len(selection.rows), failed, pending)


def about(reader: StoreReader) -> dict[str, Any]:
    """What goes along with the numbers: times in seconds, licences, citation, what was left out; plain JSON."""
    meta = reader.meta
    names = ("extractor", "output", "mode", "rate_hz", "clip_s", "hop_s", "window_s", "offset_s", "channels")
    facts = {name: getattr(meta, name) for name in (*names, "fingerprint", "content_digest")}
    dataset = {key: str(meta.dataset.get(key, "")) for key in ("name", "licence", "citation")}
    failed = np.flatnonzero(reader.state == State.FAILED).tolist()
    return facts | {
        "version": meta.card.get("version"),
        "frames": meta.frames,
        "licence_weights": meta.licence_weights,
        "licence_strictest": strictest_licence(meta),
        "licence_code": str(meta.card.get("licence_code", "")),
        "citation": str(meta.card.get("citation", "")),
        "weights_sha256": list(meta.weights_sha256),
        "dataset": dataset,
        "complete": meta.complete,
        "failed": {str(reader.clip_id[row]): str(reader.failure[row]) for row in failed},
    }


_FILES = (".npy", ".npz", ".parquet", ".zarr", *HDF5_SUFFIXES)
_WRITERS: dict[Kind, Write] = {"npy": write_npy_folder, "npz": write_npz, "parquet": write_parquet}


def _require_finished(reader: StoreReader) -> None:
    try:
        require_finished(reader)
    except StoreError as error:
        raise StoreError(f"{error} Or take what is done, with --allow-unfinished.") from None


def _require_place(out: Path, kind: Kind, source: str, per_clip: bool) -> None:
    if per_clip and kind != "npy":
        raise SettingError(f"--per-clip writes one .npy per clip: say --to npy, not --to {kind}.")
    if kind != "npy" and out.suffix != f".{kind}":
        raise SettingError(f"{out}: --to {kind} writes a file whose name ends in .{kind}.")
    if kind == "npy" and out.suffix in _FILES:
        raise SettingError(f"{out}: --to npy writes a folder; name it without {out.suffix}.")
    if "://" not in source and Path(source).resolve() in (out.resolve(), *out.resolve().parents):
        raise StoreError(f"{out} is, or lies inside, the source {source}. Name another path.")
    if out.exists():
        raise StoreError(f"{out} is there already; nothing is overwritten. Remove it, or name another path.")


@contextmanager
def _drafting(out: Path) -> Iterator[Path]:
    """A place beside ``out`` to be filled, file or folder; renamed at the end, removed on any error."""
    draft = out.with_name(f".{out.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        remove_drafts(out)
        yield draft
        sync(draft)
        draft.rename(out)
        sync(out.parent)
    except OSError as error:
        why = error.strerror or str(error)
        raise StoreError(
            f"{out} cannot be written: {why}. Nothing was left there: free some space, or name another place, and "
            "export again."
        ) from error
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)
