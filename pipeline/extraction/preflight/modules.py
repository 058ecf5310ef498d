"""Checks of the module: in eval mode, without gradients, changing neither its input nor itself."""

from __future__ import annotations

from pipeline.extraction.preflight.passes import Passes
from pipeline.extraction.preflight.result import Check, judged

_SHOWN = 3


def eval_mode(passes: Passes) -> Check:
    """No module is in training mode."""
    named = passes.extractor.named_modules()
    training = [name or type(module).__name__ for name, module in named if module.training]
    bad = f"in training mode: {_some(training)}. Call eval() last, after all modules are in place."
    n_modules = sum(1 for _ in passes.extractor.modules())
    return judged("eval_mode", float(len(training)), 0.0, f"all {n_modules} modules are in eval mode", bad)


def gradients(passes: Passes) -> Check:
    """No parameter asks for gradients, no output carries any."""
    asking = [name for name, parameter in passes.extractor.named_parameters() if parameter.requires_grad]
    if any(one.tracks_gradients for one in passes.all()):
        asking.append("the outputs")
    bad = f"gradients are kept by {_some(asking)}. Call requires_grad_(False), and keep forward() in inference mode."
    n = sum(parameter.numel() for parameter in passes.extractor.parameters())
    return judged("gradients", float(len(asking)), 0.0, f"none of {n:,} parameters, no output", bad)


def leaves_input(passes: Passes) -> Check:
    """Audio and lengths are as they were after every pass."""
    n_changed = sum(one.changed_input for one in passes.all())
    bad = (
        "the audio or n_valid it was given is changed: another extractor of the same run would get it so. Work on a "
        "copy, without in-place operations on the input."
    )
    return judged("input", float(n_changed), 0.0, "audio and lengths are left as they were", bad)


def leaves_state(passes: Passes) -> Check:
    """Parameters and buffers have the same bits before the first pass and after the last."""
    changed = list(passes.changed_state)
    bad = (
        f"forward passes change {_some(changed)}. Batch statistics are being updated: use the running ones, "
        "training=False."
    )
    return judged("state", float(len(changed)), 0.0, "parameters and buffers are as before", bad)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
