"""Reading an official PANNs checkpoint, strictly and without running anything in it."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.errors import WeightsError

_OPTIONAL = ".num_batches_tracked"
_SHOWN = 4


def load_checkpoint(network: nn.Module, path: Path, what: str) -> None:
    """Fill a network from ``{"model": state_dict}``.

    Args:
        what: the architecture, for the message.

    Raises:
        WeightsError: not such a checkpoint, one that holds more than tensors, or another architecture.
    """
    state = _read_state(path)
    wanted = network.state_dict()
    missing = [name for name in wanted if name not in state and not name.endswith(_OPTIONAL)]
    unexpected = [name for name in state if name not in wanted]
    if missing or unexpected:
        raise WeightsError(
            f"{path} is not {what}: missing {_listed(missing)}; not expected {_listed(unexpected)}. "
            "Other networks of the same collection (Cnn10, MobileNet, Wavegram) do not fit."
        )
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise WeightsError(
                f"{path} is not {what}: {name} has shape {list(tensor.shape)}, expected {list(wanted[name].shape)}."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{path}: {name} holds values that are not finite; the file is damaged.")
    network.load_state_dict(state, strict=False)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is not a checkpoint of tensors alone (or is damaged). It was refused and nothing in it was run; "
            "fetch the official file."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be read as a PyTorch checkpoint; it is cut short or another file: {error}"
        ) from error
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f'{path} does not hold {{"model": tensors}} as official PANNs checkpoints do.')
    return state


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "nothing"
