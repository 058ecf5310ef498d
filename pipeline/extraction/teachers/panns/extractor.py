"""PANNs as extractors: an embedding per clip or per window, frames, class probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.audio.extractor import Extractor, Frames, Mode, mask_frames
from pipeline.cards import ExtractorCard
from pipeline.errors import WeightsError
from pipeline.extraction.teachers.panns.checkpoint import fill, read_state
from pipeline.extraction.teachers.panns.encoder import Encoder, OwnEncoder
from pipeline.extraction.teachers.panns.network import build_network
from pipeline.extraction.teachers.panns.package import build_package_encoder
from pipeline.extraction.teachers.panns.variants import HOP, RATE_HZ
from pipeline.extraction.teachers.panns.windows import Windows

_CHUNK_S = 40
"""Seconds of audio in windows that go through the network at once."""


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, weights: tuple[Path, ...]) -> Panns:
    """The network on the card from an official checkpoint; ``width`` on the card says how wide.

    Raises:
        WeightsError: not one file, or not this network's.
        MissingExtraError: the package's network is asked for and not installed.
        SettingError: the package's network is asked for in a mode it does not have.
    """
    if len(weights) != 1:
        raise WeightsError(f"{card.name} takes 1 file of weights ({card.weights[0].filename}), not {len(weights)}.")
    encoder = _BACKENDS[str(card.parameters.get("backend", "own"))](card, mode, weights[0])
    return Panns(card, outputs=outputs, mode=mode, encoder=encoder)


def _own(card: ExtractorCard, mode: Mode, path: Path) -> Encoder:
    name, width = str(card.parameters["network"]), int(card.parameters["width"] or 0)
    state = read_state(path)
    network = build_network(name, width, {key: tuple(tensor.shape) for key, tensor in state.items()})
    fill(network, state, path, name=name, width=width)
    _require_channels(card, path, {"clip": network.embedding, "frames": network.channels})
    return OwnEncoder(network, mode=mode, pooled=int(card.parameters["pooled"] or 0))


_BACKENDS: Mapping[str, Callable[[ExtractorCard, Mode, Path], Encoder]] = {
    "own": _own,
    "package": build_package_encoder,
}


def _require_channels(card: ExtractorCard, path: Path, found: Mapping[str, int]) -> None:
    """A pruned network has the channels of its file; the card's are those of the published one."""
    for output in card.outputs:
        if found.get(output.name, output.channels) != output.channels:
            raise WeightsError(
                f"{path}: a {card.parameters['network']} whose {output.name} has {found[output.name]} channels, "
                f"where {card.name} has {output.channels}; it was pruned otherwise than the published one."
            )


class Panns(Extractor):
    """A network of the collection over whole clips or over windows of them."""

    def __init__(self, card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, encoder: Encoder) -> None:
        super().__init__()
        self.card, self.outputs, self.mode, self.encoder = card, outputs, mode, encoder
        self.pooled = int(card.parameters["pooled"] or 0)
        self.shortest = (self.pooled - 1) * HOP
        seconds = [float(card.parameters.get(key) or 0) for key in ("window_s", "window_hop_s")]
        length, hop = (round(each * RATE_HZ) for each in seconds)
        self.windows = Windows(length, hop) if length else None

    def count_frames(self, output: str, n_samples: int) -> int:
        """One per clip or per window, or a frame per 32 or 16 mel frames; at least one."""
        if n_samples <= 0:
            return 0
        if self.windows:
            return self.windows.count(n_samples)
        if self.card.output(output).hop_s == 0:
            return 1
        return (1 + max(n_samples, self.shortest) // HOP) // self.pooled

    def extract(self, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        """See :class:`~pipeline.audio.extractor.Extractor`."""
        if self.windows:
            return self._extract_windows(self.windows, audio, n_valid)
        audio = F.pad(audio, (0, max(0, self.shortest - audio.shape[1])))
        made = self.encoder.encode(audio, n_valid.clamp(min=self.shortest), self.outputs)
        real = n_valid > 0
        return {name: mask_frames(made[name].features, made[name].n_frames * real) for name in self.outputs}

    def _extract_windows(self, windows: Windows, audio: Tensor, n_valid: Tensor) -> dict[str, Frames]:
        view, counts = windows.view(audio), windows.counts(n_valid)
        wanted = torch.arange(view.shape[1], device=audio.device) < counts[:, None]
        made = {
            name: audio.new_zeros(*wanted.shape, self.card.output(name).channels, dtype=torch.float32)
            for name in self.outputs
        }
        for chosen in torch.split(wanted.nonzero(), max(1, _CHUNK_S * RATE_HZ // windows.length)):
            chunk = view[chosen[:, 0], chosen[:, 1]]
            lengths = n_valid.new_full((len(chunk),), windows.length)
            for name, frames in self.encoder.encode(chunk, lengths, self.outputs).items():
                made[name][chosen[:, 0], chosen[:, 1]] = frames.features[:, 0]
        return {name: Frames(made[name], counts) for name in self.outputs}
