"""What the processes of a run tell each other beside gradients; alone, everything is as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed, nn

from pipeline.distillation.processes import Part
from pipeline.errors import TrainingError

_WAIT = timedelta(hours=6)  # the others wait while the first process validates


class _Meeting(LightningEnvironment):
    """Processes that were started already, and meet at a port of this machine."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        self.part = part

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts none."""
        return True

    @property
    def main_address(self) -> str:
        """This machine."""
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        """Where all of them meet."""
        return self.part.port

    def local_rank(self) -> int:
        """Which device is this process's."""
        return self.part.rank

    def node_rank(self) -> int:
        """There is one machine."""
        return 0


def strategy(part: Part, kind: str) -> DDPStrategy | str:
    """How Lightning trains: alone, or with gradients averaged over the processes.

    Args:
        kind: ``cpu`` (they talk by gloo) or ``cuda`` (by NCCL).
    """
    if part.of == 1:
        return "auto"
    backend = "nccl" if kind == "cuda" else "gloo"
    return DDPStrategy(cluster_environment=_Meeting(part), process_group_backend=backend, timeout=_WAIT)


def mean_of(values: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """The mean of each value over the processes."""
    if not distributed.is_initialized():
        return dict(values)
    total = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return dict(zip(values, (total / distributed.get_world_size()).tolist(), strict=True))


def told_by_first(values: Sequence[float], device: torch.device) -> list[float]:
    """What the first process says; the others wait for it."""
    if not distributed.is_initialized():
        return list(values)
    told = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.broadcast(told, 0)
    return [float(value) for value in told.tolist()]


def check_same(module: nn.Module, step: int) -> None:
    """Make sure that all processes hold the same weights, bit by bit.

    Raises:
        TrainingError: they do not.
    """
    if not distributed.is_initialized():
        return
    mine = torch.stack([_sum_of_bits(parameter) for parameter in module.parameters()])
    lowest, highest = mine.clone(), mine.clone()
    distributed.all_reduce(lowest, distributed.ReduceOp.MIN)
    distributed.all_reduce(highest, distributed.ReduceOp.MAX)
    if not torch.equal(lowest, highest):
        raise TrainingError(
            f"Step {step}: the processes of this run no longer hold the same weights. Are the devices alike? "
            "Train on one device, and check the others' memory."
        )


def _sum_of_bits(parameter: Tensor) -> Tensor:
    """A sum of a float32 tensor's bits, int64."""
    bits = parameter.detach().float().contiguous().view(torch.int32).flatten().to(torch.int64)
    return (bits * (torch.arange(len(bits), device=bits.device) % 8191 + 1)).sum()


def part_ways() -> None:
    """Leave the group of processes, all at once: the first one then removes the checkpoint."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
