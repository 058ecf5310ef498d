"""The VGG of the musicnn package as an extractor: last pool, means of all pools, tags, frame features."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.audio.extractor import Extractor, Frames, Mode, mask_frames
from pipeline.cards import ExtractorCard
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.musicnn.card import FRAMES_SHORTEST, HOP, PATCH_FRAMES, PATCH_HOP_FRAMES
from pipeline.extraction.teachers.musicnn.front_end import LogMel
from pipeline.extraction.teachers.musicnn.vgg import Vgg, pooled_length
from pipeline.extraction.teachers.musicnn.vgg_layers import VggLayers, read_vgg_layers

_PER_PATCH = {"pool5", "layers", "taggram"}


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> MusicnnVgg:
    """The network from the two files of its checkpoint, ``.index`` and ``.data``.

    Raises:
        WeightsError: not these two files, or another network's.
    """
    if len(weights) != 2:
        names = ", ".join(weight.filename for weight in card.weights)
        raise WeightsError(f"{card.name} takes 2 files of weights ({names}), not {len(weights)}.")
    n_tags = card.output("taggram").channels
    layers = read_vgg_layers(*weights, width=int(card.parameters["width"] or 0), n_tags=n_tags)
    return MusicnnVgg(card, outputs=outputs, mode=mode, layers=layers)


class MusicnnVgg(Extractor):
    """Patches as those of MusiCNN: the ones that lie within a clip, and one of a clip that is shorter."""

    def __init__(self, card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, layers: VggLayers) -> None:
        super().__init__()
        self.card, self.outputs, self.mode = card, outputs, mode
        self.front_end = LogMel(half_cast=mode == "exact")
        dtype = torch.bfloat16 if mode == "half" else torch.float32
        self.network = Vgg(layers, reorder=mode != "exact", dtype=dtype)

    def count_frames(self, output: str, n_samples: int) -> int:
        """Whole patches and at least one, or frames of the fourth pool and at least one."""
        if n_samples <= 0:
            return 0
        n_mel = 1 + n_samples // HOP
        if output in _PER_PATCH:
            return max(1, 1 + (n_mel - PATCH_FRAMES) // PATCH_HOP_FRAMES)
        return pooled_length(max(n_mel, FRAMES_SHORTEST), 4)

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        """See :class:`~pipeline.audio.extractor.Extractor`."""
        logmel = F.pad(self.front_end(audio), (0, 0, 0, max(0, PATCH_FRAMES - 1 - audio.shape[1] // HOP)))
        n_mel = torch.where(n_valid > 0, 1 + n_valid // HOP, 0)
        at = torch.arange(logmel.shape[1], device=logmel.device)
        logmel *= (at < n_mel[:, None])[:, :, None]  # silence is zero in this log-mel
        made: dict[str, Tensor] = {}
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            if _PER_PATCH & set(self.outputs):
                made |= self.network.of_patches(logmel, max(1, self.count_frames("pool5", audio.shape[1])))
                made["taggram"] = self.network.taggram(made["pool5"])
            if "frames" in self.outputs:
                frames = self.network.frames(logmel, n_mel.clamp(min=FRAMES_SHORTEST))
                made["frames"] = frames[:, : self.count_frames("frames", audio.shape[1])]
        return {name: mask_frames(made[name], self._counts(name, n_valid)) for name in self.outputs}

    def _counts(self, output: str, n_valid: Tensor) -> Tensor:
        counts = [self.count_frames(output, n_samples) for n_samples in n_valid.tolist()]
        return torch.tensor(counts, dtype=torch.int64, device=n_valid.device)
