"""What ``east store info`` prints; texts of the store cannot steer the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.texts import one_line

_MOST_RUNS = 5
_MOST_FAILURES = 1000
_MOST_CHARACTERS = 2000


def render(about: dict[str, Any], *, as_json: bool) -> str:
    """As JSON (ASCII, so that no text of the store reaches the terminal as it is), or as lines ``name  value``."""
    if as_json:
        return json.dumps(about, indent=2).replace("\x7f", "\\u007f")
    width = max(len(key) for key in about if key != "failures")
    lines = []
    for key, value in about.items():
        shown = _SHOWN_AS[key](value) if key in _SHOWN_AS else _plain(value)
        texts = shown if isinstance(shown, list) else [shown]
        for name, text in zip((key, *[""] * len(texts)), texts, strict=False):
            lines.append(f"{name:<{width}}  {one_line(text, _MOST_CHARACTERS)}".rstrip())
    return "\n".join(lines)


def _runs(runs: list[dict[str, Any]]) -> list[str]:
    earlier = [f"{len(runs) - _MOST_RUNS:,} earlier ones"] if len(runs) > _MOST_RUNS else []
    return earlier + [_run(run) for run in runs[-_MOST_RUNS:]] or ["none has finished it yet"]


def _run(run: Mapping[str, Any]) -> str:
    platform = run.get("platform")
    cpu = platform.get("cpu") if isinstance(platform, dict) else ""
    parts = [f"{run.get('time', '?')} by east-music {run.get('version', '?')}"]
    parts += [f"{name} {run[name]}" for name in ("commit", "verb", "device") if run.get(name)]
    return ", ".join([*parts, *([str(cpu)] if cpu else [])])


def _licences(licences: list[dict[str, str]]) -> list[str]:
    return [f"{item['licence']}: {item['covers']}" for item in licences[:20]]


def _preflight(preflight: dict[str, Any]) -> str:
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


def _writing(about: dict[str, Any] | None) -> str:
    if about is None:
        return "no"
    parts = [f"{about['holder'] or 'nobody'} ({about['status']})"]
    if about["since"]:
        parts.append(f"since {about['since']}, heartbeat {about['heartbeat_s']:g} s ago")
    parts.append(f"{about['clips']:,} clips in its journal")
    if about["clips_per_s"]:
        parts.append(f"{about['clips_per_s']:g} clips/s")
    return ", ".join(parts + ([f"{about['left_s']:,.0f} s left"] if about["left_s"] is not None else []))


def _derived(derived: dict[str, Any]) -> list[str]:
    if not derived:
        return ["no"]
    sources = derived.get("sources")
    items = [item for item in sources if isinstance(item, dict)] if isinstance(sources, list) else []
    names = [
        f"from {item.get('kind') or '{}/{}'.format(item.get('extractor'), item.get('output'))}, "
        f"{item.get('content_digest') or item.get('sha256') or 'digest unknown'}"
        for item in items[:20]
    ]
    return [f"by {derived.get('verb')} ({_plain(derived.get('settings'))})", *names]


def _arrays(arrays: list[dict[str, Any]]) -> list[str]:
    lines = []
    for item in arrays:
        disk = "" if item["disk_bytes"] is None else f", {item['disk_bytes']:,} bytes on disk"
        memory = "" if item["memory_bytes"] is None else f", {item['memory_bytes']:,} in memory"
        chunks = "" if not item["chunks"] else f", chunks {item['chunks']}"
        packed = f"{item['name']}: {item['dtype']} {item['shape']}{chunks}, compression {item['compression']}"
        lines.append(f"{packed}{disk}{memory}")
    return lines or ["none found"]


def _failures(failures: dict[str, str]) -> list[str]:
    lines = [f"{clip}: {why}" for clip, why in list(failures.items())[:_MOST_FAILURES]]
    more = len(failures) - len(lines)
    return (lines + ([f"and {more:,} more (--json lists all)"] if more else [])) or ["none"]


_SHOWN_AS: dict[str, Callable[[Any], str | list[str]]] = {
    "runs": _runs, "preflight": _preflight, "licences": _licences, "writing": _writing, "derived": _derived,
    "arrays": _arrays, "failures": _failures,
}  # fmt: skip


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_plain(item)}" for key, item in value.items() if item != "")
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
