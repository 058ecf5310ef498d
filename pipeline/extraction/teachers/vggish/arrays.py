"""Numpy arrays in a PyTorch file, read without letting numpy restore them.

A pickled array is a call of numpy's and a state that numpy takes on trust; a made-up one can upset
the interpreter.  Here stand-ins take the call and the state, and what they hold is looked at first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

_TYPES = {"f4": "<f4", "f8": "<f8"}


class PickledArray:
    """What a file says of an array: version, shape, type, whether columns come first, bytes."""

    def __init__(self, *_: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state

    def to_tensor(self) -> Tensor:
        """The array as float32.

        Raises:
            ValueError: not an array of little-endian floating point, or not all of it.
        """
        match self.state:
            case (int(), tuple(shape), PickledType(name=name, order="<"), bool(columns_first), bytes(raw)):
                pass
            case _:
                raise ValueError("not an array of floating point")
        if name not in _TYPES or not all(isinstance(size, int) and 0 <= size <= len(raw) for size in shape):
            raise ValueError(f"an array of type {name!r} and shape {shape}")
        if math.prod(shape) * np.dtype(_TYPES[name]).itemsize != len(raw):
            raise ValueError(f"{len(raw)} bytes for an array of shape {shape}")
        array = np.frombuffer(raw, _TYPES[name]).reshape(shape, order="F" if columns_first else "C")
        return torch.from_numpy(array.astype(np.float32, order="C"))


class PickledType:
    """The type of an array's numbers, ``f8``, and the order of their bytes."""

    def __init__(self, name: object = None, *_: object) -> None:
        self.name, self.order = name, None

    def __setstate__(self, state: object) -> None:
        self.order = state[1] if isinstance(state, tuple) and len(state) > 1 else None


def rebuild(*_: object) -> PickledArray:
    """In place of numpy's function of that purpose."""
    return PickledArray()


def stand_ins() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """For ``torch.serialization.safe_globals``; a module of numpy's had another name before numpy 2."""
    return [
        (rebuild, "numpy.core.multiarray._reconstruct"),
        (rebuild, "numpy._core.multiarray._reconstruct"),
        (PickledArray, "numpy.ndarray"),
        (PickledType, "numpy.dtype"),
    ]
