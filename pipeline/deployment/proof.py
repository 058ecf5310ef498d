"""An exported model held against PyTorch on signals that have broken exports before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.audio.timing import n_samples
from pipeline.deployment.onnx_tagger import run_session
from pipeline.deployment.tagger import StudentTagger
from pipeline.deployment.waveform import shortest_input
from pipeline.errors import EastError

__all__ = ["LOGIT_TOLERANCE", "TOLERANCE", "Proof", "difference", "prove", "signals"]

#: Largest difference of a score, and of a logit relative to its size where that is above 1: scores are
#: what is used, and empty bands of pure tones show the rounding of any float32 spectrum tenfold in logits.
TOLERANCE, LOGIT_TOLERANCE = 1e-4, 1e-3
_LONG_CLIPS = 6.3


@dataclass(frozen=True)
class Proof:
    """What the check found: the largest difference of a score, and on which of how many signals."""

    largest: float
    signal: str
    n_signals: int


def prove(session: Any, tagger: StudentTagger, name: str) -> Proof:
    """Compare scores and logits of an ONNX session and PyTorch.

    Raises:
        EastError: they differ by more than the tolerances, or are not finite.
    """
    worst, where, n_signals = 0.0, "", 0
    for signal, audio in signals(tagger.rate_hz, tagger.clip_s):
        n_signals += 1
        of_scores, of_logits = difference(session, tagger, audio)
        if not (of_scores <= TOLERANCE and of_logits <= LOGIT_TOLERANCE):
            raise EastError(
                f"{name} is not written: on {signal} ({audio.shape[1]:,} samples) the exported student differs from "
                f"PyTorch by {of_scores:.2g} in scores, {of_logits:.2g} in logits; the limits are {TOLERANCE:g} and "
                f"{LOGIT_TOLERANCE:g}. Weights that are not finite cause this, and students that depend on more than "
                "shapes and samples."
            )
        if of_scores >= worst:
            worst, where = of_scores, signal
    return Proof(worst, where, n_signals)


def difference(session: Any, tagger: StudentTagger, audio: NDArray[np.float32]) -> tuple[float, float]:
    """Largest difference of scores and of logits; NaN where a number is none."""
    scores, logits = run_session(session, audio)
    shortest = shortest_input(tagger.front_end)
    heard = np.pad(audio, ((0, 0), (0, max(0, shortest - audio.shape[1]))))
    expected = tagger.logits(torch.from_numpy(heard)).double()
    wanted = (torch.softmax(expected, 1) if tagger.single_label else torch.sigmoid(expected)).numpy()
    size = np.maximum(1.0, np.abs(expected.numpy()))
    return float(np.abs(scores - wanted).max()), float((np.abs(logits - expected.numpy()) / size).max())


def signals(rate_hz: int, clip_s: float) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Names and waveforms, [batch, samples]; all within -1 and 1."""
    n = n_samples(clip_s, rate_hz)
    rng = np.random.default_rng(0)
    noise = rng.uniform(-1, 1, (2, n))
    time = np.arange(n) / rate_hz
    tone = 0.5 * np.sin(2 * np.pi * 440 * time) + 0.2 * np.sin(2 * np.pi * 1317 * time + 1)
    click = np.zeros(n)
    click[n // 2] = 1
    long = rng.normal(0, 0.1, round(_LONG_CLIPS * n) + 7).clip(-1, 1)
    whole: dict[str, NDArray[np.float64]] = {
        "digital silence": np.zeros(n),
        "a full-scale square wave": np.where(time * 220 % 1 < 0.5, 1.0, -1.0),
        "full-scale alternating samples": np.where(np.arange(n) % 2, 1.0, -1.0),
        "a constant": np.ones(n),
        "two clips of noise": noise,
        "a chord": tone,
        "a click": click,
        "subnormal samples": np.where(np.arange(n) % 2, 1e-40, -1e-40),
        "near-silence": 1e-7 * noise[0],
        "one sample": np.ones(1),
        "less than a window": noise[0, :200],
        "one sample less than a clip": noise[1, : n - 1],
        "many clips in one": long,
    }
    for name, audio in whole.items():
        yield name, np.atleast_2d(audio).astype(np.float32)
