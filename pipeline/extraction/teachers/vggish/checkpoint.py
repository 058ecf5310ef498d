"""Reading VGGish's two files, strictly and without running anything in them.

The network is a plain state dict.  The PCA parameters are a dict of two numpy arrays; beside tensors,
the reader lets nothing through but arrays of floating point.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.errors import WeightsError
from pipeline.extraction.teachers.vggish.arrays import PickledArray, stand_ins

PCA_VECTORS, PCA_MEANS = "pca_eigen_vectors", "pca_means"
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


def load_network(network: nn.Module, path: Path, what: str) -> None:
    """Fill a network from a state dict.

    Args:
        what: the architecture, for the message.

    Raises:
        WeightsError: no state dict, one that holds more than tensors, or another architecture.
    """
    state = _read(path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path} does not hold a dict of tensors, as torchvggish's vggish-10086976.pth does.")
    wanted = network.state_dict()
    missing, unexpected = [name for name in wanted if name not in state], [name for name in state if name not in wanted]
    if missing or unexpected:
        hint = " It is the file of PCA parameters." if PCA_MEANS in state else ""
        raise WeightsError(
            f"{path} is not {what}: missing {_listed(missing)}; not expected {_listed(unexpected)}.{hint}"
        )
    for name, tensor in state.items():
        _check(path, what, name, tensor, tuple(wanted[name].shape))
    network.load_state_dict(state)


def read_pca(path: Path, channels: int) -> tuple[Tensor, Tensor]:
    """Eigenvectors [channels, channels], one a row, and means [channels].

    Raises:
        WeightsError: not the file of PCA parameters.
    """
    what = f"the PCA parameters of VGGish with {channels} channels"
    content = _read(path)
    if not isinstance(content, dict) or not {PCA_VECTORS, PCA_MEANS} <= content.keys():
        raise WeightsError(f"{path} is not {what}: it does not hold {PCA_VECTORS} and {PCA_MEANS}.")
    vectors, means = (_float_tensor(path, name, content[name]) for name in (PCA_VECTORS, PCA_MEANS))
    means = means.reshape(-1)
    _check(path, what, PCA_VECTORS, vectors, (channels, channels))
    _check(path, what, PCA_MEANS, means, (channels,))
    return vectors, means


def _float_tensor(path: Path, name: str, value: object) -> Tensor:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float()
    try:
        if isinstance(value, PickledArray):
            return value.to_tensor()
    except ValueError as error:
        raise WeightsError(f"{path}: {name} is {error}; the file is damaged or another one.") from error
    raise WeightsError(f"{path}: {name} is not an array of floating point.")


def _check(path: Path, what: str, name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise WeightsError(f"{path} is not {what}: {name} has shape {list(tensor.shape)}, expected {list(shape)}.")
    if not bool(torch.isfinite(tensor).all()):
        raise WeightsError(f"{path}: {name} holds values that are not finite; the file is damaged.")


def _read(path: Path) -> object:
    try:
        with torch.serialization.safe_globals(stand_ins()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors and arrays (or is damaged). It was refused and nothing in it was run; "
            "fetch the official file."
        ) from error
    except _DAMAGE as error:
        raise WeightsError(
            f"{path} cannot be read as a PyTorch checkpoint; it is cut short or another file: {error}"
        ) from error


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return (", ".join(names[:_SHOWN]) + more) or "nothing"
