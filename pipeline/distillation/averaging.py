"""Weights averaged over the steps of a run: often a better student than the last one, for nothing.

Sources: the mean over the last part of a run, Izmailov et al., UAI 2018; exponential averages with
the bias correction of Adam, Kingma and Ba, ICLR 2015.  Running statistics are averaged as the
weights are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

_Share = Callable[[int], float]


def exponential(decay: float, count: int) -> float:
    """Weight of the newest of ``count`` steps, the first being 1: ``(1 - decay) / (1 - decay^count)``.

    >>> [round(exponential(0.9, count), 3) for count in (1, 2, 100)]
    [1.0, 0.526, 0.1]
    """
    return (1 - decay) / (1 - decay**count)


def uniform(count: int) -> float:
    """The same for a plain mean."""
    return 1 / count


def averaged(student: nn.Module, *, ema: float) -> AveragedModel:
    """A copy of the student that holds averages once it is updated; never trained itself.

    Args:
        ema: decay per step; 0 takes the plain mean.
    """
    share: _Share = partial(exponential, ema) if ema else uniform
    made = AveragedModel(student, multi_avg_fn=partial(_update, share), use_buffers=True)
    return made.requires_grad_(False)


@torch.no_grad()
def _update(share: _Share, kept: Any, newest: Any, n_averaged: Tensor | int) -> None:
    """Move averages towards the newest values; counters are taken over as they are."""
    if not torch.is_floating_point(kept[0]):
        torch._foreach_copy_(kept, newest)
        return
    torch._foreach_lerp_(kept, newest, share(int(n_averaged) + 1))
