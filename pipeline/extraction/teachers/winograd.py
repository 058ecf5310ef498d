"""3 x 3 convolutions in fewer multiplications, for CPUs.

A direct convolution spends nine multiplications per output, input channel and output channel; on
tiles of 4 x 4 outputs Winograd's F(4 x 4, 3 x 3) spends 36 / 16 = 2.25.  The transforms around them
are matrix products with small constant matrices, and the rest is one batched matrix product, so that
all the work runs in the machine's matrix routine, in pieces that stay in its cache.  What is left of
the fourfold saving after the transforms, over a direct convolution that runs near the processor's
peak: nothing with 64 channels, 1.4 to 1.8 times the speed with 128, 2 to 4 times from 256 on, for a
difference of about 1e-5 of the output's range in float32 (``python -m tests.benchmarks convolution``).

Source: A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016, with
interpolation at 0, 1, -1, 2, -2 and infinity.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

_TILES = 128
"""Tiles in one piece of the work: enough rows for the matrix routine, few enough for the cache."""

_IN = {
    2: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    4: (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
}
_FILTER = {
    2: ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    4: (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
}
_OUT = {
    2: ((1, 1, 1, 0), (0, 1, -1, -1)),
    4: ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
}


def convolve(x: Tensor, filters: Tensor, bias: Tensor, columns: int, *, relu: bool) -> Tensor:
    """A 3 x 3 convolution of stride 1 and padding 1, bias, and a ReLU where wanted.

    Shape:
        x: [batch, height, width, in]
        filters: of :func:`transform_filters`, for tiles of that many ``columns``
        returns: [batch, height, width, out]
    """
    batch, height, width, _ = x.shape
    down, across = -(-height // 4), -(-width // columns)
    out = x.new_empty(batch, 4 * down, columns * across, filters.shape[2])
    clips, rows = _piece(down, across)
    piece = _Piece((min(clips, batch), rows, across), filters, bias, columns, relu=relu)
    for clip in range(0, batch, piece.clips):
        for row in range(0, down, rows):
            piece.run(x[clip : clip + piece.clips], 4 * row, out[clip : clip + piece.clips, 4 * row : 4 * (row + rows)])
    return out[:, :height, :width]


def choose_columns(width: int) -> int:
    """Columns of a tile, 2 or 4: those that read less of a map of that width."""
    return min((4, 2), key=lambda columns: -(-width // columns) * (columns + 2))


def transform_filters(weight: Tensor, columns: int) -> Tensor:
    """[out, in, 3, 3] -> [6 * (columns + 2), in, out], for tiles of 4 rows and ``columns`` columns."""
    rows, across = (torch.tensor(_FILTER[m], dtype=torch.float64) for m in (4, columns))
    n_out, n_in = weight.shape[:2]
    taps = weight.permute(2, 3, 1, 0).reshape(9, n_in * n_out)
    return (torch.kron(rows, across).float() @ taps).view(-1, n_in, n_out)


@cache
def _matrices(columns: int) -> tuple[Tensor, Tensor]:
    """What flattened tiles are multiplied with before and after: [36, 36] and [16, 36]."""
    into = torch.kron(torch.tensor(_IN[4]).double(), torch.tensor(_IN[columns]).double())
    out = torch.kron(torch.tensor(_OUT[4]).double(), torch.tensor(_OUT[columns]).double())
    return into.float(), out.float()


def _piece(down: int, across: int) -> tuple[int, int]:
    """Clips and rows of tiles that are worked on at once: whole clips, or some rows of one."""
    if down * across <= _TILES:
        return _TILES // (down * across), down
    return 1, max(1, _TILES // across)


class _Piece:
    """Room for one piece of the work, and the work itself."""

    def __init__(self, grid: tuple[int, int, int], filters: Tensor, bias: Tensor, columns: int, *, relu: bool) -> None:
        clips, rows, across = grid
        self.relu = relu
        self.clips, self.columns, self.filters, self.bias = clips, columns, filters, bias
        self.into, self.back = _matrices(columns)
        n_points, n_in, n_out = filters.shape
        tiles = clips * rows * across
        self.strip = filters.new_zeros(clips, 4 * rows + 2, columns * across + 2, n_in)
        self.tiles, self.points = (filters.new_empty(n_points * tiles * n_in) for _ in range(2))
        self.products = filters.new_empty(n_points * tiles * n_out)
        self.results = filters.new_empty(4 * columns * tiles * n_out)

    def run(self, x: Tensor, top: int, out: Tensor) -> None:
        """Outputs of some clips from row ``top`` on; the last piece may be smaller."""
        clips, height, across, n_out = out.shape[0], out.shape[1], out.shape[2] // self.columns, out.shape[3]
        rows, n_in, n_points = height // 4, x.shape[3], len(self.filters)
        tiles = clips * rows * across
        strip = self.strip[:clips, : height + 2]
        self._fill(strip, x, top)
        view = strip.unfold(1, 6, 4).unfold(2, self.columns + 2, self.columns).permute(4, 5, 0, 1, 2, 3)
        gathered = self.tiles[: n_points * tiles * n_in].view(view.shape)
        gathered.copy_(view)
        points = self.points[: n_points * tiles * n_in].view(n_points, tiles * n_in)
        torch.mm(self.into, gathered.view(n_points, tiles * n_in), out=points)
        products = self.products[: n_points * tiles * n_out].view(n_points, tiles, n_out)
        torch.bmm(points.view(n_points, tiles, n_in), self.filters, out=products)
        results = self.results[: 4 * self.columns * tiles * n_out].view(4 * self.columns, tiles * n_out)
        torch.mm(self.back, products.view(n_points, tiles * n_out), out=results)
        ordered = results.view(4, self.columns, clips, rows, across, n_out).permute(2, 3, 0, 4, 1, 5)
        place = out.view(clips, rows, 4, across, self.columns, n_out)
        torch.add(ordered, self.bias, out=place)
        if self.relu:
            place.relu_()

    @staticmethod
    def _fill(strip: Tensor, x: Tensor, top: int) -> None:
        """Rows ``top - 1`` on, zero where the map has none; the columns beside it stay zero."""
        first, last = max(0, top - 1), min(x.shape[1], top - 1 + strip.shape[1])
        at = first - (top - 1)
        strip[:, :at] = 0
        strip[:, at + last - first :] = 0
        strip[:, at : at + last - first, 1 : 1 + x.shape[2]] = x[:, first:last]
