"""A student with its front end inside, waveform in and scores out, made of operations that export.

The spectrum is a discrete Fourier transform in two steps of small matrix products (J. W. Cooley and
J. W. Tukey 1965): a tenth of the work of one large matrix, nothing complex, and the same operations
on every device and in every runtime.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.audio.extractor import Extractor
from pipeline.audio.mel import LogMel
from pipeline.distillation.students.contract import Student
from pipeline.errors import SettingError

__all__ = ["ExportableMel", "TwoStepPower", "WaveformOutput", "WaveformStudent", "shortest_input"]


class WaveformOutput(NamedTuple):
    """What comes out for a batch.

    Shape:
        scores: [batch, classes], probabilities.
        logits: [batch, classes], what the sigmoid or softmax is taken of.
    """

    scores: Tensor
    logits: Tensor


class WaveformStudent(nn.Module):
    """Front end, student, and sigmoid or softmax, as one network.

    All samples count as real: frames follow from the length.  Audio too short for one spectrum is
    followed by silence.

    Raises:
        SettingError: the front end is no log-mel one.
    """

    def __init__(self, front_end: Extractor, student: Student, *, single_label: bool) -> None:
        super().__init__()
        if not isinstance(front_end, LogMel):
            raise SettingError(
                f"The front end {front_end.card.name!r} is a {type(front_end).__name__}; log-mel front ends alone can "
                "be exported."
            )
        self.mel = ExportableMel(front_end)
        self.student, self.single_label = student, single_label

    def forward(self, waveform: Tensor) -> WaveformOutput:
        """[batch, samples] float32 in [-1, 1] at the front end's rate to scores and logits."""
        mel = self.mel(waveform)
        n_frames = torch.full((mel.shape[0],), mel.shape[1], dtype=torch.int64, device=mel.device)
        logits = self.student(mel, n_frames).logits
        return WaveformOutput(torch.softmax(logits, 1) if self.single_label else torch.sigmoid(logits), logits)


class ExportableMel(nn.Module):
    """The frames of a :class:`LogMel`, from tensors of any length, without a complex number."""

    def __init__(self, front_end: LogMel) -> None:
        super().__init__()
        self.n_fft, self.hop = front_end.n_fft, front_end.hop
        self.preemphasis = front_end.preemphasis
        self.log_offset, self.shift, self.scale = front_end.log_offset, front_end.shift, front_end.scale
        self.shortest = shortest_input(front_end)
        self.power = TwoStepPower(front_end)

    def forward(self, waveform: Tensor) -> Tensor:
        """[batch, samples] to [batch, frames, bands]."""
        missing = torch.sym_max(self.shortest - waveform.shape[1], 0)  # type: ignore[no-untyped-call]
        audio = nn.functional.pad(waveform, (0, missing))
        if self.preemphasis:
            audio = audio[:, 1:] - self.preemphasis * audio[:, :-1]
        half = self.n_fft // 2
        audio = nn.functional.pad(audio[:, None], (half, half), mode="reflect")[:, 0]
        mel = self.power(self._frames(audio))
        return (torch.log(mel + self.log_offset) + self.shift) / self.scale

    def _frames(self, audio: Tensor) -> Tensor:
        """Overlapping windows, [batch, samples] to [batch, frames, n_fft], from slices of whole blocks."""
        block = math.gcd(self.n_fft, self.hop)
        per_frame, per_hop = self.n_fft // block, self.hop // block
        n_frames = 1 + (audio.shape[1] - self.n_fft) // self.hop
        n_blocks = (n_frames - 1) * per_hop + per_frame
        blocks = audio[:, : n_blocks * block].reshape(audio.shape[0], n_blocks, block)
        last = (n_frames - 1) * per_hop + 1
        return torch.cat([blocks[:, k : k + last : per_hop] for k in range(per_frame)], dim=2)


