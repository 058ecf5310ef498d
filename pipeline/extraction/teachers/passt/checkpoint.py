"""Reading an official PaSST checkpoint, strictly and without running anything in it."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.errors import WeightsError

_SHOWN = 4


def load_checkpoint(network: nn.Module, path: Path, what: str) -> None:
    """Fill a network from a file that is a dictionary of tensors by name.

    Args:
        what: the architecture, for the message.

    Raises:
        WeightsError: not such a file, one that holds more than tensors, another architecture, or
            values that are not finite.
    """
    state = _read_state(path)
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in state]
    unexpected = [name for name in state if name not in wanted]
    if missing or unexpected:
        raise WeightsError(
            f"{path} is not {what}: missing {_listed(missing)}; not expected {_listed(unexpected)}. "
            "Other networks of the same releases (fewer blocks, other tasks) do not fit."
        )
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise WeightsError(
                f"{path} is not {what}: {name} has shape {list(tensor.shape)}, expected {list(wanted[name].shape)}. "
                "Networks for 20 s or 30 s, or with another hop of the spectrogram or of the patches, do not fit."
            )
        if not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path}: {name} holds values that are not finite; the file is damaged.")
    network.load_state_dict(state)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is not a checkpoint of tensors alone (or is damaged). It was refused and nothing in it was run; "
            "fetch the official file."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read as a PyTorch checkpoint; it is cut short or another file: {error}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} does not hold tensors by name as official PaSST checkpoints do.")
    return state


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "nothing"
