"""The signals of a preflight: short ones that go wrong where a network does.

All are in [-1, 1].  Lengths come from the card: long enough for two frames of every output, and
otherwise about a second, since a large network on a CPU makes a few seconds of audio per second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.audio.canary import CANARY_NAMES, canary_signals
from pipeline.cards import ExtractorCard

SHORTEST_CLIP_S, LONGEST_CLIP_S = 1.2, 5.0
LENGTHS_S = (0.001, 0.31, 0.5, 0.96, 1.0, 2.999, 3.01, 4.5)

#: The clips of the batch that everything is compared with: name, signal, part of the full length.
TOGETHER: tuple[tuple[str, str, float], ...] = (
    ("chord", "chord", 1.0),
    ("full-scale noise", "loud", 1.0),
    ("silence", "silence", 1.0),
    ("square", "square", 1.0),
    ("shorter chirp", "chirp", 0.83),
    ("short chord", "chord", 0.29),
    ("shortest noise", "noise", 0.0125),
    ("no samples", "silence", 0.0),
)
EXTREMES = ("silence", "square", "nyquist", "faint", "dc", "click")


def shortest(card: ExtractorCard) -> int:
    """Samples of the shortest clip that has a frame."""
    return max(1, math.ceil(card.min_s * card.rate_hz - 1e-6))


def clip_length_s(card: ExtractorCard) -> float:
    """Seconds of a full clip: two frames of each output, within bounds."""
    two_frames = max(output.window_s + 1.05 * output.hop_s for output in card.outputs)
    return max(card.min_s, min(max(SHORTEST_CLIP_S, two_frames), LONGEST_CLIP_S))


def signal(name: str, n: int, rate_hz: int) -> Tensor:
    """A signal by name: [n], float32."""
    at = torch.arange(n)
    match name:
        case "loud":
            return torch.rand(n, generator=torch.Generator().manual_seed(1)) * 2 - 1
        case "nyquist":
            return 1.0 - 2.0 * (at % 2)
        case "faint":
            return 1e-7 * (1.0 - 2.0 * (at % 2))
        case "dc":
            return torch.ones(n)
        case "click":
            return (at == n // 2).float()
        case _:
            row = canary_signals(rate_hz, max(1, n) / rate_hz)[CANARY_NAMES.index(name)]
            return torch.from_numpy(row)[:n]


def batch(names: Sequence[str], lengths: Sequence[int], width: int, rate_hz: int) -> tuple[Tensor, Tensor]:
    """Signals cut to their lengths, zero beyond: [clips, width] float32, [clips] int64."""
    audio = torch.zeros(len(names), width)
    for row, (name, n) in enumerate(zip(names, lengths, strict=True)):
        audio[row, :n] = signal(name, width, rate_hz)[:n]
    return audio, torch.tensor(lengths, dtype=torch.int64)


def together(card: ExtractorCard, width: int) -> tuple[Tensor, Tensor]:
    """The ``TOGETHER`` batch."""
    low = min(shortest(card), width)
    lengths = [max(low, round(part * width)) if part else 0 for _, _, part in TOGETHER]
    return batch([name for _, name, _ in TOGETHER], lengths, width, card.rate_hz)


def ragged(card: ExtractorCard, clip_s: float) -> tuple[Tensor, Tensor]:
    """Clips of the ``LENGTHS_S`` up to ``clip_s``, as wide as the longest."""
    low, rate_hz = shortest(card), card.rate_hz
    lengths = [max(low, round(seconds * rate_hz)) for seconds in LENGTHS_S if seconds <= max(clip_s, 1.0)]
    return batch(["chord"] * len(lengths), lengths, max(lengths), rate_hz)
