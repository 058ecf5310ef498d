"""A trained student and its front end, ready to tag clips. No teacher is needed or loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import registry
from pipeline.audio.extractor import Extractor, build_extractor
from pipeline.audio.samples import Samples, fit_clip, resample
from pipeline.audio.timing import n_samples
from pipeline.cards import ExtractorCard
from pipeline.distillation.students.contract import CARD_NAME, Student, load_student
from pipeline.errors import RunError, UnknownNameError
from pipeline.evaluation.runs import read_json
from pipeline.licences import strictest
from pipeline.texts import one_line


@dataclass(frozen=True, eq=False)
class Tagger:
    """Waveforms of clips to class probabilities.

    Attributes:
        name: of the run.
        clip_s: length of the clips it was trained on, in seconds.
        thresholds: per class, the score from which a tag counts as present; None where the run
            has none.
        licence: the strictest that the student comes under, ``LICENCE (WHAT)``.
        licences: all of them, each with what it covers.
    """

    name: str
    student: Student
    front_end: Extractor
    classes: tuple[str, ...]
    single_label: bool
    clip_s: float
    thresholds: tuple[float, ...] | None
    licence: str
    licences: tuple[tuple[str, str], ...]
    device: str

    @torch.inference_mode()
    def score(self, clips: Sequence[tuple[Samples, int]]) -> NDArray[np.float32]:
        """Probabilities of clips.

        Args:
            clips: mono samples of at most ``clip_s`` seconds, each with its own rate in Hz.

        Shape:
            result: [clips, classes].
        """
        rate_hz = self.front_end.card.rate_hz
        length = n_samples(self.clip_s, rate_hz)
        fitted = [fit_clip(resample(samples, own_hz, rate_hz), length) for samples, own_hz in clips]
        audio = torch.from_numpy(np.stack([samples for samples, _ in fitted])).to(self.device)
        n_valid = torch.tensor([n for _, n in fitted], dtype=torch.int64, device=self.device)
        mel = self.front_end(audio, n_valid)[self.front_end.outputs[0]]
        logits = self.student(mel.features, mel.n_frames).logits.float()
        scores = torch.softmax(logits, 1) if self.single_label else torch.sigmoid(logits)
        return np.asarray(scores.cpu().numpy(), dtype=np.float32)


def load_tagger(folder: Path, *, device: str = "cpu") -> Tagger:
    """Load a student from its run folder.

    Raises:
        RunError: no finished student there, or one whose front end is not the registered one.
    """
    if not (folder / CARD_NAME).is_file():
        raise RunError(f"{folder} has no {CARD_NAME}: it is not a finished student. Probes cannot tag files.")
    about = read_json(folder / CARD_NAME)
    _require(folder, about)
    card = _front_end_card(folder, about["front_end"])
    student, _ = load_student(folder)
    return Tagger(
        name=folder.resolve().name,
        student=student.to(device),
        front_end=build_extractor(card, device=device),
        classes=tuple(about["classes"]),
        single_label=about["task"] == "single-label",
        clip_s=float(about["clip_s"]),
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
