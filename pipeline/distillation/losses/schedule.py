"""How the weight of what the teacher says changes over a run.  Torch-free."""

from __future__ import annotations

import math

from pipeline.distillation.losses.settings import LossSettings


def lam_at(loss: LossSettings, step: int, steps: int) -> float:
    """``lam`` for one step; see :class:`LossSettings`.

    Args:
        step: counted from 0.
        steps: of the whole run.

    >>> from pipeline.distillation.losses.settings import find_loss
    >>> [lam_at(find_loss("dcor", lam_schedule="warmup"), step, 100) for step in (0, 4, 9, 50)]
    [0.05, 0.25, 0.5, 0.5]
    >>> [round(lam_at(find_loss("dcor", lam_schedule="cosine"), step, 100), 3) for step in (0, 50, 100)]
    [0.5, 0.25, 0.0]
    """
    if loss.lam_schedule == "warmup":
        return loss.lam * min(1.0, (step + 1) / max(1.0, loss.lam_warmup * steps))
    if loss.lam_schedule == "cosine":
        return loss.lam * (1 + math.cos(math.pi * min(1.0, step / steps))) / 2
    return loss.lam
