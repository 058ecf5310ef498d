"""MusiCNN as an extractor: log-mel, patches, pools, penultimate layer, tags, frame features."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.audio.extractor import Extractor, Frames, Mode, mask_frames
from pipeline.cards import ExtractorCard
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.musicnn.card import HOP, PATCH_FRAMES, PATCH_HOP_FRAMES
from pipeline.extraction.teachers.musicnn.fast_network import FastNetwork
from pipeline.extraction.teachers.musicnn.front_end import LogMel
from pipeline.extraction.teachers.musicnn.layers import Layers, read_layers
from pipeline.extraction.teachers.musicnn.network import ExactNetwork

_PER_PATCH = {"pools", "penultimate", "taggram"}


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> Musicnn:
    """MusiCNN from the two files of its checkpoint, ``.index`` and ``.data``.

    Raises:
        WeightsError: not these two files, or not a MusiCNN checkpoint.
    """
    if len(weights) != 2:
        names = ", ".join(weight.filename for weight in card.weights)
        raise WeightsError(f"{card.name} takes 2 files of weights ({names}), not {len(weights)}.")
    return Musicnn(card, outputs=outputs, mode=mode, layers=read_layers(*weights))


class Musicnn(Extractor):
    """MusiCNN with any layers of its architecture.

    Patches are those that lie within a clip.  A clip shorter than one patch gives one, with silence
    after it; nothing else depends on what comes after a clip's end.
    """

    def __init__(self, card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, layers: Layers) -> None:
        super().__init__()
        self.card, self.outputs, self.mode = card, outputs, mode
        self.front_end = LogMel(half_cast=mode == "exact")
        self.network: ExactNetwork | FastNetwork
        if mode == "exact":
            self.network = ExactNetwork(layers)
        else:
            self.network = FastNetwork(layers, dtype=torch.bfloat16 if mode == "half" else torch.float32)

    def count_frames(self, output: str, n_samples: int) -> int:
        """Mel frames, or whole patches among them and at least one."""
        if n_samples <= 0:
            return 0
        n_mel = 1 + n_samples // HOP
        return max(1, 1 + (n_mel - PATCH_FRAMES) // PATCH_HOP_FRAMES) if output in _PER_PATCH else n_mel

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        """See :class:`~pipeline.audio.extractor.Extractor`."""
        logmel = F.pad(self.front_end(audio), (0, 0, 0, max(0, PATCH_FRAMES - 1 - audio.shape[1] // HOP)))
        at = torch.arange(logmel.shape[1], device=logmel.device)
        keep = (at < self._counts("frames", n_valid)[:, None])[:, :, None].to(logmel.dtype)
        logmel *= keep  # silence is zero in this log-mel
        made: dict[str, Tensor] = {}
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            if _PER_PATCH & set(self.outputs):
                made |= self._of_patches(logmel, self.count_frames("pools", audio.shape[1]))
            if "frames" in self.outputs:
                n_frames = self.count_frames("frames", audio.shape[1])
                made["frames"] = self.network.features(logmel, keep)[:, :n_frames]
        return {name: mask_frames(made[name], self._counts(name, n_valid)) for name in self.outputs}

    def _counts(self, output: str, n_valid: Tensor) -> Tensor:
        counts = [self.count_frames(output, n_samples) for n_samples in n_valid.tolist()]
        return torch.tensor(counts, dtype=torch.int64, device=n_valid.device)

    def _of_patches(self, logmel: Tensor, n_patches: int) -> dict[str, Tensor]:
        pools = self.network.pools(logmel, n_patches)
        penultimate = self.network.head.penultimate(pools)
        return {"pools": pools, "penultimate": penultimate, "taggram": self.network.head.taggram(penultimate)}
