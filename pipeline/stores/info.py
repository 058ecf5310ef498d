"""What a store is and holds, for people and for scripts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.stores.licensing import strictest_licence
from pipeline.stores.opening import open_store
from pipeline.stores.schema import State


def describe_store(path: str, *, failures: bool = False) -> dict[str, Any]:
    """Facts about a store, finished or not, ours or a stranger's.

    Raises:
        StoreError: nothing there, or not a store.
    """
    with open_store(path) as reader:
        meta, state = reader.meta, reader.state
        counts = {kind.name.lower(): int((state == kind).sum()) for kind in State}
        frames = int(reader.n_frames.sum())
        about: dict[str, Any] = {
            "path": path,
            "extractor": meta.extractor,
            "output": meta.output,
            "mode": meta.mode,
            "complete": meta.complete,
            "clips": len(reader),
            **counts,
            "shape": list(reader.shape),
            "dtype": meta.dtype,
            "clip_s": meta.clip_s,
            "hop_s": meta.hop_s,
            "window_s": meta.window_s,
            "offset_s": meta.offset_s,
            "rate_hz": meta.rate_hz,
            "valid_frames": frames,
            "audio_hours": round(counts["done"] * meta.clip_s / 3600, 3),
            "feature_bytes": reader.n_bytes,
            "disk_bytes": disk_bytes(path),
            "clips_per_chunk_and_shard": [meta.chunk_clips, meta.shard_clips],
            "weights_sha256": list(meta.weights_sha256),
            "licence_code": meta.card.get("licence_code", ""),
            "licence_weights": meta.licence_weights,
            "licence": strictest_licence(meta),
            "citation": meta.card.get("citation", ""),
            "dataset": dict(meta.dataset),
            "fingerprint": meta.fingerprint,
            "content_digest": meta.content_digest,
            "manifest_digest": meta.manifest_digest,
            "uuid": meta.uuid,
            "canaries": sorted(reader.canaries()),
            "preflight": dict(meta.preflight),
            "runs": [dict(run) for run in meta.runs],
        }
        if failures:
            rows = np.flatnonzero([bool(text) for text in reader.failure.tolist()]).tolist()
            about["failures"] = {str(reader.clip_id[row]): str(reader.failure[row]) for row in rows}
    return about


def disk_bytes(path: str) -> int | None:
    """Bytes on the disk, None for a remote store."""
    place = Path(path)
    if place.is_file():
        return place.stat().st_size
    if not place.is_dir():
        return None
    return sum(file.stat().st_size for file in place.rglob("*") if file.is_file() and not file.is_symlink())


def render(about: dict[str, Any], *, as_json: bool) -> str:
    """As JSON, or as lines of ``name  value``."""
    if as_json:
        return json.dumps(about, indent=2, ensure_ascii=False)
    width = max(len(key) for key in about)
    lines = []
    for key, value in about.items():
        shown = _SHOWN_AS[key](value) if key in _SHOWN_AS else value
        lines.append(f"{key:<{width}}  {_plain(shown)}")
    return "\n".join(lines)


def _run_lines(runs: list[dict[str, Any]]) -> list[str]:
    return [f"{run.get('time', '?')} by east-music {run.get('version', '?')}" for run in runs]


def _preflight_line(preflight: dict[str, Any]) -> str:
    """``passed (cpu, fast, torch 2.13.0): batch 2.1e-07 of 1e-05, ...``; the numbers that have a limit."""
    checks, versions = preflight.get("checks"), preflight.get("versions")
    if not isinstance(checks, dict) or not isinstance(versions, dict):
        return str(preflight.get("status", "none recorded"))
    where = [preflight.get("device", "?"), preflight.get("mode", "?"), f"torch {versions.get('torch', '?')}"]
    numbers = [f"{name} {_of_limit(check)}" for name, check in checks.items() if _of_limit(check)]
    return f"{preflight.get('status', '?')} ({', '.join(map(str, where))}): {', '.join(numbers)}"


def _of_limit(check: Any) -> str:
    """``2.1e-07 of 1e-05``; empty where nothing was measured against a limit above zero."""
    measured, limit = (check.get(key) for key in ("measured", "limit")) if isinstance(check, dict) else (None, None)
    if not isinstance(measured, int | float) or not isinstance(limit, int | float) or not limit:
        return ""
    return f"{measured:.1e} of {limit:.0e}" + (" (warned)" if check.get("status") == "warned" else "")


_SHOWN_AS: dict[str, Callable[[Any], Any]] = {"runs": _run_lines, "preflight": _preflight_line}


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items() if item != "")
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
