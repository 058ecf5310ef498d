"""MusiCNN as matrix products, each thing computed once: the ``fast`` mode.

The same numbers as :mod:`network` to about 1e-5 of their range, several times as fast, by

- leaving out filters that weight decay has emptied (:mod:`prune`);
- taking the maximum over frequency of the bare convolution, before bias, ReLU and batch-norm, which
  are monotonic: kernels with a negative scale are negated so that it is always a maximum;
- unfolding the input over time only, so that each frequency position is a strided view of it and
  goes into the matrix product without a copy, three positions per product;
- computing what neighbouring patches share once (:mod:`sharing`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.extraction.teachers.musicnn.layers import Array, Convolution
from pipeline.extraction.teachers.musicnn.network import as_tensor


class Activation(nn.Module):
    """``scale * relu(x + bias) + shift``: [..., filters] to the same shape."""

    bias: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        for name in ("bias", "scale", "shift"):
            self.register_buffer(name, as_tensor(getattr(layer, name)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution's sum to the layer's output."""
        return (x + self.bias).relu_().mul_(self.scale).add_(self.shift)


class _Largest(nn.Module):
    """Base of layers that take ``max over frequency of scale * relu(c + bias) + shift``.

    The largest ``sign * c`` decides, so kernels are negated where the scale is negative.
    """

    sign: Tensor

    def __init__(self, layer: Convolution) -> None:
        super().__init__()
        sign = np.where(layer.scale < 0, -1.0, 1.0)
        self.kernel = layer.kernel * sign
        self.taps, self.reach, self.n_filters = layer.kernel.shape
        self.activation = Activation(layer)
        self.register_buffer("sign", as_tensor(sign), persistent=False)

    def finished(self, peaks: Tensor) -> Tensor:
        """Maxima of the signed convolution to the layer's output, in float32."""
        return self.activation(peaks.float() * self.sign)  # type: ignore[no-any-return]


class Timbral(_Largest):
    """A [7, k] convolution over one channel, then the maximum over frequency.

    Shape:
        windows: [row, 96 * 7], per row the 7 frames around it, frequency-major.
        returns: [row, filters].
    """

    matrix: Tensor

    def __init__(self, layer: Convolution, n_bands: int, step: int = 3) -> None:
        super().__init__(layer)
        self.n_positions, self.step = n_bands - self.reach + 1, step
        rows = self.kernel.transpose(1, 0, 2).reshape(self.reach * self.taps, self.n_filters)
        self.register_buffer("matrix", as_tensor(_shifted(rows, step, self.taps)), persistent=False)

    def forward(self, windows: Tensor) -> Tensor:
        """Maxima after ReLU and batch-norm."""
        windows = windows.to(self.matrix.dtype)
        best = windows.new_full((len(windows), self.n_filters), -torch.inf)
        for first in group_starts(self.n_positions, self.step):
            rows = windows[:, first * self.taps : first * self.taps + len(self.matrix)]
            for part in torch.split(rows @ self.matrix, self.n_filters, 1):
                torch.maximum(best, part, out=best)
        return self.finished(best)


