"""The contract of every student: log-mels in, logits and the features after its stages out."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from pipeline import registry
from pipeline.audio.extractor import Frames
from pipeline.cards import StudentCard
from pipeline.errors import RunError
from pipeline.files import publish_json, publishing

WEIGHTS_NAME = "student.safetensors"
CARD_NAME = "student.json"


class StudentOutput(NamedTuple):
    """What a student gives for a batch.

    Shape:
        logits: [batch, classes], float32.
        stages: per stage features [batch, frames, channels], the frequency axis averaged, and the
            valid frames of each clip.
    """

    logits: Tensor
    stages: tuple[Frames, ...]


class Student(nn.Module, ABC):
    """A network over log-mels whose answer does not depend on padding.

    A builder named by a card has the signature
    ``(card, *, n_classes: int, n_mels: int, width: float = 1.0, **arguments) -> Student``; ``width``
    scales the channels, so that tests can run narrow networks.

    Attributes:
        card: what this is.
        arguments: what the builder needs, besides the card, to build it again; JSON values.
    """

    card: StudentCard
    arguments: dict[str, Any]

    @abstractmethod
    def forward(self, mel: Tensor, n_frames: Tensor) -> StudentOutput:
        """Classify a batch.

        Shape:
            mel: [batch, frames, mels], float32.
            n_frames: [batch], int64, valid frames; what lies beyond is ignored.
        """


def build_student(name: str, *, n_classes: int, n_mels: int, **arguments: Any) -> Student:
    """Build the student of that name with fresh weights from torch's global generator.

    Raises:
        UnknownNameError: no such student.
    """
    card = registry.find_student(name)
    made = registry.builder(card)(card, n_classes=n_classes, n_mels=n_mels, **arguments)
    if not isinstance(made, Student):
        raise TypeError(f"{card.builder} must return a Student, not {type(made).__name__}")
    return made


def count_parameters(student: nn.Module) -> int:
    """Learnable numbers in a network."""
    return sum(p.numel() for p in student.parameters() if p.requires_grad)


def save_weights(folder: Path, student: Student) -> None:
    """Write ``student.safetensors``; buffers (running statistics) are included."""
    state = {key: value.detach().cpu().contiguous() for key, value in student.state_dict().items()}
    with publishing(folder / WEIGHTS_NAME) as draft:
        draft.write_bytes(save(state))  # save_file would let only its owner read it


def save_card(folder: Path, student: Student, about: Mapping[str, Any]) -> None:
    """Write ``student.json``: all that is needed to build the student again, and ``about``."""
    publish_json(folder / CARD_NAME, {"student": student.card.name, "arguments": student.arguments, **about})


def load_student(folder: Path) -> tuple[Student, dict[str, Any]]:
    """A trained student in eval mode on the CPU, and its ``student.json``.

    Raises:
        RunError: the folder holds no finished student, or its files do not fit together.
    """
    for name in (CARD_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise RunError(f"{folder} has no {name}: it is not a finished student. `east runs` lists the runs.")
    about = json.loads((folder / CARD_NAME).read_text())
    student = build_student(about["student"], **about["arguments"])
    try:
        student.load_state_dict(load_file(folder / WEIGHTS_NAME))
    except (RuntimeError, OSError) as error:
        raise RunError(f"{folder / WEIGHTS_NAME} does not fit the student in {CARD_NAME}: {error}") from error
    return student.eval().requires_grad_(False), about


def mask_time(features: Tensor, n_frames: Tensor) -> Tensor:
    """Zero what lies at or beyond ``n_frames``: [batch, channels, frames, ...] and [batch].

    While training, a batch without padding is passed through untouched.
    """
    if torch.is_grad_enabled() and int(n_frames.min()) >= features.shape[2]:
        return features
    keep = torch.arange(features.shape[2], device=features.device)[None, :] < n_frames[:, None]
    return features * keep.reshape(keep.shape[0], 1, keep.shape[1], *(1,) * (features.dim() - 3))


def mel_mean(features: Tensor) -> Tensor:
    """Average the mel axis: [batch, channels, frames, mels] to [batch, frames, channels]."""
    return features.mean(3).transpose(1, 2)


def narrowed(channels: Sequence[int], width: float) -> tuple[int, ...]:
    """Channel counts times ``width``, at least one each.

    >>> narrowed((16, 32), 0.25)
    (4, 8)
    """
    return tuple(max(1, round(width * count)) for count in channels)


def mean_time(features: Tensor, n_frames: Tensor) -> Tensor:
    """Mean over valid frames: [batch, frames, channels] to [batch, channels]; zeros where there are none."""
    keep = (torch.arange(features.shape[1], device=features.device)[None, :] < n_frames[:, None])[:, :, None]
    return (features * keep).sum(1) / n_frames.clamp(min=1)[:, None]


def pool_time(features: Tensor, n_frames: Tensor) -> Tensor:
    """Mean and maximum over valid frames: [batch, frames, channels] to [batch, 2 * channels].

    A clip without a valid frame gives zeros.
    """
    keep = (torch.arange(features.shape[1], device=features.device)[None, :] < n_frames[:, None])[:, :, None]
    highest = features.masked_fill(~keep, -torch.inf).amax(1)
    highest = torch.where(n_frames[:, None] > 0, highest, torch.zeros_like(highest))
    return torch.cat([mean_time(features, n_frames), highest], dim=1)
