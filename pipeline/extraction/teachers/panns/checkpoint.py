"""Reading an official PANNs checkpoint, strictly and without running anything in it."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.errors import WeightsError
from pipeline.extraction.teachers.panns.network import ARCHITECTURES, build_network

State = dict[str, Tensor]

_OPTIONAL = ".num_batches_tracked"
_SHOWN = 4


def read_state(path: Path) -> State:
    """The tensors of ``{"model": state_dict}``, or of a bare state dict as E-PANNs has it.

    Raises:
        WeightsError: not such a checkpoint, cut short, or one that holds more than data.
    """
    content = _read(path)
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f'{path} does not hold {{"model": tensors}} as official PANNs checkpoints do.')
    return state


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path, *, name: str, width: int) -> None:
    """Put a checkpoint's tensors into a network that has all of them, and no others.

    Raises:
        WeightsError: another architecture, which is named where it is one of the collection; another
            width; values that are not finite.
    """
    what = f"PANNs {name} of width {width}"
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith(_OPTIONAL)]
    unexpected = [key for key in state if key not in wanted]
    wrong = [key for key in state if key in wanted and state[key].shape != wanted[key].shape]
    if missing or unexpected:
        raise WeightsError(
            f"{path} is not {what}{_recognised(state)}: missing {_listed(missing)}; not expected {_listed(unexpected)}."
        )
    if wrong:
        found, expected = list(state[wrong[0]].shape), list(wanted[wrong[0]].shape)
        raise WeightsError(
            f"{path} is not {what}{_recognised(state)}: {wrong[0]} has shape {found}, expected {expected}."
        )
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path}: {key} holds values that are not finite; the file is damaged.")
    network.load_state_dict(state, strict=False)


def _recognised(state: Mapping[str, Tensor]) -> str:
    """Which published network it is, as far as names and shapes tell; the two CNN14 have the same."""
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items() if not key.endswith(_OPTIONAL)}
    for name in ARCHITECTURES:
        with torch.device("meta"):
            network = build_network(name, 32 if name.startswith("MobileNet") else 64, shapes)
        known = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        if shapes == {key: shape for key, shape in known.items() if not key.endswith(_OPTIONAL)}:
            return f" but {name}"
    return ""


def _read(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is not a checkpoint of tensors alone (or is damaged). It was refused and nothing in it was run; "
            "fetch the official file."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read as a PyTorch checkpoint; it is cut short or another file: {error}"
        ) from error


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "nothing"
