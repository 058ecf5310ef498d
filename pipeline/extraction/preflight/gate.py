"""The gate of stage one: a store of a teacher is created only once its preflight has passed.

A pass is remembered in the folder of weights, by everything that it depends on, so that it costs a
few seconds once per teacher, mode and machine.  Stores keep what was measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline import provenance, registry, weights
from pipeline.errors import PlanError
from pipeline.events import Listener, Note, Warned
from pipeline.extraction.jobs import ExtractorSpec
from pipeline.extraction.preflight.checks import check_extractor
from pipeline.extraction.preflight.result import Report
from pipeline.extraction.run_stores import RunStore
from pipeline.extraction.runners import Runner
from pipeline.extraction.task import load_extractor
from pipeline.files import publish_json

RULES = 1
"""Raised whenever the checks become stricter: what passed before is then tried again."""

SKIPPED: dict[str, Any] = {"status": "skipped"}
_SHOWN = 3


def require_preflight(
    stores: Sequence[RunStore], runner: Runner, *, device: str, threads: int, skip: bool, listener: Listener
) -> None:
    """Check every teacher a store of which is to be created, and note the result in the store's meta.

    Mels are no teachers, views are heard by the same network, and stores that are there are held to
    their own canaries instead.

    Raises:
        PlanError: a check failed; nothing has been written.
    """
    records: dict[ExtractorSpec, dict[str, Any]] = {}
    for store in stores:
        if not store.fresh or store.card.kind != "teacher":
            continue
        spec = store.spec.clean()
        if spec not in records:
            records[spec] = SKIPPED if skip else _passed(store, runner, device, threads, listener)
            _warn(records[spec], store, listener)
        store.meta = dataclasses.replace(store.meta, preflight=records[spec])


def run_preflight(spec: ExtractorSpec, device: str, threads: int) -> tuple[Report, dict[str, str]]:
    """All checks on the device that does the work, and the versions there."""
    torch.set_num_threads(threads)
    report = check_extractor(load_extractor(spec, device), device=device)
    return report, {
        name: text for name, text in provenance.describe()["packages"].items() if name in ("torch", "numpy")
    }


def make_record(report: Report, versions: dict[str, str]) -> dict[str, Any]:
    """What a store keeps of a report: numbers, limits, versions; no sentences but those of warnings."""
    checks = {}
    for check in report.as_dict()["checks"]:
        kept = {key: check[key] for key in ("status", "measured", "limit")}
        checks[check["name"]] = kept | ({"sentence": check["sentence"]} if check["status"] == "warned" else {})
    return {
        "status": "passed" if report.passed else "failed",
        "mode": report.mode,
        "device": report.device.partition(":")[0],
        "rules": RULES,
        "versions": versions,
        "checks": checks,
    }


def _passed(store: RunStore, runner: Runner, device: str, threads: int, listener: Listener) -> dict[str, Any]:
    """The record of a pass, remembered or made now."""
    key = _key(store, device)
    path = weights.cache_dir() / "preflight" / f"{provenance.config_hash(key)[:32]}.json"
    if known := _recall(path, key):
        return known
    name = store.card.name
    report, versions = runner.call(run_preflight, store.spec.clean(), device, threads)
    if not report.passed:
        raise PlanError(refusal(report, store.spec.clean().name))
    listener(Note(f"Preflight of {name} passed on {report.device} in {report.elapsed_s:.1f} s."))
    record = make_record(report, versions)
    with contextlib.suppress(OSError):  # a folder that may not be written costs the next run a few seconds
        publish_json(path, {"key": key, "record": record})
    return record


def refusal(report: Report, request: str) -> str:
    """The failed checks with their numbers, and what to do."""
    lines = [f"  {check.name}: {check.sentence}" for check in report.failed[:_SHOWN]]
    if len(report.failed) > _SHOWN:
        lines.append(f"  ... and {len(report.failed) - _SHOWN} more")
    return (
        f"{request} did not pass its preflight (mode {report.mode}, {report.device}); nothing was written.\n"
        + "\n".join(lines)
        + f"\nSee all checks: east teachers check {request} --mode {report.mode}. Mend the teacher, choose another "
        "mode or device, or write the stores all the same with --no-preflight, which they will then say."
    )


def _warn(record: dict[str, Any], store: RunStore, listener: Listener) -> None:
    for name, check in record.get("checks", {}).items():
        if check["status"] == "warned" and not (name == "float16" and store.meta.dtype == "float32"):
            listener(Warned(f"{store.card.name}: {check['sentence']}"))


def _key(store: RunStore, device: str) -> dict[str, Any]:
    """Everything a pass depends on: card, code, weights, mode, outputs, PyTorch, kind of device, machine."""
    return {
        "rules": RULES,
        "card": registry.find_extractor(store.spec.clean().name).as_dict(),
        "code": code_digest(store.card.builder),
        "outputs": store.spec.outputs,
        "mode": store.spec.mode,
        "weights_sha256": store.meta.weights_sha256,
        "torch": torch.__version__,
        "device": device.partition(":")[0],
        "platform": provenance.describe()["platform"],
    }


def code_digest(builder: str) -> str:
    """SHA-256 over the builder's module and, where it lies in a package, the files beside it.

    So that an extractor that was changed is checked again, whatever its card says.
    """
    module = builder.partition(":")[0]
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    file = Path(spec.origin)
    files = sorted(file.parent.glob("*.py")) if "." in module else [file]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _recall(path: Path, key: dict[str, Any]) -> dict[str, Any] | None:
    """The record of an earlier pass; None where there is none, or the file is damaged or of another key."""
    try:
        found = json.loads(path.read_text("utf-8"))
        record = found["record"]
        same = provenance.config_hash(found["key"]) == provenance.config_hash(key)
        return record if same and record["status"] == "passed" and isinstance(record["checks"], dict) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
