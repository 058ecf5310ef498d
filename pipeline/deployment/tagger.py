"""A trained student and its front end, ready to tag clips. No teacher is needed or loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import registry
from pipeline.audio.extractor import Extractor, build_extractor
from pipeline.audio.samples import Samples, fit_clip, resample
from pipeline.audio.timing import n_samples
from pipeline.cards import ExtractorCard
from pipeline.distillation.students.contract import CARD_NAME, Student, StudentOutput, load_student
from pipeline.errors import RunError, UnknownNameError
from pipeline.evaluation.runs import read_json
from pipeline.licences import strictest
from pipeline.texts import one_line


@dataclass(frozen=True, eq=False, kw_only=True)
class Tagger(ABC):
    """Waveforms of clips to class probabilities.

    Attributes:
        name: of the run.
        clip_s: length of the clips it was trained on, in seconds.
        rate_hz: what it hears at.
        min_s: the least it can say something of, in seconds.
        thresholds: per class, the score from which a tag counts as present; None where the run
            has none.
        licence: the strictest that the student comes under, ``LICENCE (WHAT)``.
        licences: all of them, each with what it covers.
    """

    name: str
    classes: tuple[str, ...]
    single_label: bool
    clip_s: float
    rate_hz: int
    min_s: float
    thresholds: tuple[float, ...] | None
    licence: str
    licences: tuple[tuple[str, str], ...]

    @abstractmethod
    def run(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores of waveforms of one length at ``rate_hz``, all of it heard: [clips, samples] to [clips, classes]."""

    def score(self, clips: Sequence[tuple[Samples, int]]) -> NDArray[np.float32]:
        """Probabilities of clips; those of one length are one batch, so that none is padded.

        Args:
            clips: mono samples of at most ``clip_s`` seconds, each with its own rate in Hz.

        Shape:
            result: [clips, classes].
        """
        most = n_samples(self.clip_s, self.rate_hz)
        whole = [near_clip(resample(samples, own_hz, self.rate_hz), most) for samples, own_hz in clips]
        rows: dict[int, list[int]] = {}
        for row, samples in enumerate(whole):
            rows.setdefault(len(samples), []).append(row)
        scores = np.empty((len(clips), len(self.classes)), dtype=np.float32)
        for chosen in rows.values():
            scores[chosen] = self.run(np.stack([whole[row] for row in chosen]))
        return scores


@dataclass(frozen=True, eq=False, kw_only=True)
class StudentTagger(Tagger):
    """A student of a run folder, in PyTorch."""

    student: Student
    front_end: Extractor
    device: str

    def run(self, audio: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`Tagger.run`."""
        logits = self.logits(torch.from_numpy(audio).to(self.device))
        scores = torch.softmax(logits, 1) if self.single_label else torch.sigmoid(logits)
        return np.asarray(scores.cpu().numpy(), dtype=np.float32)

    @torch.inference_mode()
    def logits(self, audio: Tensor) -> Tensor:
        """[clips, samples] to [clips, classes]."""
        n_valid = torch.full((len(audio),), audio.shape[1], dtype=torch.int64, device=audio.device)
        mel = self.front_end(audio, n_valid)[self.front_end.outputs[0]]
        output: StudentOutput = self.student(mel.features, mel.n_frames)
        return output.logits.float()


def near_clip(samples: Samples, n: int) -> Samples:
    """A clip of nearly ``n`` samples as one of ``n``: resampling may give one more or one less."""
    return fit_clip(samples, n)[0] if abs(len(samples) - n) <= 1 else samples[:n]


def load_tagger(folder: Path, *, device: str = "cpu") -> StudentTagger:
    """Load a student from its run folder.

    Raises:
        RunError: no finished student there, or one whose front end is not the registered one.
    """
    if folder.is_file():
        raise RunError(
            f"{folder} is a file, neither a run's folder nor an exported model (.onnx). Give the run first, then the "
            "files; `east runs` lists the runs."
        )
    if not (folder / CARD_NAME).is_file():
        raise RunError(f"{folder} has no {CARD_NAME}: it is not a finished student. Probes cannot tag files.")
    about = read_json(folder / CARD_NAME)
    _require(folder, about)
    card = _front_end_card(folder, about["front_end"])
    student, _ = load_student(folder)
    return StudentTagger(
        name=folder.resolve().name,
        student=student.to(device),
        front_end=build_extractor(card, device=device),
        classes=tuple(about["classes"]),
        single_label=about["task"] == "single-label",
        clip_s=float(about["clip_s"]),
        rate_hz=card.rate_hz,
        min_s=card.min_s,
        thresholds=_thresholds(folder, about.get("thresholds"), about["classes"]),
        licence=one_line(about.get("licence")) or strictest(_licences(about)),
        licences=_licences(about),
        device=device,
    )


def _licences(about: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Empty for students of older releases, which recorded the strictest alone."""
    given = about.get("licences")
    pairs = [pair for pair in given if isinstance(pair, list) and len(pair) == 2] if isinstance(given, list) else []
    return tuple((one_line(text), one_line(what)) for text, what in pairs)


def _require(folder: Path, about: Mapping[str, Any]) -> None:
    kinds: dict[str, type | tuple[type, ...]] = {
        "student": str,
        "arguments": dict,
        "classes": list,
        "task": str,
        "clip_s": (int, float),
    }
    for name, kind in kinds.items():
        if not isinstance(about.get(name), kind):
            raise RunError(f"{folder / CARD_NAME}: {name} is {about.get(name)!r}. Train the run again.")
    if not all(isinstance(name, str) for name in about["classes"]) or not about["clip_s"] > 0:
        raise RunError(f"{folder / CARD_NAME}: classes must be names and clip_s seconds above 0. Train the run again.")
    if not isinstance(about.get("front_end"), (str, dict)):
        raise RunError(f"{folder / CARD_NAME} does not say which front end the student hears with. Train it again.")


def _front_end_card(folder: Path, given: str | Mapping[str, Any]) -> ExtractorCard:
    """The registered card; a card that was written down must agree with it."""
    name = given if isinstance(given, str) else str(given.get("name"))
    try:
        card = registry.find_front_end(name)
    except UnknownNameError as error:
        raise RunError(
            f"{folder.name} hears with front end {name!r}, which this installation lacks. {error}"
        ) from error
    for key in ("version", "rate_hz", "parameters"):
        now = card.as_dict()[key]
        if not isinstance(given, str) and key in given and given[key] != now:
            raise RunError(
                f"{folder.name} was trained with front end {name!r} of {key} {given[key]!r}; this program has {now!r}, "
                f"so its scores would be wrong. Use the version that trained it, or train it again."
            )
    return card


def _thresholds(folder: Path, given: Any, classes: Sequence[str]) -> tuple[float, ...] | None:
    if given is None or given == []:
        return None
    values = [given.get(name) for name in classes] if isinstance(given, dict) else given
    if isinstance(values, (int, float)):
        values = [values] * len(classes)
    numbers = isinstance(values, list) and all(isinstance(value, (int, float)) for value in values)
    if not numbers or len(values) != len(classes):
        raise RunError(f"{folder / CARD_NAME}: thresholds must be {len(classes)} numbers, found {given!r}.")
    return tuple(map(float, values))