class TwoStepPower(nn.Module):
    """Windowed frames to mel power: [batch, frames, n_fft] to [batch, frames, bands].

    With ``n_fft = rows * columns``, sample ``n = columns * i + j`` and bin ``k = p + rows * q``:
    ``X[k] = sum_j W_n_fft^(j p) W_columns^(j q) sum_i x[n] W_rows^(i p)``, where ``W_m = exp(-2 pi
    i / m)``.  Of a real signal, ``p`` up to ``rows / 2`` gives every bin up to the Nyquist frequency
    once, itself or mirrored; the rows of the mel filters are put in that order.
    """

    window: Tensor
    first: Tensor
    twiddle: Tensor
    second: Tensor
    filters: Tensor

    def __init__(self, front_end: LogMel) -> None:
        super().__init__()
        n_fft = front_end.n_fft
        rows = max(d for d in range(1, math.isqrt(n_fft) + 1) if n_fft % d == 0)
        self.rows, self.columns, self.kept = rows, n_fft // rows, rows // 2 + 1
        before = (n_fft - front_end.n_window) // 2
        window = torch.zeros(n_fft)
        window[before : before + front_end.n_window] = front_end.window
        self.register_buffer("window", window.reshape(rows, self.columns))
        self.register_buffer("first", self._first())
        p, j = torch.arange(self.kept), torch.arange(self.columns)
        self.register_buffer("twiddle", torch.stack(_cos_sin(p[:, None] * j, n_fft), 1)[None, None])
        self.register_buffer("second", self._second())
        self.register_buffer("filters", self._filters(front_end.filters, n_fft))

    def forward(self, frames: Tensor) -> Tensor:
        """See the class."""
        batch, n_frames = frames.shape[0], frames.shape[1]
        x = frames.reshape(batch, n_frames, self.rows, self.columns) * self.window
        x = torch.matmul(self.first, x).reshape(batch, n_frames, self.kept, 2, self.columns)
        x_re, x_im = x[:, :, :, 0], x[:, :, :, 1]
        w_re, w_im = self.twiddle[:, :, :, 0], self.twiddle[:, :, :, 1]
        turned = torch.cat([x_re * w_re - x_im * w_im, x_re * w_im + x_im * w_re], dim=3)
        parts = torch.matmul(turned, self.second)
        power = parts[..., : self.columns].square() + parts[..., self.columns :].square()
        return torch.matmul(power.reshape(batch, n_frames, self.kept * self.columns), self.filters)

    def _first(self) -> Tensor:
        """[2 * kept, rows]: real and imaginary part of each bin in turn."""
        p, i = torch.arange(self.kept), torch.arange(self.rows)
        return torch.stack(_cos_sin(p[:, None] * i, self.rows), 1).reshape(2 * self.kept, self.rows)

    def _second(self) -> Tensor:
        """[2 * columns, 2 * columns]: a complex product as a real one."""
        j = torch.arange(self.columns)
        re, im = _cos_sin(j[:, None] * j, self.columns)
        return torch.cat([torch.cat([re, im], 1), torch.cat([-im, re], 1)])

    def _filters(self, filters: Tensor, n_fft: int) -> Tensor:
        """[kept * columns, bands], a bin that comes twice counted once."""
        placed = torch.zeros(self.kept * self.columns, filters.shape[0])
        seen: set[int] = set()
        for row in range(len(placed)):
            p, q = divmod(row, self.columns)
            k = min(p + self.rows * q, n_fft - p - self.rows * q)
            if k not in seen:
                placed[row] = filters[:, k]
            seen.add(k)
        return placed


def shortest_input(front_end: Extractor) -> int:
    """Samples that one spectrum takes; shorter audio is followed by silence up to there."""
    return math.ceil(front_end.card.min_s * front_end.card.rate_hz - 1e-6)


def _cos_sin(steps: Tensor, period: int) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of ``exp(-2 pi i steps / period)``, rounded to float32 once."""
    angle = (steps % period).double() * (-2 * torch.pi / period)
    return angle.cos().float(), angle.sin().float()
