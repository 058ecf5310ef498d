"""From the options of ``east extract`` to its use case."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import registry
from pipeline.datasets.resolve import resolve
from pipeline.errors import SettingError
from pipeline.events import Listener
from pipeline.extraction.extract import extract
from pipeline.extraction.settings import ExtractReport, ExtractSettings


def extract_from_options(options: Mapping[str, Any], listener: Listener) -> ExtractReport:
    """Names are checked before the data are looked for, weights before any work."""
    requests = choose_requests(options["teacher"], options["student"], options["backend"])
    settings = ExtractSettings(
        requests=requests,
        format=options["format"],
        dtype=options["dtype"],
        mode=options["mode"],
        n_workers=options["workers"],
        device=options["device"],
        scheduler=options["scheduler"],
        weights=Path(options["weights"]) if options["weights"] else None,
        batch_clips=options["batch"],
        retry_failed=options["retry_failed"],
        dry_run=options["dry_run"],
        preflight=not options["no_preflight"],
        reuse=tuple(options["reuse"]),
        removed=options["removed"],
    )
    table, _ = resolve(options["data"], listener=listener)
    return extract(table, settings, listener)


def choose_requests(teacher: str, student: str, backend: str = "own") -> tuple[str, ...]:
    """Extractors for comma-separated teachers and students.

    Args:
        backend: ``package`` runs the original package's network of teachers that have one.

    Raises:
        UnknownNameError: a name that is not registered.
        SettingError: neither a teacher nor a student, or no package behind a teacher.

    >>> choose_requests("none", "cnn-small")
    ('mel-small',)
    >>> choose_requests("panns:window=0.96/clip", "none", "package")
    ('panns:window=0.96:backend=package/clip',)
    """
    fronts = [registry.find_student(name).front_end for name in _names(student)]
    teachers = [_with_backend(name, backend) for name in _names(teacher)]
    for name in teachers:
        registry.find_teacher(registry.split_request(name)[0])
    if not fronts and not teachers:
        raise SettingError("Nothing to extract: both --teacher and --student are none.")
    return tuple(dict.fromkeys([*fronts, *teachers]))


def _with_backend(request: str, backend: str) -> str:
    name, outputs = registry.split_request(request)
    card = registry.find_teacher(name)
    if backend == "own" or ":backend=" in name:
        return request
    if "backend" not in {option.name for option in card.options}:
        raise SettingError(f"No package stands behind {name}: --backend {backend} goes with panns and openl3.")
    return f"{name}:backend={backend}" + ("/" + "+".join(outputs) if outputs else "")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip() and name.strip() != "none"]
