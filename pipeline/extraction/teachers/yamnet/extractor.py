"""YAMNet as an extractor: an embedding and class scores every 0.48 s."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.audio.extractor import Extractor, Frames, Mode, mask_frames
from pipeline.cards import ExtractorCard
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.htk_logmel import HOP, PATCH_FRAMES, HtkLogMel
from pipeline.extraction.teachers.patches import run_patches
from pipeline.extraction.teachers.yamnet.card import LOG_OFFSET, PATCH_HOP, PATCH_SAMPLES
from pipeline.extraction.teachers.yamnet.layers import Layers, read_layers
from pipeline.extraction.teachers.yamnet.network import Yamnet

_CHUNK = 16
"""Patches at once: more is no faster on a CPU, whose caches the first layers leave."""
_CHUNK_GPU = 512


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> YamnetExtractor:
    """YAMNet from the two files of its checkpoint, ``variables.index`` and ``variables.data``.

    Raises:
        WeightsError: not these two files, or not a YAMNet checkpoint.
    """
    if len(weights) != 2:
        names = ", ".join(weight.filename for weight in card.weights)
        raise WeightsError(f"{card.name} takes 2 files of weights ({names}), not {len(weights)}.")
    return YamnetExtractor(card, outputs=outputs, mode=mode, layers=read_layers(*weights))


class YamnetExtractor(Extractor):
    """YAMNet of any width. Silence follows a clip's end up to the last patch that begins within it."""

    def __init__(self, card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, layers: Layers) -> None:
        super().__init__()
        self.card, self.outputs, self.mode = card, outputs, mode
        self.front_end = HtkLogMel(LOG_OFFSET, transform="tensorflow" if mode == "exact" else "float32")
        dtype = torch.bfloat16 if mode == "half" else torch.float32
        self.network = Yamnet(layers, fold=mode != "exact", dtype=dtype)

    def count_frames(self, output: str, n_samples: int) -> int:
        """One patch, and one more for each hop begun after it."""
        if n_samples <= 0:
            return 0
        return 1 + max(0, -(-(n_samples - PATCH_SAMPLES) // PATCH_HOP))

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        """See :class:`~pipeline.audio.extractor.Extractor`."""
        counts = [self.count_frames("embedding", n) for n in n_valid.tolist()]
        n_frames = torch.tensor(counts, dtype=torch.int64, device=audio.device)
        n_samples = PATCH_SAMPLES + max(0, max(counts) - 1) * PATCH_HOP
        audio = F.pad(audio[:, :n_samples], (0, max(0, n_samples - audio.shape[1])))
        patches = self.front_end(audio).unfold(1, PATCH_FRAMES, PATCH_HOP // HOP).transpose(2, 3)
        chunk = _CHUNK if audio.device.type == "cpu" else _CHUNK_GPU
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            embedding = run_patches(self.network.embed, patches, n_frames, chunk=chunk)
            made = {"embedding": embedding}
            if "scores" in self.outputs:
                made["scores"] = self.network.score(embedding)
        return {name: mask_frames(made[name], n_frames) for name in self.outputs}
