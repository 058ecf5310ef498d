"""How far two passes are apart over the clips they share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from pipeline.audio.extractor import Frames
from pipeline.extraction.preflight.passes import Pass, Passes
from pipeline.extraction.preflight.signals import TOGETHER


@dataclass(frozen=True, order=True)
class Difference:
    """The largest difference relative to the output's largest magnitude, and where it is."""

    value: float
    output: str = ""
    clip: str = ""

    def text(self) -> str:
        """For a sentence."""
        if math.isinf(self.value):
            return f"{self.output} of the clip '{self.clip}' has other frames, or NaN in one case alone"
        return f"{self.output} of the clip '{self.clip}' differs by {self.value:.2e} of its largest magnitude"


def largest_difference(passes: Passes, left: Pass, right: Pass) -> Difference:
    """Over the valid frames of each row of ``right``, compared with the same row of ``left``."""
    found = [Difference(0.0, next(iter(right.frames), ""), "")]
    for output in right.frames.keys() & left.frames.keys():
        scale = passes.scale(output) or 1.0
        for at, row in enumerate(right.rows):
            value = _difference(left.frames[output], left.rows.index(row), right.frames[output], at) / scale
            found.append(Difference(value, output, TOGETHER[row][0]))
    return max(found)


def same_bits(left: Pass, right: Pass) -> bool:
    """Whether all features and counts agree to the bit, NaN with NaN."""
    return left.frames.keys() == right.frames.keys() and all(
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))
        for name, frames in left.frames.items()
        for one, other in zip(frames, right.frames[name], strict=True)
    )


def _difference(left: Frames, left_row: int, right: Frames, right_row: int) -> float:
    """Infinite where the numbers of frames differ, or NaN and infinity are not in the same places."""
    n = int(left.n_frames[left_row])
    one, other = left.features[left_row, :n].double(), right.features[right_row, :n].double()
    if int(right.n_frames[right_row]) != n or one.shape != other.shape:
        return math.inf
    odd = ~torch.isfinite(one) | ~torch.isfinite(other)
    if not torch.equal(one[odd].nan_to_num(), other[odd].nan_to_num()):
        return math.inf
    return float((one[~odd] - other[~odd]).abs().amax()) if (~odd).any() else 0.0