class Temporal(_Largest):
    """A [k, 1] convolution over one channel with SAME padding, then the maximum over frequency.

    ``step`` neighbouring frames go into one product; inputs beyond the ends are left out of it.
    """

    matrix: Tensor

    def __init__(self, layer: Convolution) -> None:
        super().__init__(layer)
        self.before = (self.taps - 1) // 2
        self.step = 8
        self.register_buffer("matrix", as_tensor(_shifted(self.kernel[:, 0], self.step, 1)), persistent=False)

    def whole(self, x: Tensor) -> Tensor:
        """[clip, band, time] -> [clip, time, filters]; at least ``step`` frames."""
        n_clips, n_bands, n_frames = x.shape
        made = x.new_empty(n_clips, n_frames, self.n_filters, dtype=torch.float32)
        rows = x.reshape(n_clips * n_bands, n_frames).to(self.matrix.dtype)
        for first in group_starts(n_frames, self.step):
            products = self._product(rows, first - self.before, 0, n_frames)
            made[:, first : first + self.step] = self._peaks(products, n_clips)
        return self.finished(made)

    def shared(self, blocks: Tensor, margin: int, n_frames: int) -> tuple[Tensor, Tensor]:
        """The frames that two neighbouring patches share, as the first and as the second sees them.

        A frame's response is the sum over the block itself, common to both, and over what lies
        before it (for the patch that ends with the block) or after it (for the one that begins).

        Shape:
            blocks: [block, band, margin + n_frames + margin + 1].
            returns: two times [block, n_frames, filters]: at the start of a patch, at the end of one.
        """
        n_blocks, n_bands, width = blocks.shape
        rows = blocks.reshape(n_blocks * n_bands, width).to(self.matrix.dtype)
        starting = blocks.new_empty(n_blocks, n_frames, self.n_filters, dtype=torch.float32)
        ending = torch.empty_like(starting)
        for first in group_starts(n_frames, self.step):
            at, end, to = margin + first - self.before, margin + n_frames, slice(first, first + self.step)
            common = self._product(rows, at, margin, end)
            plain = self._peaks(common, n_blocks)
            after, before = at + len(self.matrix) > end, at < margin
            starting[:, to] = self._peaks(self._product(rows, at, end, width, common), n_blocks) if after else plain
            ending[:, to] = self._peaks(self._product(rows, at, 0, margin, common), n_blocks) if before else plain
        return self.finished(starting), self.finished(ending)

    def _product(self, rows: Tensor, at: int, low: int, high: int, base: Tensor | None = None) -> Tensor:
        """Columns ``low`` to ``high`` of the rows times the matrix laid at column ``at``, plus ``base``."""
        low, high = max(low, at), min(high, at + len(self.matrix))
        matrix = self.matrix[low - at : high - at]
        return rows[:, low:high] @ matrix if base is None else torch.addmm(base, rows[:, low:high], matrix)

    def _peaks(self, products: Tensor, n_clips: int) -> Tensor:
        return products.view(n_clips, -1, products.shape[1]).amax(1).view(n_clips, self.step, self.n_filters)


class TimeConvolution(nn.Module):
    """A [7, channels] convolution over time: one product, then seven shifted sums.

    Shape: [patch, time, channels in] -> [patch, time, channels out].
    """

    matrix: Tensor

    def __init__(self, kernel: Array) -> None:
        super().__init__()
        self.taps, n_in, self.n_out = kernel.shape
        self.register_buffer("matrix", as_tensor(kernel.transpose(1, 0, 2).reshape(n_in, -1)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The sums, without bias."""
        n_patches, n_frames, _ = x.shape
        half = self.taps // 2
        products = (x.to(self.matrix.dtype) @ self.matrix).float().view(n_patches, n_frames, self.taps, self.n_out)
        total = products[:, :, half].clone()
        for tap in range(self.taps):
            shift = tap - half
            if shift and abs(shift) < n_frames:
                to = slice(max(0, -shift), n_frames - max(0, shift))
                at = slice(max(0, shift), n_frames - max(0, -shift))
                total[:, to] += products[:, at, tap]
        return total


def group_starts(n: int, step: int) -> list[int]:
    """Starts of groups of ``step`` that cover ``n``; the last one moves back so that it fits."""
    return [min(start, n - step) for start in range(0, n, step)]


def _shifted(rows: Array, n: int, stride: int) -> Array:
    """``n`` copies of a matrix side by side, each ``stride`` rows further down: [k, m] -> [k + ..., n * m]."""
    made = np.zeros((len(rows) + stride * (n - 1), n, rows.shape[1]))
    for index in range(n):
        made[stride * index : stride * index + len(rows), index] = rows
    return made.reshape(len(made), -1)
