"""Splits for data that has none: whole groups, dealt by hash, each class apart."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SettingError
from pipeline.manifest.table import Strings, encode, strings

RATIOS: Mapping[str, float] = MappingProxyType({"train": 0.8, "valid": 0.1, "test": 0.1})


def deal_splits(group: Strings, stratum: NDArray[np.int64], *, ratios: Mapping[str, float], seed: int) -> Strings:
    """A split for each row, so that no group is in two and each stratum has the ratios.

    The order of groups comes from a hash of seed and name: the same on every machine, and adding
    files moves few others.  Every split gets a group of a stratum that has as many groups as there
    are splits.

    Args:
        group: [rows].
        stratum: [rows], such as the class of single-label data; a group counts where it first appears.
        ratios: share of the groups of each split; what rounding leaves goes to the first.

    Raises:
        SettingError: ratios that are not positive or do not add up to 1.
    """
    if not ratios or min(ratios.values()) <= 0 or abs(sum(ratios.values()) - 1) > 1e-6:
        raise SettingError(f"Split ratios are {dict(ratios)}; they must be above 0 and add up to 1.")
    groups, codes = encode(group)
    first_row = np.full(len(groups), len(group))
    np.minimum.at(first_row, codes, np.arange(len(group)))
    order = np.argsort(np.array([_key(seed, name) for name in groups], dtype=object), kind="stable")
    names = np.empty(len(groups), dtype=object)
    for value in np.unique(stratum):
        members = order[stratum[first_row][order] == value]
        names[members] = _cut(len(members), ratios)
    return np.asarray(names[codes])


def _cut(n_groups: int, ratios: Mapping[str, float]) -> Strings:
    first, *others = ratios
    counts = {name: max(round(n_groups * ratios[name]), int(n_groups >= len(ratios))) for name in others}
    left = max(n_groups - sum(counts.values()), 0)
    dealt = [first] * left + [name for name in others for _ in range(counts[name])]
    return strings(dealt[:n_groups])


def _key(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()
