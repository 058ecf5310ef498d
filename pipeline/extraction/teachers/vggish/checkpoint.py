"""Reading VGGish's two files.

The network is a plain state dict.  The PCA parameters are a dict of two numpy arrays; beside tensors,
the reader lets nothing through but arrays of floating point.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from pipeline.errors import WeightsError
from pipeline.extraction.teachers.checkpoint import as_state, fill, read_checkpoint, require_finite
from pipeline.extraction.teachers.vggish.arrays import PickledArray, stand_ins

PCA_VECTORS, PCA_MEANS = "pca_eigen_vectors", "pca_means"


def load_network(network: nn.Module, path: Path, what: str) -> None:
    """Fill a network from a state dict.

    Args:
        what: the architecture, for the message.

    Raises:
        WeightsError: no state dict, one that holds more than tensors, or another architecture.
    """
    content = read_checkpoint(path, safe=stand_ins())
    if isinstance(content, dict) and PCA_MEANS in content:
        raise WeightsError(f"{path} is not {what}: it is the file of PCA parameters.")
    fill(network, as_state(content, path, "tensors by name, as torchvggish's vggish-10086976.pth does"), path, what)


def read_pca(path: Path, channels: int) -> tuple[Tensor, Tensor]:
    """Eigenvectors [channels, channels], one a row, and means [channels].

    Raises:
        WeightsError: not the file of PCA parameters.
    """
    what = f"the PCA parameters of VGGish with {channels} channels"
    content = read_checkpoint(path, safe=stand_ins())
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
    require_finite(path, name, tensor)
