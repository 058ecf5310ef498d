"""The use case of ``east teachers check``: all checks of one teacher, here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from pipeline import cluster, registry
from pipeline.audio.extractor import Mode
from pipeline.errors import SettingError
from pipeline.events import Listener, ignore
from pipeline.extraction.preflight.gate import run_preflight
from pipeline.extraction.preflight.result import Report
from pipeline.extraction.run_stores import make_spec
from pipeline.extraction.settings import ExtractSettings


def check_teacher(
    request: str,
    *,
    weights: Path | None = None,
    mode: Mode = "fast",
    device: str = "auto",
    listener: Listener = ignore,
) -> Report:
    """Check a teacher as ``east extract`` would build it, all its outputs unless some are named.

    Args:
        request: ``NAME``, ``NAME:option=value``, ``hf:MODEL``, with ``/OUTPUT+OUTPUT`` if wanted.
        weights: a local file, or a folder of them.

    Raises:
        UnknownNameError: no such teacher.
        SettingError: no such output or option, or a device that is not there.
        WeightsError: the weights are not to be had, or not this teacher's.
    """
    name, outputs = registry.split_request(request)
    card = registry.find_teacher(name)
    if weights is not None and not card.weights:
        raise SettingError(f"{name} takes no --weights: its card names no files.")
    layout = cluster.choose_layout(0, device)
    spec = make_spec(request, ExtractSettings((request,), mode=mode, weights=weights), listener)
    if not outputs:
        spec = dataclasses.replace(spec, outputs=tuple(output.name for output in card.outputs))
    report, _ = run_preflight(spec, layout.device, torch.get_num_threads())
    return report
