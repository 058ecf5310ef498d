"""All checks of an extractor, in order, over forward passes that they share."""

from __future__ import annotations

import time
from collections.abc import Callable

from pipeline.audio.extractor import Extractor
from pipeline.extraction.preflight import counting, modules, numbers, shapes
from pipeline.extraction.preflight.passes import Passes, run_passes
from pipeline.extraction.preflight.result import Check, Report, skipped
from pipeline.extraction.preflight.signals import clip_length_s

Function = Callable[[Passes], Check]

_ON_PASSES: dict[str, Function] = {
    "deterministic": numbers.deterministic,
    "batch": numbers.batch,
    "padding": numbers.padding,
    "finite": numbers.finite,
    "responds": numbers.responds,
    "shortest": numbers.shortest,
    "longest": numbers.longest,
    "frames": counting.frames,
    "shapes": shapes.shapes,
    "zero_rows": shapes.zero_rows,
    "input": modules.leaves_input,
    "state": modules.leaves_state,
    "float16": numbers.float16,
}
_ON_MODULE: dict[str, Function] = {
    "counting": counting.counting,
    "eval_mode": modules.eval_mode,
    "gradients": modules.gradients,
}
_COMPARING = ("batch", "padding")

CHECKS: tuple[str, ...] = ("runs", *_ON_PASSES, *_ON_MODULE)
"""The names of all checks, in order."""


def check_extractor(extractor: Extractor, *, device: str = "cpu", clip_s: float | None = None) -> Report:
    """Run all checks on a built extractor; never raises for what it does wrong.

    Args:
        device: where the extractor is; the audio is put there, too.
        clip_s: length of a full clip in seconds; about a second, by the card, when None.
    """
    began = time.monotonic()
    passes = run_passes(extractor, clip_s=clip_s or clip_length_s(extractor.card), device=device)
    found = [numbers.runs(passes)]
    for name, function in (_ON_PASSES | _ON_MODULE).items():
        found.append(_judge(name, function, passes, {check.name: check for check in found}))
    return Report(extractor.card.name, extractor.mode, device, tuple(found), time.monotonic() - began)


def _judge(name: str, function: Function, passes: Passes, before: dict[str, Check]) -> Check:
    """A check that has nothing sound to read is not judged: another has failed, and says why."""
    if name in _ON_PASSES and not before["runs"].passed:
        return skipped(name, "not judged: the extractor does not run")
    if name in _COMPARING and not before["deterministic"].passed:
        return skipped(name, "not judged: the same batch gives other numbers each time")
    if reason := passes.crashes.get(name):
        return Check(name, "failed", None, None, f"stopped on {reason}")
    return function(passes)
