"""After a check: clips whose features are damaged become pending, so that extraction makes them again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from pipeline.errors import StoreError
from pipeline.events import Listener, ignore
from pipeline.stores.checking.diagnosis import Diagnosis
from pipeline.stores.checking.findings import CHECK as FEATURES
from pipeline.stores.checking.report import VerifyReport
from pipeline.stores.checking.verify import VerifyOptions, diagnose, find_place
from pipeline.stores.checking.verify_hdf5 import SEAL
from pipeline.stores.coordinates import TIME
from pipeline.stores.copying import copy_to_zarr, forget
from pipeline.stores.journal import JOURNAL
from pipeline.stores.lease import Lease
from pipeline.stores.opening import open_store
from pipeline.stores.signing import CARDS, sign
from pipeline.stores.sums import SUMS
from pipeline.stores.target import working_path
from pipeline.stores.zarr_store import publish_root, replace_small_arrays, replace_times, root_document

_SHARDS = "features/c."
_TIMES = f"{TIME}/"
#: What the rest of a store is enough to write anew.
_MADE_AGAIN = (SUMS, *CARDS)


def repair_store(path: Path, options: VerifyOptions, listener: Listener = ignore) -> VerifyReport:
    """Check a store and mark what is damaged as pending; cards and digest list are written anew.

    The other clips of a shard keep their digests, and extraction copies them.  Nothing is removed:
    of an HDF5 file, whole clips go to its working folder, from which extraction packs it anew.

    Raises:
        StoreBusyError: a writer holds the store.
        StoreError: damage to what only a copy of the store can give back.
    """
    place = find_place(path)
    if not place.is_dir():
        return _repair_file(place, options, listener)
    with Lease(place):
        report, found = diagnose(place, options, listener, held=True)
        if not report.findings:
            return report
        rest = sorted(name for name in found.damaged if name not in _MADE_AGAIN)
        if beyond := [name for name in rest if not name.startswith((_SHARDS, _TIMES))]:
            raise StoreError(
                f"{path}: {beyond[0]} is damaged, which only a copy of the store can give back: fetch the store again "
                "from where it came, or remove it and extract it again."
            )
        if strays := [
            finding for finding in report.findings if finding.file == "" or not _is_known(found, finding.file)
        ]:
            raise StoreError(
                f"{path} is not repaired: {strays[0].text}. Damaged features alone are marked; changed or missing "
                "audio is made again by east extract itself, and files that do not belong here are yours to remove."
            )
        if any(finding.file.startswith(TIME) for finding in report.findings) and found.meta is not None:
            replace_times(place, found.meta)
        marked = _mark(place, {clip for finding in report.findings for clip in finding.clips})
    after, _ = diagnose(place, VerifyOptions(), listener)
    said = f"{marked:,} clips are pending now: east extract makes them again." if marked else ""
    return dataclasses.replace(
        report, repairs=(f"{said} The digest list is written anew.".strip(),), after=after.verdict()
    )


def _repair_file(path: Path, options: VerifyOptions, listener: Listener) -> VerifyReport:
    """An HDF5 file whose clips are damaged becomes a working folder in which those are pending."""
    report, _ = diagnose(path, options, listener)
    if not report.findings:
        return report
    clips = {clip for finding in report.findings if finding.check == FEATURES for clip in finding.clips}
    beyond = [finding for finding in report.findings if finding.check not in (FEATURES, SEAL)]
    if beyond or not clips:
        raise StoreError(
            f"{path} is not repaired: {(beyond or report.findings)[0].text}. Damaged features alone can be made again: "
            "fetch the store again from where it came, or remove it and extract it again."
        )
    work = working_path(path)
    with open_store(path) as reader:
        lost = np.flatnonzero([clip_id in clips for clip_id in reader.clip_id.tolist()])
        copy_to_zarr(reader, work, lost=lost)
    after, _ = diagnose(work, VerifyOptions(), listener)
    said = (
        f"{len(lost):,} clips are pending now, the others are in {work.name}: east extract makes those again and packs "
        f"{path.name} anew, which stays as it is until then."
    )
    return dataclasses.replace(report, repairs=(said,), after=after.verdict())


def _is_known(found: Diagnosis, name: str) -> bool:
    """A shard that the store has, the times of frames, which the root attributes give, a card, or the digest list."""
    if name == TIME or (name.startswith(_TIMES) and name in found.listed):
        return found.meta is not None
    return name in _MADE_AGAIN or (name.startswith(_SHARDS) and name in found.listed) or name == "features"


def _mark(place: Path, clips: set[str]) -> int:
    """Clips to pending, with digests of zeros; small arrays, list and root as when a run is folded."""
    with open_store(place) as reader:
        meta, arrays = reader.meta, reader.arrays
    rows = np.flatnonzero([clip_id in clips for clip_id in arrays.clip_id.tolist()])
    if len(rows):
        forget(arrays, rows)
        meta = dataclasses.replace(meta, complete=False, content_digest="")
        replace_small_arrays(
            place, arrays, meta
        )  # before the root: a kill in between leaves pending clips, not lost ones
    root = root_document(place, meta)
    (place / SUMS).unlink(missing_ok=True)
    sign(place, meta, arrays, known={}, root=root)
    publish_root(place, root)
    if len(rows):  # its records are in the arrays now; laid over them, they would call the damaged clips done again
        (place / JOURNAL).unlink(missing_ok=True)
    return len(rows)
