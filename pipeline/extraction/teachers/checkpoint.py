"""PyTorch checkpoints, read strictly and without running anything in them."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.errors import WeightsError

State = dict[str, Tensor]

_COUNTER = ".num_batches_tracked"
"""Of batch-norms: of no use here, and absent from some files."""

_SHOWN = 4
_DAMAGE = (
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
    struct.error,
)
"""What PyTorch's reader raises for files that are cut short or damaged, found by damaging thousands."""


def read_checkpoint(path: Path, *, safe: Sequence[Any] = ()) -> object:
    """What a checkpoint holds: tensors, containers, numbers, texts.

    Args:
        safe: further classes that may stand in it, as ``torch.serialization.safe_globals`` takes them.

    Raises:
        WeightsError: it is cut short or damaged, or holds anything else; nothing in it was run.
    """
    try:
        with torch.serialization.safe_globals(list(safe)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} is not a checkpoint of tensors alone (or is damaged). It was refused and nothing in it was run; "
            "fetch the official file."
        ) from error
    except _DAMAGE as error:
        raise WeightsError(
            f"{path} cannot be read as a PyTorch checkpoint; it is cut short or another file: {error}"
        ) from error


def as_state(content: object, path: Path, official: str) -> State:
    """The content of a file as tensors by name.

    Args:
        official: what the official file holds, for the message.

    Raises:
        WeightsError: it is anything else.
    """
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path} does not hold {official}.")
    return content


def fill(
    network: nn.Module,
    state: Mapping[str, Tensor],
    path: Path,
    what: str,
    *,
    instead: Callable[[], str] = str,
    hint: str = "",
) -> None:
    """Put tensors into a network that has all of them, and no others.

    Args:
        what: the architecture, for the message.
        instead: what the file is in truth, such as ``" but Cnn10"``; asked where it does not fit.
        hint: a sentence for one that does not fit.

    Raises:
        WeightsError: other names or shapes than the network's, or values that are not finite.
    """
    wanted = network.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith(_COUNTER)]
    unexpected = [key for key in state if key not in wanted]
    if missing or unexpected:
        difference = f"missing {_listed(missing)}; not expected {_listed(unexpected)}. {hint}".rstrip()
        raise WeightsError(f"{path} is not {what}{instead()}: {difference}")
    for key, tensor in state.items():
        if tensor.shape != wanted[key].shape:
            found, expected = list(tensor.shape), list(wanted[key].shape)
            raise WeightsError(
                f"{path} is not {what}{instead()}: {key} has shape {found}, expected {expected}. {hint}".rstrip()
            )
        require_finite(path, key, tensor)
    network.load_state_dict(dict(state), strict=False)


def require_finite(path: Path, name: str, tensor: Tensor) -> None:
    """Refuse what no training leaves behind.

    Raises:
        WeightsError: a value is infinite or not a number.
    """
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise WeightsError(f"{path}: {name} holds values that are not finite; the file is damaged.")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "nothing"
