"""The forward passes of a preflight, made once and shared by its checks."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from pipeline.audio.extractor import Extractor, Frames
from pipeline.extraction.preflight import signals

REARRANGED = ((6, 4, 1), (5,), (7, 2, 3, 0))
"""The rows of the large batch again: three clips, one, four, in another order."""

ALONE = (0, 2, 4, 6)
PADDED = (4, 5)


@dataclass(frozen=True, eq=False)
class Pass:
    """One forward pass: what went in, and what came out, on the CPU.

    ``rows`` are the clips' rows in the large batch, empty where the audio is of its own.
    """

    audio: Tensor
    n_valid: Tensor
    frames: dict[str, Frames]
    rows: tuple[int, ...]
    changed_input: bool
    tracks_gradients: bool


@dataclass(eq=False)
class Passes:
    """All passes by kind, and why the passes of a kind ended early."""

    extractor: Extractor
    device: str
    made: dict[str, list[Pass]] = field(default_factory=dict)
    crashes: dict[str, str] = field(default_factory=dict)
    changed_state: tuple[str, ...] = ()

    def all(self) -> list[Pass]:
        """Every pass that ended."""
        return [one for some in self.made.values() for one in some]

    @property
    def together(self) -> Pass:
        """The pass of the large batch."""
        return self.made["runs"][0]

    def scale(self, output: str) -> float:
        """Largest finite magnitude of an output in the large batch."""
        values = self.together.frames[output].features.double().abs()
        return float(torch.where(torch.isfinite(values), values, 0.0).amax()) if values.numel() else 0.0


def run_passes(extractor: Extractor, *, clip_s: float, device: str) -> Passes:
    """Run all passes; an error of the extractor is kept as what it is, a finding.

    The kinds are named as the checks that read them.  The large batch comes first and, for
    ``deterministic``, once more at the end, so that anything carried from pass to pass shows.
    """
    card, passes = extractor.card, Passes(extractor, device)
    before = _digests(extractor)
    width = max(signals.shortest(card), round(clip_s * card.rate_hz))
    audio, n_valid = signals.together(card, width)
    everyone = tuple(range(len(n_valid)))

    def run(kind: str, audio: Tensor, n_valid: Tensor, rows: tuple[int, ...] = ()) -> None:
        if kind not in passes.crashes:
            try:
                passes.made.setdefault(kind, []).append(_run(extractor, audio, n_valid, rows, device))
            except Exception as error:  # whatever a teacher's code raises is what a preflight is for
                seconds = audio.shape[1] / card.rate_hz
                reason = (str(error).strip() or "no message").splitlines()[0][:300]
                passes.crashes[kind] = f"{len(audio)} x {seconds:.4g} s: {type(error).__name__}: {reason}"

    run("runs", audio, n_valid, everyone)
    if "runs" not in passes.crashes:
        for rows in (*REARRANGED, *((row,) for row in ALONE)):
            run("batch", audio[list(rows)], n_valid[list(rows)], rows)
        if card.kind == "teacher":
            _run_padded(run, audio, n_valid)
        _run_lengths(run, extractor, clip_s)
        run("deterministic", audio, n_valid, everyone)
    after = _digests(extractor)
    passes.changed_state = tuple(name for name, digest in before.items() if after.get(name) != digest)
    return passes


def _run_padded(run: Callable[..., None], audio: Tensor, n_valid: Tensor) -> None:
    """Short clips alone with no padding behind them, with as much as in the batch, and with more."""
    for row in PADDED:
        clip, n = audio[row : row + 1], n_valid[row : row + 1]
        more = torch.nn.functional.pad(clip, (0, audio.shape[1] // 3 + 17))
        for padded in (clip, clip[:, : int(n)], more):
            run("padding", padded, n, (row,))


def _run_lengths(run: Callable[..., None], extractor: Extractor, clip_s: float) -> None:
    card = extractor.card
    low, rate_hz = signals.shortest(card), card.rate_hz
    n = max(low, rate_hz)
    run("finite", *signals.batch(signals.EXTREMES, [n] * len(signals.EXTREMES), n, rate_hz))
    if card.kind == "teacher":
        run("shortest", *signals.batch(["dc"], [1], 1, rate_hz))
    run("shortest", *signals.batch(["noise"], [low], low, rate_hz))
    run("frames", *signals.ragged(card, clip_s))
    if card.max_s:
        n = round(1.1 * card.max_s * rate_hz) + 1
        run("longest", *signals.batch(["chord"], [n], n, rate_hz))


def _run(extractor: Extractor, audio: Tensor, n_valid: Tensor, rows: tuple[int, ...], device: str) -> Pass:
    given, counts = audio.clone().to(device), n_valid.clone().to(device)
    found: Any = extractor(given, counts)
    if not isinstance(found, dict) or not all(isinstance(value, tuple) and len(value) == 2 for value in found.values()):
        raise TypeError("extract must return a dict of Frames(features, n_frames)")
    for name, (features, n_frames) in found.items():
        if features.ndim != 3 or len(features) != len(audio) or n_frames.shape != (len(audio),):
            raise TypeError(
                f"{name} has features {list(features.shape)} and n_frames {list(n_frames.shape)} for {len(audio)} "
                "clips; they must be [batch, frames, channels] and [batch]"
            )
    return Pass(
        audio=audio,
        n_valid=n_valid,
        frames={name: Frames(*(tensor.detach().cpu() for tensor in frames)) for name, frames in found.items()},
        rows=rows,
        changed_input=not torch.equal(given.cpu(), audio) or not torch.equal(counts.cpu(), n_valid),
        tracks_gradients=any(frames[0].requires_grad for frames in found.values()),
    )


def _digests(extractor: Extractor) -> dict[str, int]:
    """A checksum of every parameter and buffer; no copy of a large network is kept."""
    tensors = [*extractor.named_parameters(), *extractor.named_buffers()]
    return {name: _checksum(tensor.detach()) for name, tensor in tensors}


def _checksum(tensor: Tensor) -> int:
    dense = tensor.to_dense() if tensor.layout != torch.strided else tensor
    dense = torch.view_as_real(dense) if dense.is_complex() else dense
    return zlib.crc32(dense.cpu().reshape(-1).contiguous().view(torch.uint8).numpy().data)
