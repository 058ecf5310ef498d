"""What embeds audio for HEAR: a teacher, or a student behind its front end."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline import registry
from pipeline.audio.extractor import Extractor, Frames, Mode, build_extractor
from pipeline.cards import ExtractorCard, OutputCard
from pipeline.deployment.tagger import load_tagger
from pipeline.distillation.students.contract import Student, pool_time
from pipeline.errors import SettingError
from pipeline.events import Event, Warned
from pipeline.weights import fetch_all
from pipeline.weights.models import fetch_model

_PROBE_FRAMES = 512


@dataclass(frozen=True)
class Series:
    """A series of embeddings: its name, channels, and frame ``k`` centred at ``centre_s + k * hop_s``.

    ``hop_s`` is 0 where there is one frame for the whole audio; ``window_s`` is what a frame covers.
    """

    name: str
    channels: int
    hop_s: float
    centre_s: float = 0.0
    window_s: float = 0.0


class Encoder(nn.Module, ABC):
    """What a teacher and a student have in common.

    Attributes:
        rate_hz: rate of the audio it takes.
        batch_clips: clips of 10 s that it takes at once.
        timestamps, scene: where the two kinds of embeddings come from.
    """

    rate_hz: int
    batch_clips: int
    timestamps: Series
    scene: Series

    @abstractmethod
    def encode(self, audio: Tensor, n_valid: Tensor, name: str) -> Frames:
        """The series of that name: [batch, samples] -> [batch, frames, channels]."""


class TeacherEncoder(Encoder):
    """A teacher. Its outputs serve as the two kinds of embeddings.

    Args:
        timestamps: the output for timestamps; the one with the shortest hop if empty, a default
            output before others.
        scene: the output for scenes; one per clip if there is one, else the first default output.

    Raises:
        SettingError: no such output, or one without a time axis for timestamps.
    """

    def __init__(self, extractor: Extractor, timestamps: str = "", scene: str = "") -> None:
        super().__init__()
        card = extractor.card
        self.extractor, self.rate_hz, self.batch_clips = extractor, card.rate_hz, card.batch_clips
        at_times, of_scene = choose_outputs(card, timestamps, scene)
        self.timestamps, self.scene = _series(at_times), _series(of_scene)

    def encode(self, audio: Tensor, n_valid: Tensor, name: str) -> Frames:
        """See :meth:`Encoder.encode`; layers that only serve the other output do not run."""
        self.extractor.outputs = (name,)
        made: dict[str, Frames] = self.extractor(audio, n_valid)
        return made[name]


def choose_outputs(card: ExtractorCard, timestamps: str = "", scene: str = "") -> tuple[OutputCard, OutputCard]:
    """A teacher's outputs for timestamps and for scenes, as :class:`TeacherEncoder` says.

    Raises:
        SettingError: no such output, or one without a time axis for timestamps.
    """
    ordered = sorted(card.outputs, key=lambda output: output.name not in card.default_outputs)
    known = {output.name: output for output in ordered}
    for name in filter(None, (timestamps, scene)):
        if name not in known:
            raise SettingError(f"{card.name} has no output {name!r}, only {', '.join(known)}.")
    timed = [output for output in ordered if output.hop_s and output.name == (timestamps or output.name)]
    if not timed:
        raise SettingError(f"{card.name}: {timestamps or 'no output'} has no time axis, which timestamps need.")
    whole = [output for output in ordered if not output.hop_s]
    return min(timed, key=lambda output: output.hop_s), known[scene] if scene else (whole or ordered)[0]


def _series(output: OutputCard) -> Series:
    centre_s = output.offset_s + output.window_s / 2
    return Series(output.name, output.channels, output.hop_s, centre_s if output.hop_s else 0.0, output.window_s)


def load_teacher(
    name: str, *, mode: Mode = "fast", local: Path | None = None, timestamps: str = "", scene: str = ""
) -> TeacherEncoder:
    """A teacher by name, settings and all, its weights fetched and verified.

    Args:
        local: a file of weights, or a folder that holds them, in place of the fetched ones.

    Raises:
        SettingError: no such teacher or output.
        WeightsError: the weights are not to be had, or not the right ones.
    """
    card = registry.find_teacher(name)
    if local is not None and not card.weights:
        raise SettingError(f"{card.name} takes no file of weights; give its folder as the model, {name}:FOLDER.")
    at_times, of_scene = choose_outputs(card, timestamps, scene)
    if card.subject:
        files = fetch_model(registry.subject_of(name), listener=_warn)
    else:
        files = fetch_all(card.weights, local=local, listener=_warn)
    outputs = tuple(dict.fromkeys((at_times.name, of_scene.name)))
    extractor = build_extractor(card, outputs=outputs, mode=mode, weights=files)
    return TeacherEncoder(extractor, at_times.name, of_scene.name)


def _warn(event: Event) -> None:
    if isinstance(event, Warned):
        warnings.warn(event.text, stacklevel=2)


class StudentEncoder(Encoder):
    """A student behind its front end.

    ``stage``: the features after its last stage.  ``embedding``: what its last linear layer reads
    before it gives the classes; of a student without one, mean and maximum of ``stage`` over time.
    """

    def __init__(self, front_end: Extractor, student: Student) -> None:
        super().__init__()
        card = front_end.card
        self.front_end, self.student = front_end, student
        self.rate_hz, self.batch_clips = card.rate_hz, card.batch_clips
        (mel,) = card.outputs
        self.classifier = _classifier(student)
        stage, embedding = self._sizes(mel.channels)
        stride, offset, field = frame_grid(student, mel.channels)
        centre_s = mel.offset_s + mel.window_s / 2 + offset * mel.hop_s
        self.timestamps = Series("stage", stage, stride * mel.hop_s, centre_s, field * mel.hop_s)
        self.scene = Series("embedding", embedding, 0.0)

    def encode(self, audio: Tensor, n_valid: Tensor, name: str) -> Frames:
        """See :meth:`Encoder.encode`; audio too short for the front end is followed by silence."""
        card = self.front_end.card
        shortest = math.ceil(card.min_s * card.rate_hz - 1e-6)
        padded = F.pad(audio, (0, max(0, shortest - audio.shape[1])))
        (mel,) = self.front_end(padded, n_valid.clamp(min=shortest)).values()
        with torch.inference_mode():
            stage, embedding = self._run(mel.features, mel.n_frames)
        return stage if name == "stage" else Frames(embedding[:, None], torch.ones_like(n_valid))

    def _run(self, mel: Tensor, n_frames: Tensor) -> tuple[Frames, Tensor]:
        read: list[Tensor] = []
        hook = self.classifier.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        try:
            stage = self.student(mel, n_frames).stages[-1]
        finally:
            hook.remove()
        if read and read[-1].dim() == 2:
            return stage, read[-1]
        return stage, pool_time(stage.features, stage.n_frames)

    def _sizes(self, n_mels: int) -> tuple[int, int]:
        with torch.inference_mode():
            stage, embedding = self._run(torch.zeros(1, _PROBE_FRAMES, n_mels), torch.tensor([_PROBE_FRAMES]))
        return stage.features.shape[2], embedding.shape[1]


def load_student_encoder(folder: Path) -> StudentEncoder:
    """The student of a run folder.

    Raises:
        RunError: no finished student there.
    """
    tagger = load_tagger(folder)
    return StudentEncoder(tagger.front_end, tagger.student)


def frame_grid(student: Student, n_mels: int) -> tuple[float, float, float]:
    """Where the frames of a student's last stage lie, in mel frames: stride, centre of frame 0, reach.

    A frame's reach is found with a gradient: the mel frames that it depends on; its centre is in
    their middle.  Where every frame depends on the whole clip, frames are taken to be spread evenly.
    """
    mel = torch.randn(1, _PROBE_FRAMES, n_mels, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with torch.enable_grad():
        stage = student(mel, torch.tensor([_PROBE_FRAMES])).stages[-1]
        n_frames = int(stage.n_frames[0])
        chosen = (n_frames // 3, 2 * n_frames // 3)
        spans = [_span(stage.features[0, frame].square().sum(), mel) for frame in chosen]
    (low, high), (later_low, later_high) = spans
    stride = (later_low + later_high - low - high) / 2 / max(1, chosen[1] - chosen[0])
    if low == 0 or later_high == _PROBE_FRAMES - 1 or stride <= 0:
        stride = _PROBE_FRAMES / n_frames
        return stride, (stride - 1) / 2, float(_PROBE_FRAMES)
    return stride, (low + high) / 2 - chosen[0] * stride, high - low + 1.0


def _span(value: Tensor, mel: Tensor) -> tuple[int, int]:
    """First and last mel frame that a value depends on."""
    (gradient,) = torch.autograd.grad(value, mel, retain_graph=True)
    touched = gradient[0].abs().sum(1).nonzero().flatten()
    return (int(touched[0]), int(touched[-1])) if len(touched) else (0, mel.shape[1] - 1)


def _classifier(student: Student) -> nn.Module:
    """The last linear layer that gives the classes; the student itself where there is none."""
    n_classes = student.arguments["n_classes"]
    layers = [m for m in student.modules() if isinstance(m, nn.Linear) and m.out_features == n_classes]
    return layers[-1] if layers else student
