"""Distance correlation from Gram matrices against the textbook formula: time and memory.

``run()`` gives how many times faster ours is, and how many times less memory its largest tensor is.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.distillation.losses.dcor import distance_correlation

TARGETS = {"time": 1.0, "memory": 4.0}


def run(*, batch: int = 16, frames: int = 62, dims: tuple[int, int] = (128, 768), rounds: int = 5) -> dict[str, float]:
    """Ratios ``time`` (forward and backward) and ``memory`` (largest tensor), naive over ours."""
    torch.manual_seed(0)
    s, t = (torch.randn(batch, frames, dim) for dim in dims)
    n_frames = torch.full((batch,), frames)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "ours": lambda x: distance_correlation(x, t, n_frames),
        "naive": lambda x: naive(x, t),
    }
    seconds = {name: min(_timed(way, s) for _ in range(rounds)) for name, way in ways.items()}
    largest = {name: _largest(way, s) for name, way in ways.items()}
    return {"time": seconds["naive"] / seconds["ours"], "memory": largest["naive"] / largest["ours"]}


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


class _Largest(TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, tuple | list) else (result,):
            if isinstance(item, Tensor):
                self.elements = max(self.elements, item.numel())
        return result


def _largest(way: Callable[[Tensor], Tensor], student: Tensor) -> int:
    x = student.clone().requires_grad_()
    with _Largest() as seen:
        way(x).backward()
    return seen.elements


def test_ours_is_the_same_number_and_smaller() -> None:
    torch.manual_seed(0)
    s, t = torch.randn(8, 5, 16), torch.randn(8, 5, 32)
    torch.testing.assert_close(distance_correlation(s, t, torch.full((8,), 5)), naive(s, t))
    ratios = run(batch=8, frames=5, dims=(16, 64), rounds=1)
    assert ratios["memory"] == 8  # the batch size: one axis less
    assert ratios["time"] > 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(run(), indent=2))
