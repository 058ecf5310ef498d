"""OpenL3 as an extractor: an embedding for every window of a second."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.audio.extractor import Extractor, Frames, Mode
from pipeline.cards import ExtractorCard
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.openl3.card import REPRESENTATIONS, WINDOW
from pipeline.extraction.teachers.openl3.checkpoint import load_checkpoint
from pipeline.extraction.teachers.openl3.front_end import FrontEnd
from pipeline.extraction.teachers.openl3.network import Network

_AT_ONCE = {"cpu": 2, "cuda": 64}
"""Windows in one pass: the memory of a long clip does not grow with its number of windows."""


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> OpenL3:
    """The network of an official file of weights; ``width`` on the card says how wide.

    Raises:
        WeightsError: not one file, or not this network's.
    """
    path = only_file(card, weights)
    representation = REPRESENTATIONS[str(card.parameters["representation"])]
    network = Network(int(card.parameters["width"] or 0), representation.pools[int(card.parameters["size"] or 0)])
    load_checkpoint(network, path, f"OpenL3 of width {card.parameters['width']}")
    return OpenL3(card, outputs=outputs, mode=mode, network=network)


def only_file(card: ExtractorCard, weights: tuple[Path, ...]) -> Path:
    """The one file of weights.

    Raises:
        WeightsError: none, or several.
    """
    if len(weights) != 1:
        raise WeightsError(
            f"{card.name} takes 1 file of weights ({card.weights[0].filename}), not {len(weights)}. "
            f"Fetch it with: east weights get {card.weights[0].name}"
        )
    return weights[0]


class Windowed(Extractor):
    """Clips are cut into windows of a second as the original cuts them."""

    def __init__(self, card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode) -> None:
        super().__init__()
        self.card, self.outputs, self.mode = card, outputs, mode
        self.hop = int(card.parameters["hop"] or 0)
        self.silence_before = WINDOW // 2 if card.parameters["center"] else 0

    def count_frames(self, output: str, n_samples: int) -> int:
        """Windows until the last sample is in one."""
        if n_samples <= 0:
            return 0
        return 1 + -(-max(0, n_samples + self.silence_before - WINDOW) // self.hop)


class OpenL3(Windowed):
    """Windows of all clips of a batch go through the network together, some at a time."""

    def __init__(self, card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, network: Network) -> None:
        super().__init__(card, outputs=outputs, mode=mode)
        representation = REPRESENTATIONS[str(card.parameters["representation"])]
        self.front_end = FrontEnd(representation, exact=mode == "exact")
        self.network = network.eval()
        with torch.no_grad():
            if mode != "exact":
                network.fold()
            if mode == "half":
                network.convs.to(torch.bfloat16)

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        """See :class:`~pipeline.audio.extractor.Extractor`."""
        lengths = (n_valid + (self.silence_before - WINDOW)).clamp(min=0)
        n_frames = torch.where(n_valid > 0, 1 + (lengths + self.hop - 1) // self.hop, 0)
        most = int(n_frames.max()) if len(n_frames) else 0
        features = audio.new_zeros(len(audio), most, self.card.output("embedding").channels)
        if most:
            windows = self.windows(audio, most)
            index = torch.arange(most, device=audio.device)
            clips, frames = (index < n_frames[:, None]).nonzero(as_tuple=True)
            at_once = _AT_ONCE.get(audio.device.type, 2)
            for first in range(0, len(clips), at_once):
                some = slice(first, first + at_once)
                place = clips[some], frames[some]
                features[place] = self.embed(windows[place])
        return {"embedding": Frames(features, n_frames)}

    def embed(self, windows: Tensor) -> Tensor:
        """[window, 48,000] -> [window, size]."""
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self.network(self.front_end(windows))  # type: ignore[no-any-return]

    def windows(self, audio: Tensor, most: int) -> Tensor:
        """A view of every clip's windows: [clip, samples] -> [clip, window, 48,000]."""
        end = (most - 1) * self.hop + WINDOW - self.silence_before
        padded = F.pad(audio, (self.silence_before, max(0, end - audio.shape[1])))
        return padded.unfold(1, WINDOW, self.hop)
