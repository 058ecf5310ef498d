"""Distance correlation from Gram matrices against the textbook formula: time, memory, gradients.

``run()`` gives, for forward and backward on one batch of 16 clips with 62 frames of 2048 channels,
how many times faster ours is and how many times less memory it takes at its peak; and
``gradient_1e-4``: by how much its gradient is nearer to that of the formula in float64 than 1e-4
of the largest entry.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from pipeline.distillation.losses.dcor import distance_correlation

TARGETS = {"time": 5.0, "memory": 10.0, "gradient_1e-4": 1.0}


def run(
    *, batch: int = 16, frames: int = 62, dims: tuple[int, int] = (2048, 2048), rounds: int = 5
) -> dict[str, float]:
    """Ratios ``time`` and ``memory``, naive over ours, and ``gradient_1e-4``, allowed over found."""
    torch.manual_seed(0)
    s, t = (torch.randn(batch, frames, dim) for dim in dims)
    n_frames = torch.full((batch,), frames)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "ours": lambda x: distance_correlation(x, t.to(x.dtype), n_frames),
        "naive": lambda x: naive(x, t.to(x.dtype)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):  # in turn, so that a busy machine disturbs both alike
        for name, way in ways.items():
            seconds[name].append(_timed(way, s))
    peak = {name: _peak(way, s) for name, way in ways.items()}
    return {
        "time": min(seconds["naive"]) / min(seconds["ours"]),
        "memory": peak["naive"] / peak["ours"],
        "gradient_1e-4": 1e-4 / _difference(ways["ours"], ways["naive"], s),
        "ours_ms": 1000 * min(seconds["ours"]),
        "ours_mb": peak["ours"] / 1e6,
    }


def naive(student: Tensor, teacher: Tensor) -> Tensor:
    """As the formula is written: all differences at once, [frames, batch, batch, channels]."""
    centred = []
    for x in (student.transpose(0, 1), teacher.transpose(0, 1)):
        d = torch.sqrt((x[:, :, None] - x[:, None]).square().sum(-1) + 1e-12)
        centred.append(d - d.mean(1, keepdim=True) - d.mean(2, keepdim=True) + d.mean((1, 2), keepdim=True))
    a, b = centred
    covariance, variances = (a * b).mean((1, 2)), (a * a).mean((1, 2)) * (b * b).mean((1, 2))
    return (1 - covariance / torch.sqrt(variances + 1e-9)).mean()


def _timed(way: Callable[[Tensor], Tensor], student: Tensor) -> float:
    x = student.clone().requires_grad_()
    started = time.perf_counter()
    way(x).backward()
    return time.perf_counter() - started


def _peak(way: Callable[[Tensor], Tensor], student: Tensor) -> int:
    """Bytes that live at once beside the two inputs, of all that forward and backward make."""
    x = student.clone().requires_grad_()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        way(x).backward()
    changes = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]  # type: ignore[union-attr]
    live = highest = 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        live += change.nbytes()
        highest = max(highest, live)
    return highest


def _difference(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], student: Tensor) -> float:
    """Largest difference of the gradients, the formula's taken in float64, over its largest entry."""
    x, y = student.clone().requires_grad_(), student.double().requires_grad_()
    ours(x).backward()
    theirs(y).backward()
    assert x.grad is not None
    assert y.grad is not None
    return max(1e-12, float((x.grad - y.grad).abs().max() / y.grad.abs().max()))


def test_ours_is_the_same_number_and_smaller() -> None:
    torch.manual_seed(0)
    s, t = torch.randn(8, 5, 16), torch.randn(8, 5, 32)
    torch.testing.assert_close(distance_correlation(s, t, torch.full((8,), 5)), naive(s, t))
    ratios = run(batch=8, frames=5, dims=(16, 64), rounds=1)
    assert ratios["memory"] > 2
    assert ratios["gradient_1e-4"] > 1
    assert ratios["time"] > 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(run(), indent=2))
