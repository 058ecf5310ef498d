"""PANNs of any width with random weights, as official checkpoint files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from pipeline.audio.extractor import Extractor, Mode, build_extractor
from pipeline.cards import ExtractorCard
from pipeline.extraction.teachers.panns.network import build_network
from pipeline.extraction.teachers.panns.variants import VARIANTS

PUBLISHED = {variant.network: variant.width for variant in VARIANTS}
"""Channels of the first block, by network."""


def make_random_checkpoint(path: Path, *, width: int = 0, seed: int = 0, network: str = "Cnn14") -> None:
    """Write ``{"model": state_dict}`` with batch-norm statistics that matter; E-PANNs' is the bare state dict.

    Args:
        width: channels of the first block; those of the published network when 0.
    """
    generator = torch.Generator().manual_seed(seed)
    made = build_network(network, width or PUBLISHED[network])
    for module in made.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
            module.weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        if isinstance(module, nn.Linear):
            module.bias.data.normal_(0, 0.2, generator=generator)
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.2, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
    assert made.bn0.running_mean is not None
    assert made.bn0.running_var is not None
    made.bn0.running_mean.fill_(-40)
    made.bn0.running_var.fill_(400)
    state = made.state_dict()
    torch.save(state if network == "Cnn14_pruned" else {"model": state}, path)


def build(card: ExtractorCard, *, outputs: tuple[str, ...], mode: Mode, folder: Path, width: int = 0) -> Extractor:
    path = folder / card.weights[0].filename
    width = width or _narrowest(card)
    make_random_checkpoint(path, width=width, network=str(card.parameters["network"]))
    return build_extractor(narrow(card, width), outputs=outputs, mode=mode, weights=(path,))


def narrow(card: ExtractorCard, width: int) -> ExtractorCard:
    published = int(card.parameters["width"] or 0)
    channels = tuple(
        output
        if output.name in ("tags", "segments")
        else replace(output, channels=output.channels * width // published)
        for output in card.outputs
    )
    return replace(card, outputs=channels, parameters={**card.parameters, "width": width})


def _narrowest(card: ExtractorCard) -> int:
    """Two, or for a MobileNet four, of which all its channels are multiples of an eighth."""
    return 4 if str(card.parameters["network"]).startswith("MobileNet") else 2
