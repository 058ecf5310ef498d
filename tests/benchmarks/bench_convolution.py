"""3 x 3 convolutions of the teachers: the plain convolution's time over ours, on one core."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.extraction.teachers.convolution import QuickConv

Shape = tuple[int, int, int, int, int]
#: batch, channels in and out, height, width: CNN14's blocks on ten seconds.
SHAPES: dict[str, Shape] = {
    "128 channels (CNN14 block 2)": (1, 128, 128, 500, 32),
    "256 channels (CNN14 block 3)": (1, 256, 256, 250, 16),
    "512 channels (CNN14 block 4)": (4, 512, 512, 125, 8),
    "2048 channels (CNN14 block 6)": (4, 2048, 2048, 31, 2),
}
TARGETS = {"128 channels (CNN14 block 2)": 1.3, "512 channels (CNN14 block 4)": 1.5}


def run(rounds: int = 4, shapes: Mapping[str, Shape] = SHAPES) -> dict[str, float]:
    """Ratios of the best of ``rounds``, taken in turn."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            return {name: _ratio(shape, rounds) for name, shape in shapes.items()}
    finally:
        torch.set_num_threads(threads)


def _ratio(shape: Shape, rounds: int) -> float:
    batch, n_in, n_out, height, width = shape
    conv = nn.Conv2d(n_in, n_out, 3, padding=1).to(memory_format=torch.channels_last)
    x = torch.randn(batch, n_in, height, width).contiguous(memory_format=torch.channels_last)
    ours = QuickConv(conv)
    ours(x)
    times = [(_seconds(lambda: F.relu_(conv(x))), _seconds(lambda: ours(x))) for _ in range(rounds)]
    return min(plain for plain, _ in times) / min(quick for _, quick in times)


def _seconds(run_once: Callable[[], object]) -> float:
    began = time.perf_counter()
    run_once()
    return time.perf_counter() - began
