"""VGGish as an extractor: 128 numbers every 0.96 s."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.audio.extractor import Extractor, Frames, Mode, mask_frames
from pipeline.cards import ExtractorCard
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.htk_logmel import PATCH_FRAMES, HtkLogMel
from pipeline.extraction.teachers.patches import run_patches
from pipeline.extraction.teachers.vggish.card import LOG_OFFSET, PATCH_HOP, PATCH_SAMPLES, QUANTISE_LIMIT
from pipeline.extraction.teachers.vggish.checkpoint import load_network, read_pca
from pipeline.extraction.teachers.vggish.network import QuickVggish, Vggish, Whitening

_CHUNK = 256
"""Patches at once: the first dense layer, 200 MB of weights, is read once for all of them."""


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> VggishExtractor:
    """VGGish from the official files; ``width`` and ``variant`` on the card say how wide and where it ends.

    Raises:
        WeightsError: not as many files as the card names, or not this network's.
    """
    if len(weights) != len(card.weights):
        names = ", ".join(weight.filename for weight in card.weights)
        plural = "s" if len(card.weights) > 1 else ""
        raise WeightsError(
            f"{card.name} takes {len(card.weights)} file{plural} of weights ({names}), not {len(weights)}."
        )
    width = int(card.parameters["width"] or 0)
    network = Vggish(width)
    load_network(network, weights[0], f"VGGish of width {width}")
    ends: dict[str, nn.Module] = {"raw": nn.Identity(), "relu": nn.ReLU()}
    if card.parameters["variant"] == "quantised":
        ends["quantised"] = nn.Sequential(nn.ReLU(), Whitening(*read_pca(weights[1], 2 * width), QUANTISE_LIMIT))
    return VggishExtractor(card, outputs=outputs, mode=mode, network=network, end=ends[str(card.parameters["variant"])])


class VggishExtractor(Extractor):
    """VGGish of any width. Patches are those within a clip; a shorter clip gives one, with silence after it.

    Args:
        end: from the embedding before the last ReLU to what is given.
    """

    def __init__(
        self, card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, network: Vggish, end: nn.Module
    ) -> None:
        super().__init__()
        self.card, self.outputs, self.mode = card, outputs, mode
        self.front_end = HtkLogMel(LOG_OFFSET, transform="float64" if mode == "exact" else "float32")
        dtype = torch.bfloat16 if mode == "half" else torch.float32
        self.network = network if mode == "exact" else QuickVggish(network, dtype)
        self.end = end

    def count_frames(self, output: str, n_samples: int) -> int:
        """Patches that the clip fills, at least one."""
        if n_samples <= 0:
            return 0
        return 1 + max(0, (n_samples - PATCH_SAMPLES) // PATCH_HOP)

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        """See :class:`~pipeline.audio.extractor.Extractor`."""
        counts = [self.count_frames("embedding", n) for n in n_valid.tolist()]
        n_frames = torch.tensor(counts, dtype=torch.int64, device=audio.device)
        n_samples = PATCH_SAMPLES + max(0, max(counts) - 1) * PATCH_HOP
        audio = F.pad(audio[:, :n_samples], (0, max(0, n_samples - audio.shape[1])))
        patches = self.front_end(audio).unfold(1, PATCH_FRAMES, PATCH_FRAMES).transpose(2, 3)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            raw = run_patches(self.network, patches, n_frames, chunk=_CHUNK)
        return {"embedding": mask_frames(self.end(raw), n_frames)}
