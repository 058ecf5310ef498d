"""What a plug-in may bring, for tests: fake teachers, and decoders that go wrong.

Set ``EAST_PLUGINS=plugins`` (``tests/`` is on the path) to have them found in this process and in
its workers.  The teachers' numbers have known answers: level and peak of every 100 ms, per clip or
per frame.  ``fake-slow`` sleeps, ``fake-big`` gives values that float16 cannot hold, ``fake-nan``
gives none, ``fake-drift`` gives other numbers when the environment says so, ``fake-leaky`` mixes
the clips of a batch, ``fake-weighty`` reads its factor from a file, the numbers of ``fake-sized``
depend on how many clips a batch has.  Where ``FAKE_LOG`` names a file, every teacher adds a line to
it for each signal that it begins to compute.
"""

from __future__ import annotations

import hashlib
import io
import os
import signal
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.audio.extractor import Extractor, Frames, Mode, mask_frames
from pipeline.audio.sources import SoundFileSource, Source
from pipeline.cards import ExtractorCard, OutputCard, WeightsCard

RATE_HZ, HOP = 8_000, 800
OUTPUTS = (OutputCard("frames", 6, 0.1, 0.1), OutputCard("clip", 2, 0.0, 0.0))


class FakeTeacher(Extractor):
    """Level and peak of every 100 ms, times a factor, and a few more channels made from them."""

    def __init__(self, card: ExtractorCard, outputs: tuple[str, ...], mode: Mode) -> None:
        super().__init__()
        self.card, self.outputs, self.mode = card, outputs, mode
        self.factor, self.sleep_s = float(card.parameters["factor"] or 0.0), float(card.parameters["sleep_s"] or 0.0)
        self.register_buffer("weights", torch.linspace(-1.0, 1.0, 12).reshape(2, 6), persistent=False)

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        log_signals(audio)
        time.sleep(self.sleep_s * len(audio))
        usable = audio[:, : audio.shape[1] // HOP * HOP].reshape(len(audio), -1, HOP)
        base = torch.stack([usable.square().mean(-1).sqrt(), usable.abs().amax(-1)], -1) * self.factor
        if self.card.name == "fake-nan":
            base = base / 0.0 - base / 0.0
        if self.card.name == "fake-drift":
            base = base * float(os.environ.get("FAKE_DRIFT", "1.0"))
        if self.card.name == "fake-leaky" and len(base) > 1:
            base = base / (1.0 + base.amax())
        if self.card.name == "fake-sized":
            base = base * (1.0 + len(base) / 64)
        n_frames = n_valid // HOP
        frames = mask_frames(base @ self.weights.to(base.device), n_frames)
        total = mask_frames(base, n_frames).features.sum(1, keepdim=True)
        clip = Frames(total / n_frames.clamp(min=1)[:, None, None], (n_frames > 0).long())
        return {name: value for name, value in {"frames": frames, "clip": clip}.items() if name in self.outputs}

    def count_frames(self, output: str, n_samples: int) -> int:
        return n_samples // HOP if output == "frames" else int(n_samples >= HOP)


def log_signals(audio: Tensor) -> None:
    """One short line per signal, in one write, so that processes do not mix their lines."""
    if not (place := os.environ.get("FAKE_LOG")):
        return
    lines = "".join(f"{signal_key(row)}\n" for row in audio.cpu().numpy())
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, lines.encode())
    finally:
        os.close(handle)


def signal_key(samples: NDArray[np.float32]) -> str:
    """What a signal is called in the log: the CRC-32 of its samples, eight digits."""
    return f"{zlib.crc32(np.ascontiguousarray(samples)):08x}"


def fake_card(name: str, *, factor: float = 1.0, sleep_s: float = 0.0, licence: str = "none") -> ExtractorCard:
    return ExtractorCard(
        name=name,
        version=1,
        kind="teacher",
        summary="for tests",
        builder="plugins:build",
        rate_hz=RATE_HZ,
        outputs=OUTPUTS,
        default_outputs=("frames", "clip"),
        parameters={"factor": factor, "sleep_s": sleep_s},
        licence_weights=licence,
        min_s=HOP / RATE_HZ,
        batch_clips=4,
    )


def weights_bytes(factor: float = 0.5) -> bytes:
    """The file of weights of ``fake-weighty``; 0.5 gives the one that its card describes."""
    buffer = io.BytesIO()
    np.save(buffer, np.float64(factor))
    return buffer.getvalue()


WEIGHTS = WeightsCard(
    name="fake-weighty",
    filename="factor.npy",
    n_bytes=len(weights_bytes()),
    sha256=hashlib.sha256(weights_bytes()).hexdigest(),
    sources=(),
    licence="none",
    citation="",
)


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> FakeTeacher:
    assert len(weights) == len(card.weights)
    teacher = FakeTeacher(card, outputs, mode)
    if weights:
        teacher.factor = float(np.load(weights[0]))
    return teacher


CARDS = (
    fake_card("fake"),
    fake_card("fake-slow", sleep_s=0.04),
    fake_card("fake-steady", sleep_s=0.02),
    fake_card("fake-big", factor=3e5),
    fake_card("fake-nan"),
    fake_card("fake-drift"),
    fake_card("fake-leaky"),
    fake_card("fake-sized"),
    fake_card("fake-nc", licence="CC-BY-NC-4.0"),
    replace(fake_card("fake-weighty"), weights=(WEIGHTS,)),
)


class KillerSource(SoundFileSource):
    """A decoder that takes its process with it."""

    def read(self, n: int) -> NDArray[np.float32]:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().read(n)


class OddSource(SoundFileSource):
    """A decoder with a bug."""

    def read(self, n: int) -> NDArray[np.float32]:
        raise RuntimeError("buffer of /home/somebody/music.odd is odd")


def _killer(path: Path | str) -> Source:
    return KillerSource(path)


def _odd(path: Path | str) -> Source:
    return OddSource(path)


DECODERS = {".killer": _killer, ".odd": _odd}
