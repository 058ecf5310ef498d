"""Reading an official PANNs checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.extraction.teachers.checkpoint import State, as_state, read_checkpoint
from pipeline.extraction.teachers.checkpoint import fill as fill_network
from pipeline.extraction.teachers.panns.network import ARCHITECTURES, build_network


def read_state(path: Path) -> State:
    """The tensors of ``{"model": state_dict}``, or of a bare state dict as E-PANNs has it.

    Raises:
        WeightsError: not such a checkpoint, cut short, or one that holds more than data.
    """
    content = read_checkpoint(path)
    inner = content.get("model", content) if isinstance(content, dict) else content
    return as_state(inner, path, '{"model": tensors} as official PANNs checkpoints do')


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path, *, name: str, width: int) -> None:
    """Put a checkpoint's tensors into a network that has all of them, and no others.

    Raises:
        WeightsError: another architecture, which is named where it is one of the collection; another
            width; values that are not finite.
    """
    fill_network(network, state, path, f"PANNs {name} of width {width}", instead=lambda: _recognised(state))


def _recognised(state: Mapping[str, Tensor]) -> str:
    """Which published network it is, as far as names and shapes tell; the two CNN14 have the same."""
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items() if not key.endswith(".num_batches_tracked")}
    for name in ARCHITECTURES:
        with torch.device("meta"):
            network = build_network(name, 32 if name.startswith("MobileNet") else 64, shapes)
        known = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        if shapes == {key: shape for key, shape in known.items() if not key.endswith(".num_batches_tracked")}:
            return f" but {name}"
    return ""
