"""What a student costs and sees: parameters, operations, receptive field, time on a CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from pipeline import registry
from pipeline.audio.extractor import build_extractor
from pipeline.cards import OutputCard, StudentCard
from pipeline.distillation.students.contract import build_student
from pipeline.evaluation.complexity import measure
from pipeline.evaluation.receptive import receptive_field

__all__ = ["Costs", "Speed", "student_costs", "student_speed"]

_NARROW = 1 / 32
_REPEATS = 3


@dataclass(frozen=True)
class Costs:
    """What the shapes of a full-size network say.

    Attributes:
        n_parameters: with the card's number of classes.
        macs_per_s: multiply-accumulates per second of audio, see :mod:`pipeline.evaluation.complexity`.
        field_s: seconds of audio that one frame of the last stage depends on, before pooling over time.
        field_mels: mel bands that one unit of the last map depends on, of ``n_mels``.
    """

    n_parameters: int
    macs_per_s: float
    field_s: float
    field_mels: int
    n_mels: int


@dataclass(frozen=True)
class Speed:
    """Seconds of computing per second of audio (the real-time factor), one clip on one thread."""

    front_end: float
    student: float

    @property
    def real_time_factor(self) -> float:
        """From waveform to scores."""
        return self.front_end + self.student


def student_costs(card: StudentCard) -> Costs:
    """Count a student on one clip of its card's ``example_frames``; takes about a second.

    One real clip: torch's meta device would count without computing, but takes seconds to load.
    """
    mel = _mel(card)
    full = build_student(card.name, n_classes=card.n_classes, n_mels=mel.channels)
    counted = measure(full, torch.zeros(1, card.example_frames, mel.channels), torch.tensor([card.example_frames]))
    narrow = build_student(card.name, n_classes=1, n_mels=mel.channels, width=_NARROW)
    field = receptive_field(narrow, n_frames=card.example_frames, n_mels=mel.channels, map_frames=card.stage_frames[-1])
    return Costs(
        n_parameters=counted.n_parameters,
        macs_per_s=counted.macs / (card.example_frames * mel.hop_s),
        field_s=(field.frames - 1) * mel.hop_s + mel.window_s,
        field_mels=field.mels,
        n_mels=mel.channels,
    )


def student_speed(card: StudentCard) -> Speed:
    """Time front end and student at full size, as they are without training; the median of three runs."""
    front = registry.find_front_end(card.front_end)
    mel = _mel(card)
    student = build_student(card.name, n_classes=card.n_classes, n_mels=mel.channels).eval()
    extractor = build_extractor(front)
    clip_s = card.example_frames * mel.hop_s
    audio = 0.1 * torch.randn(1, round(clip_s * front.rate_hz), generator=torch.Generator().manual_seed(0))
    n_valid = torch.tensor([audio.shape[1]])
    with torch.inference_mode(), _one_thread():
        features, n_frames = extractor(audio, n_valid)[mel.name]
        front_end = _seconds(lambda: extractor(audio, n_valid))
        network = _seconds(lambda: student(features, n_frames))
    return Speed(front_end / clip_s, network / clip_s)


def _mel(card: StudentCard) -> OutputCard:
    return registry.find_front_end(card.front_end).outputs[0]


def _seconds(work: Callable[[], object]) -> float:
    work()
    spent = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
