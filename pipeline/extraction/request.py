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
    requests = choose_requests(
        options["teacher"], options["student"], options["backend"],
        views=options["views"], teacher_views=options["teacher_views"],
    )  # fmt: skip
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


def choose_requests(
    teacher: str, student: str, backend: str = "own", *, views: int = 0, teacher_views: int = 0
) -> tuple[str, ...]:
    """Extractors for comma-separated teachers and students, first of the clips as they are, then of views.

    Args:
        backend: ``package`` runs the original package's network of teachers that have one.
        views, teacher_views: how many views of each clip the students' front ends and the teachers hear.

    Raises:
        UnknownNameError: a name that is not registered.
        SettingError: neither a teacher nor a student, views of nothing, or no package behind a teacher.

    >>> choose_requests("none", "cnn-small")
    ('mel-small',)
    >>> choose_requests("panns:window=0.96/clip", "none", "package")
    ('panns:window=0.96:backend=package/clip',)
    >>> choose_requests("musicnn/pools", "cnn-small", views=2, teacher_views=1)[2:]
    ('mel-small:view=1', 'mel-small:view=2', 'musicnn:view=1/pools')
    """
    fronts = [registry.find_student(name).front_end for name in _names(student)]
    teachers = [_with_backend(name, backend) for name in _names(teacher)]
    for name in teachers:
        registry.find_teacher(registry.split_request(name)[0])
    if not fronts and not teachers:
        raise SettingError("Nothing to extract: both --teacher and --student are none.")
    if (views and not fronts) or (teacher_views and not teachers):
        option, of = ("--views", "--student") if views and not fronts else ("--teacher-views", "--teacher")
        raise SettingError(f"{option} asks for views, but {of} is none: there is nothing that would hear them.")
    heard = [registry.with_view(name, view) for view in range(1, views + 1) for name in fronts]
    heard += [registry.with_view(name, view) for view in range(1, teacher_views + 1) for name in teachers]
    return tuple(dict.fromkeys([*fronts, *teachers, *heard]))


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
