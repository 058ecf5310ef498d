"""Reading an official OpenL3 file of weights, strictly: HDF5 as Keras writes it, often gzipped.

Keras names layers by counters that go on from model to model, so layers are known by their order in
the attribute ``layer_names``, and their arrays by the last part of their names.  Both layouts of
Keras 2 are read: ``save_weights`` (layers at the root) and ``save`` (layers below ``model_weights``,
beside a description of the model that is not looked at).

Only arrays that lie in the file itself are read: no link to another file, no external storage.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from pipeline.errors import WeightsError
from pipeline.extraction.teachers.openl3.network import Network

_LARGEST_BYTES = 256 << 20
"""More than ten times an official file; what does not fit is none."""
_BUILT_IN_FILTERS = 6
"""HDF5's own filters have numbers up to this; others are plugins, which would be run."""
_GZIP, _HDF5 = b"\x1f\x8b", b"\x89HDF\r\n\x1a\n"
_CONV = {"kernel": "weight", "bias": "bias"}
_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_DAMAGE = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError)
"""What h5py was seen to raise on damaged files."""
_Layer = tuple[str, dict[str, np.ndarray]]


def load_checkpoint(network: Network, path: Path, what: str) -> None:
    """Fill a network.

    Args:
        path: ``.h5`` or ``.h5.gz``; told apart by content.
        what: the architecture, for the message.

    Raises:
        WeightsError: not such a file, a damaged one, or another architecture.
    """
    content = read_content(path)
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            layers = list(_layers(file))
    except _DAMAGE as error:
        raise WeightsError(f"{path} is a damaged HDF5 file, or none that Keras wrote: {error}. {_REFETCH}") from error
    except _RefusedError as error:
        raise WeightsError(f"{path}: {error}. It was refused; use the official file.") from error
    wanted = list(_modules(network))
    if len(layers) != len(wanted):
        hint = ""
        if any("spectrogram" in name for name, _ in layers):
            hint = " It has a spectrogram layer, as files before version 0.4 have: use a v0_4_0 file."
        raise WeightsError(f"{path} is not {what}: {len(layers)} layers with weights, expected {len(wanted)}.{hint}")
    for layer, (module, names) in zip(layers, wanted, strict=True):
        _fill(module, names, layer, f"{path} is not {what}", path)


def read_content(path: Path) -> bytes:
    """The bytes of the HDF5 file, unzipped where they are zipped.

    Raises:
        WeightsError: unreadable, cut short, no HDF5, or unzipping to what no file of weights is.
    """
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP
            raw.seek(0)
            with gzip.open(raw) if zipped else raw as file:
                content = file.read(_LARGEST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise WeightsError(f"{path} cannot be read; it is cut short or damaged: {error}. {_REFETCH}") from error
    if len(content) > _LARGEST_BYTES:
        raise WeightsError(f"{path} has more than {_LARGEST_BYTES >> 20} MiB; weights of OpenL3 have about 18.")
    if not content.startswith(_HDF5):
        raise WeightsError(f"{path} is no HDF5 file, gzipped or not, as weights of OpenL3 are. {_REFETCH}")
    return content


_REFETCH = "Fetch the official openl3_audio_*-v0_4_0.h5.gz again (east weights get openl3)"


class _RefusedError(Exception):
    """Something in the file that is not read."""


def _layers(file: h5py.File) -> Iterator[_Layer]:
    """Name and arrays of each layer that has weights, in Keras's order."""
    root = file if "layer_names" in file.attrs else _member(file, "model_weights", h5py.Group)
    for name in _names(root, "layer_names"):
        group = _member(root, name, h5py.Group)
        arrays = {part: _array(_member(group, part, h5py.Dataset)) for part in _names(group, "weight_names")}
        if arrays:
            yield name, {part.rpartition("/")[2].partition(":")[0]: array for part, array in arrays.items()}


def _names(group: h5py.Group, attribute: str) -> list[str]:
    stored = np.asarray(group.attrs[attribute]).reshape(-1)
    return [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in stored.tolist()]


def _member(group: h5py.Group, path: str, kind: type) -> h5py.Group | h5py.Dataset:
    """What lies under that path, reached by hard links alone."""
    found = group
    for part in filter(None, path.split("/")):
        link = found.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise _RefusedError(f"{path!r} is a link to elsewhere")
        found = found[part]
    if not isinstance(found, kind):
        raise _RefusedError(f"{path!r} is no {kind.__name__.lower()}")
    return found


def _array(dataset: h5py.Dataset) -> np.ndarray:
    """Numbers stored in the file."""
    settings = dataset.id.get_create_plist()
    filters = [settings.get_filter(index)[0] for index in range(settings.get_nfilters())]
    if dataset.external or dataset.is_virtual or any(number > _BUILT_IN_FILTERS for number in filters):
        raise _RefusedError(f"{dataset.name!r} is stored outside the file, or needs a plugin")
    if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8 or dataset.nbytes > _LARGEST_BYTES:
        raise _RefusedError(f"{dataset.name!r} holds {dataset.dtype} {dataset.shape}, not weights")
    return np.asarray(dataset[()], dtype=np.float32)


def _modules(network: Network) -> Iterator[tuple[nn.Module, Mapping[str, str]]]:
    """Modules in Keras's order, with Keras's names of their tensors."""
    yield network.norm, _NORM
    last = network.convs[-1]
    yield from chain.from_iterable(
        ((conv, _CONV), (norm, _NORM)) for conv, norm in zip(network.convs[:-1], network.norms, strict=True)
    )
    yield last, _CONV


def _fill(module: nn.Module, names: Mapping[str, str], layer: _Layer, refusal: str, path: Path) -> None:
    name, arrays = layer
    if set(arrays) != set(names):
        raise WeightsError(f"{refusal}: layer {name} has {sorted(arrays)}, expected {sorted(names)}.")
    for part, target in names.items():
        tensor, place = _as_torch(arrays[part]), _tensor_of(module, target)
        if tensor.shape != place.shape:
            raise WeightsError(
                f"{refusal}: {name}/{part} has shape {list(arrays[part].shape)}, expected {_keras_shape(place)}."
            )
        if not bool(torch.isfinite(tensor).all()) or (part == "moving_variance" and bool((tensor < 0).any())):
            raise WeightsError(f"{path}: {name}/{part} holds values that are not finite; the file is damaged.")
        with torch.no_grad():
            place.copy_(tensor)


def _tensor_of(module: nn.Module, name: str) -> Tensor:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}[name]


def _as_torch(array: np.ndarray) -> Tensor:
    """Keras's [height, width, in, out] -> [out, in, height, width]; vectors as they are."""
    tensor = torch.from_numpy(np.array(array))
    return tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor


def _keras_shape(place: Tensor) -> list[int]:
    return list((place.permute(2, 3, 1, 0) if place.ndim == 4 else place).shape)
