"""One embedding per window of a clip instead of one per clip."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """Window ``k`` begins at ``k * hop``, in samples.

    There is one where at least half of it lies within the clip, padded with silence; a clip of any
    length has the first.
    """

    length: int
    hop: int

    def count(self, n_samples: int) -> int:
        """Windows of a clip."""
        return 1 + max(0, n_samples - self._half) // self.hop if n_samples > 0 else 0

    def counts(self, n_valid: Tensor) -> Tensor:
        """:meth:`count` of each clip."""
        return (1 + (n_valid - self._half).clamp(min=0) // self.hop) * (n_valid > 0)

    def view(self, audio: Tensor) -> Tensor:
        """All windows, without a copy of each: [clip, samples] -> [clip, window, length]."""
        last = (max(1, self.count(audio.shape[1])) - 1) * self.hop
        return F.pad(audio, (0, max(0, last + self.length - audio.shape[1]))).unfold(1, self.length, self.hop)

    @property
    def _half(self) -> int:
        return -(-self.length // 2)
